"""Whether Kafka answers the clients of one stream, and why not."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError

from g3stream.kafka.availability import ConnectionErrors
from g3stream.kafka.throttling import Throttling

NO_ANSWER = KafkaError(KafkaError._TIMED_OUT, "no answer")


class Outage:
    """The present outage of Kafka, and its throttling. config: librdkafka settings of the clients."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.reason: str | None = None
        """Why Kafka can't be used now, in words; None if it can. For any thread."""
        self.throttling = Throttling("producer_byte_rate", config)
        self._errors = ConnectionErrors()
        self._servers = config["bootstrap.servers"]

    @property
    def callbacks(self) -> dict[str, Any]:
        """The settings by which a client reports its errors."""
        return {"error_cb": self._errors.record, "throttle_cb": self.throttling.on_throttle}

    def begin(self, what: str, error: KafkaError) -> str:
        """Record that Kafka doesn't answer; return why. what: follows `Kafka at …`. error: of the failed request."""
        self.reason = f"Kafka at {self._servers} {what} ({self._errors.describe(error)})"
        return self.reason

    def end(self) -> None:
        """Record that Kafka answers."""
        self.reason = None
