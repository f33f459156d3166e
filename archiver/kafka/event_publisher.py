"""What the archiver tells on g3.files: told once Kafka has it."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from archiver.core.events import ArchiveFinalized, Event, encode
from g3stream.contract.topics import FILES_TOPIC
from g3stream.kafka.authorization import Operation, topic_right, with_right
from g3stream.kafka.availability import PRODUCER_AVAILABILITY_CONFIG, unwrap_fatal_errors

log = logging.getLogger(__name__)

_KAFKA_SECONDS = 10.0
_CLOSE_POLL_SECONDS = 0.25
"""So soon whoever waits learns that nobody is to wait any longer."""
_ERROR_SHOWN_SECONDS = 30.0
"""Whoever could not tell something tries again sooner than that, if it is still to be told."""

_PRODUCER_CONFIG: Mapping[str, str | int | bool] = {
    **PRODUCER_AVAILABILITY_CONFIG,
    "message.timeout.ms": 9_000,  # shorter than `publish` waits: it is tried again as another message
    "allow.auto.create.topics": False,
}


class EventPublisher:
    """The events of one archiver. config: librdkafka's settings. on_published: is given each event that Kafka has, in
    the thread that told it. Raises KafkaException on a setting that librdkafka doesn't take."""

    def __init__(self, config: Mapping[str, Any], on_published: Callable[[Event], None]) -> None:
        self._on_published = on_published
        self._closed = threading.Event()
        self._failed: tuple[float, str] | None = None
        self._config = {**_PRODUCER_CONFIG, **config}
        self._lock = threading.Lock()
        self._producer: Producer | None = Producer(self._config)  # None after a fatal error, until it is needed

    def poll(self) -> None:
        """Hear what librdkafka tells of brokers, so that it isn't old."""
        if producer := self._producer:
            with suppress(KafkaException), self._noting_fatal_errors(producer):  # `publish` says what is in its way
                producer.poll(0)

    @property
    def error(self) -> str | None:
        """Why something that is to be told can't be; None if all that was is. For any thread."""
        failed = self._failed
        return failed[1] if failed and time.monotonic() - failed[0] < _ERROR_SHOWN_SECONDS else None

    def shut_down(self) -> None:
        """Nobody is to wait in `publish` any longer. For any thread."""
        self._closed.set()

    def publish(self, event: Event) -> None:
        """Publish an event; returns once Kafka has it. For any thread. Raises KafkaException."""
        try:
            self.publish_uncounted(event)
        except KafkaException as error:
            self._failed = time.monotonic(), error.args[0].str()
            raise
        self._failed = None
        try:
            self._on_published(event)
        except Exception:  # of who only looks on
            log.exception("%s is on g3.files, but can't be counted or shown", event.key)

    def publish_uncounted(self, event: Event | ArchiveFinalized) -> None:
        """As `publish`, but nobody is given it, and nothing waits for it."""
        outcome: list[KafkaError | None] = []
        with self._lock:
            producer = self._producer = self._producer or Producer(self._config)
        until = time.monotonic() + _KAFKA_SECONDS
        with self._noting_fatal_errors(producer):
            try:
                producer.produce(
                    FILES_TOPIC,
                    encode(event),
                    event.key.encode(),
                    partition=0,
                    on_delivery=lambda error, _: outcome.append(error),
                )
            except BufferError:
                raise KafkaException(KafkaError(KafkaError._QUEUE_FULL)) from None
            while not outcome and time.monotonic() < until and not self._closed.is_set():
                producer.flush(_CLOSE_POLL_SECONDS)
        if not outcome:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no acknowledgement of an event on g3.files"))
        if outcome[0] is not None:
            raise KafkaException(with_right(outcome[0], topic_right(Operation.WRITE, FILES_TOPIC)))

    @contextmanager
    def _noting_fatal_errors(self, producer: Producer) -> Iterator[None]:
        """Give up a producer that fails for good, as one does that may write nowhere: the next event has another.

        Its error is raised as one that may pass.
        """
        try:
            with unwrap_fatal_errors():
                yield
        except KafkaException as error:
            why: KafkaError = error.args[0]
            if not why.fatal():
                raise
            with self._lock:
                if self._producer is producer:
                    self._producer = None
            transient = KafkaError(why.code(), why.str())
            raise KafkaException(with_right(transient, topic_right(Operation.WRITE, FILES_TOPIC))) from None
