"""ConsumerErrors: the errors of a hand-over that an operator must fix, logged once in a while."""

import logging
import time

from confluent_kafka import KafkaError

from g3stream.contract.topics import FILES_TOPIC
from g3stream.kafka.authorization import Operation, group_right, is_refusal, topic_right, with_right
from g3stream.service.log_throttle import LogThrottle

log = logging.getLogger(__name__)


class ConsumerErrors:
    """Logs the errors that an operator must fix, such as missing rights, at most once a minute each.

    Kafka's outages are logged by the recording.
    """

    def __init__(self, sink: str, group: str) -> None:
        self.current: str | None = None
        """The present error; None once it works."""
        self._sink = sink
        self._rights = (topic_right(Operation.READ, FILES_TOPIC), group_right(Operation.READ, group))
        self._throttle = LogThrottle()

    def on_error(self, error: KafkaError) -> None:
        """Handle the failure of a request, which will be repeated."""
        if not is_refusal(error):
            log.debug("%s: Kafka: %s", self._sink, error.str())
            return
        self.log_error(f"Kafka: {with_right(error, *self._rights).str()}")

    def on_success(self) -> None:
        """Note that requests succeed."""
        self.current = None

    def log_error(self, what: str) -> None:
        """Log an error that an operator must fix."""
        self.current = what
        if self._throttle.due(time.monotonic(), what):
            log.warning("%s: %s; nothing is handed over until then, still trying", self._sink, self.current)
