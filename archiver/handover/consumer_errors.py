"""What keeps a hand-over from going on until somebody mends it, in the log once in a while."""

import logging
import time

from confluent_kafka import KafkaError

from g3stream.contract.topics import FILES_TOPIC
from g3stream.kafka.authorization import Operation, group_right, is_refusal, topic_right, with_right

log = logging.getLogger(__name__)

_REPEAT_LOG_S = 60.0


class ConsumerErrors:
    """What somebody has to mend, as what Kafka refuses: said once in a while. Of outages the recording speaks.

    current: the latest, None once it works.
    """

    def __init__(self, sink: str, group: str) -> None:
        self.current: str | None = None
        self._sink = sink
        self._rights = (topic_right(Operation.READ, FILES_TOPIC), group_right(Operation.READ, group))
        self._logged_at_s: tuple[str, float] = ("", 0.0)

    def on_error(self, error: KafkaError) -> None:
        """A request has failed, and is made again."""
        if not is_refusal(error):
            log.debug("%s: Kafka: %s", self._sink, error.str())
            return
        self.log_error(f"Kafka: {with_right(error, *self._rights).str()}")

    def log_error(self, what: str) -> None:
        """This is in the way, and somebody has to mend it."""
        self.current = what
        (said, at), now = self._logged_at_s, time.monotonic()
        if said != self.current or now - at > _REPEAT_LOG_S:
            self._logged_at_s = self.current, now
            log.warning("%s: %s; nothing is handed over until then, still trying", self._sink, self.current)
