"""Why Kafka refused a record, read from the producer's error; pure.

With `enable.gapless.guarantee` a refused record is a fatal error of the producer, which contains the topic and the
broker's reason only in its text.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError

from g3stream.contract.topic_settings import Difference, Severity
from g3stream.kafka.errors import Operation, topic_right

_GAPLESS = re.compile(r"ProduceRequest for (\S+) \[\d+\] with \d+ message\(s\) failed: (.+?) \(broker ")

_SETTINGS: Mapping[str, tuple[str, ...]] = {
    # By the broker's reason: the topic's settings that may be the cause.
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
    """A record that Kafka refused."""

    topic: str | None
    """The record's topic, if it is known."""
    why: str
    """The broker's reason, in its words."""

    @classmethod
    def of(cls, error: KafkaError, topic: str | None = None) -> "Refusal":
        """Read a producer's error. topic: of the record that was reported with it, if any."""
        match = _GAPLESS.search(error.str())
        return cls(match[1], match[2]) if match else cls(topic, error.str())

    def explain(self, topic: str, found: Iterable[Difference]) -> str:
        """Return the reason, and the command that fixes it if a setting of the topic or an ACL is the cause."""
        settings = _SETTINGS.get(self.why, ())
        causes = [str(one) for one in found if one.severity is Severity.REFUSE or one.setting.startswith(settings)]
        if any(refused in self.why for refused in _FORBIDDEN):
            causes.append(str(topic_right(Operation.WRITE, topic)))
        return "; ".join([self.why, *causes])
