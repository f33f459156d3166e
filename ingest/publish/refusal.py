"""Why Kafka has refused a record, as its client's errors say: pure.

Our producers give a gap in the order of a stream as a fatal error (`enable.gapless.guarantee`), which tells the topic
and the broker's reason in its text only.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError

from g3stream.contract.topic_settings import Difference, Severity
from g3stream.kafka.authorization import Operation, topic_right

_GAPLESS = re.compile(r"ProduceRequest for (\S+) \[\d+\] with \d+ message\(s\) failed: (.+?) \(broker ")

_SETTINGS: Mapping[str, tuple[str, ...]] = {
    # By the broker's reason, what of the topic may be the cause.
    KafkaError(KafkaError.INVALID_RECORD).str(): ("cleanup.policy", "message.timestamp."),
    KafkaError(KafkaError.INVALID_TIMESTAMP).str(): ("message.timestamp.",),
    KafkaError(KafkaError.MSG_SIZE_TOO_LARGE).str(): ("max.message.bytes",),
}
_FORBIDDEN = (
    KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED).str(),
    KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED).str(),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """topic: whose record it was, None if it isn't said. why: in the broker's words."""

    topic: str | None
    why: str

    @classmethod
    def of(cls, error: KafkaError, topic: str | None = None) -> "Refusal":
        """What a producer's error says. topic: of the record that it was given with, if there was one."""
        match = _GAPLESS.search(error.str())
        return cls(match[1], match[2]) if match else cls(topic, error.str())

    def explain(self, topic: str, found: Iterable[Difference]) -> str:
        """With the command that mends it, if what was found of the topic tells the cause, or ACLs are."""
        causes = [str(difference) for difference in found if self._may_be_cause(difference)]
        if any(refused in self.why for refused in _FORBIDDEN):
            causes.append(str(topic_right(Operation.WRITE, topic)))
        return "; ".join([self.why, *causes])

    def _may_be_cause(self, cause: Difference) -> bool:
        return cause.severity is Severity.REFUSE or any(
            cause.setting.startswith(setting) for setting in _SETTINGS.get(self.why, ())
        )
