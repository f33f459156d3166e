"""Publication: messages that are produced in order, and waited for until Kafka has acknowledged each."""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from archiver.core.events import Event, encode
from g3stream.contract.topics import FILES_TOPIC
from g3stream.kafka.authorization import Operation, needs, topic_right
from g3stream.kafka.availability import PRODUCER_AVAILABILITY_CONFIG, unwrap_fatal_errors

_KAFKA_SECONDS = 10.0
_POLL_SECONDS = 0.25
"""A waiting `publish` notices `cancelled` within this time."""

PRODUCER_CONFIG: Mapping[str, str | int | bool] = {
    **PRODUCER_AVAILABILITY_CONFIG,
    "allow.auto.create.topics": False,
}


class OutgoingMessage(NamedTuple):
    """A message to be published in partition 0."""

    value: bytes
    key: bytes | str | None = None
    headers: Sequence[tuple[str, str | bytes | None]] = ()
    time_ms: int = 0
    """Its timestamp, ms since the epoch; 0 for now."""


def publish(config: Mapping[str, Any], topic: str, messages: Iterable[OutgoingMessage]) -> int:
    """Publish messages with a producer of their own, each as soon as it is yielded; return the last one's offset.

    config: librdkafka's settings. Raises KafkaException as Publication does: then a command may be run again.
    """
    with needs(topic_right(Operation.WRITE, topic)), unwrap_fatal_errors():
        publication = Publication(Producer({**PRODUCER_CONFIG, **config}), topic, threading.Event())
        for message in messages:
            publication.add(message)
        return publication.wait()


def publish_events(config: Mapping[str, Any], events: Iterable[Event]) -> None:
    """Publish events on g3.files; as `publish`."""
    publish(config, FILES_TOPIC, (OutgoingMessage(encode(event), event.key.encode()) for event in events))


class Publication:
    """Some messages of one topic; for one thread, which may share the producer with others.

    Its methods raise KafkaException once Kafka refuses a message, or acknowledges none for 10 s, or `cancelled` is
    set: then some of the messages may be published.
    """

    def __init__(self, producer: Producer, topic: str, cancelled: threading.Event) -> None:
        self._producer = producer
        self._topic = topic
        self._cancelled = cancelled
        self._unacknowledged = 0
        self._refused: KafkaError | None = None
        self._last_offset = -1
        self._last_answer_s = 0.0

    def add(self, message: OutgoingMessage) -> None:
        """Produce a message; waits while the producer's queue is full."""
        value, key, headers, time_ms = message
        if not self._unacknowledged:
            self._last_answer_s = time.monotonic()  # nothing was unacknowledged while this message was prepared
        self._unacknowledged += 1  # first, as another thread may serve the acknowledgement
        while True:
            try:
                self._producer.produce(
                    *(self._topic, value, key),
                    partition=0,
                    headers=list(headers),
                    timestamp=time_ms,
                    on_delivery=self._on_delivery,
                )
                break
            except BufferError:
                self._wait()
        self._producer.poll(0)
        self._check()

    def wait(self) -> int:
        """Wait until all messages are acknowledged; return the last one's offset."""
        while self._unacknowledged:
            self._wait()
        self._check()
        return self._last_offset

    def _wait(self) -> None:
        self._producer.flush(_POLL_SECONDS)
        self._check()
        if self._unacknowledged and (
            self._cancelled.is_set() or time.monotonic() - self._last_answer_s > _KAFKA_SECONDS
        ):
            raise KafkaException(
                KafkaError(KafkaError._TIMED_OUT, f"no acknowledgement of a message to {self._topic}")
            )

    def _check(self) -> None:
        if self._refused is not None:
            raise KafkaException(self._refused)

    def _on_delivery(self, error: KafkaError | None, message: Any) -> None:
        self._last_answer_s = time.monotonic()
        self._refused = self._refused or error
        self._last_offset = message.offset()
        self._unacknowledged -= 1  # last: `wait` may run on another thread
