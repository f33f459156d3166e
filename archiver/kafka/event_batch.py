"""Publishing many events on g3.files, in order, by a command; all are acknowledged when it returns."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from archiver.core.events import Event, encode
from g3stream.contract.topics import FILES_TOPIC
from g3stream.kafka.authorization import Operation, needs, topic_right
from g3stream.kafka.availability import PRODUCER_AVAILABILITY_CONFIG, unwrap_fatal_errors

_KAFKA_SECONDS = 10.0
_POLL_SECONDS = 0.25

_PRODUCER_CONFIG: Mapping[str, str | int | bool] = {
    **PRODUCER_AVAILABILITY_CONFIG,
    "allow.auto.create.topics": False,
}


def publish_events(config: Mapping[str, Any], events: Iterable[Event]) -> None:
    """Publish events, each as soon as `events` yields it; config: librdkafka's settings.

    Raises KafkaException once Kafka refuses one, or acknowledges none for 10 s: then some of them may be published,
    and the command may be run again.
    """
    with needs(topic_right(Operation.WRITE, FILES_TOPIC)), unwrap_fatal_errors():
        _Publication(config).run(events)


class _Publication:
    def __init__(self, config: Mapping[str, Any]) -> None:
        self._producer = Producer({**_PRODUCER_CONFIG, **config})
        self._refused: KafkaError | None = None
        self._last_answer_s = time.monotonic()

    def run(self, events: Iterable[Event]) -> None:
        for event in events:
            if not len(self._producer):
                self._last_answer_s = time.monotonic()  # nothing was unacknowledged while this event was prepared
            while not self._enqueue(event):
                self._wait()
            self._producer.poll(0)
            self._check()
        while len(self._producer):
            self._wait()
        self._check()

    def _enqueue(self, event: Event) -> bool:
        """Give an event to the producer; False if its queue is full."""
        try:
            self._producer.produce(
                FILES_TOPIC, encode(event), event.key.encode(), partition=0, on_delivery=self._delivered
            )
        except BufferError:
            return False
        return True

    def _wait(self) -> None:
        self._producer.poll(_POLL_SECONDS)
        self._check()
        if time.monotonic() - self._last_answer_s > _KAFKA_SECONDS:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no acknowledgement of an event on g3.files"))

    def _check(self) -> None:
        if self._refused is not None:
            raise KafkaException(self._refused)

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        self._last_answer_s = time.monotonic()
        self._refused = self._refused or error
