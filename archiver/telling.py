"""What the archiver tells on g3.files: told once Kafka has it."""

from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from archiver.event import Event, encode
from ingest.outage import PRODUCER_OUTAGE_CONFIG
from ingest.topic import FILES_TOPIC

_KAFKA_SECONDS = 10.0

_PRODUCER_CONFIG: Mapping[str, str | int | bool] = {
    **PRODUCER_OUTAGE_CONFIG,
    "message.timeout.ms": 9_000,  # shorter than `tell` waits: it is tried again as another message
    "allow.auto.create.topics": False,
}


class Telling:
    """The events of one archiver. config: librdkafka's settings. told: is given each event that Kafka has, in the
    thread that told it. Raises KafkaException on a setting that librdkafka doesn't take."""

    def __init__(self, config: Mapping[str, Any], told: Callable[[Event], None]) -> None:
        self._told = told
        self._producer = Producer({**_PRODUCER_CONFIG, **config})

    def poll(self) -> None:
        """Hear what librdkafka tells of brokers, so that it isn't old."""
        self._producer.poll(0)

    def tell(self, event: Event) -> None:
        """Publish an event; returns once Kafka has it. For any thread. Raises KafkaException."""
        outcome: list[KafkaError | None] = []
        try:
            self._producer.produce(
                FILES_TOPIC,
                encode(event),
                event.key.encode(),
                partition=0,
                on_delivery=lambda error, _: outcome.append(error),
            )
        except BufferError:
            raise KafkaException(KafkaError(KafkaError._QUEUE_FULL)) from None
        self._producer.flush(_KAFKA_SECONDS)
        if not outcome:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no acknowledgement of an event on g3.files"))
        if outcome[0] is not None:
            raise KafkaException(outcome[0])
        self._told(event)
