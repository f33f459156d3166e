"""Publication: messages that are produced in order, and waited for until Kafka has acknowledged each.

`publish` makes a producer for some messages; EventPublisher has one for all events of an archiver.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from archiver.core.events import ArchiveFinalized, Event, encode
from g3stream.contract.topics import FILES_TOPIC
from g3stream.kafka.client_config import PRODUCER_AVAILABILITY_CONFIG
from g3stream.kafka.errors import Operation, needs, topic_right, unwrap_fatal_errors

log = logging.getLogger(__name__)

_KAFKA_SECONDS = 10.0
_POLL_SECONDS = 0.25
"""A waiting `publish` notices `cancelled` within this time."""

_ERROR_SHOWN_SECONDS = 30.0
"""A failed publication of an event is repeated sooner than that, if it is still necessary."""

_PRODUCER_CONFIG: Mapping[str, str | int | bool] = {
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


def publish(
    config: Mapping[str, Any],
    topic: str,
    messages: Iterable[OutgoingMessage],
    cancelled: threading.Event | None = None,
) -> int:
    """Publish messages with a producer of their own, each as soon as it is yielded; return the last one's offset.

    config: librdkafka's settings. Raises KafkaException as Publication does: then a command may be run again.
    """
    with needs(topic_right(Operation.WRITE, topic)), unwrap_fatal_errors():
        publication = Publication(Producer({**_PRODUCER_CONFIG, **config}), topic, cancelled or threading.Event())
        for message in messages:
            publication.add(message)
        return publication.wait()


def publish_events(
    config: Mapping[str, Any], events: Iterable[Event | ArchiveFinalized], cancelled: threading.Event | None = None
) -> None:
    """Publish events on g3.files; as `publish`."""
    publish(config, FILES_TOPIC, map(_event_message, events), cancelled)


def _event_message(event: Event | ArchiveFinalized) -> OutgoingMessage:
    return OutgoingMessage(encode(event), event.key.encode())


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


class EventPublisher:
    """Publishes the events of one archiver."""

    def __init__(self, config: Mapping[str, Any], on_published: Callable[[Event], None]) -> None:
        """Create it; raises KafkaException on a setting that librdkafka refuses.

        config: librdkafka's settings. on_published: called with each acknowledged event, in the publishing thread.
        """
        self._on_published = on_published
        self._closed = threading.Event()
        self._failed: tuple[float, str] | None = None
        # The timeout is shorter than `publish` waits: an event is tried again as another message.
        self._config = {**_PRODUCER_CONFIG, "message.timeout.ms": 9_000, **config}
        self._lock = threading.Lock()
        self._producer: Producer | None = Producer(self._config)  # None after a fatal error, until it is needed

    def poll(self) -> None:
        """Serve librdkafka's callbacks, so that its reports on brokers are current."""
        if producer := self._producer:
            try:
                producer.poll(0)
            except (KafkaException, SystemError):
                with suppress(KafkaException), self._noting_fatal_errors(producer):  # `publish` reports the error
                    raise

    @property
    def error(self) -> str | None:
        """Why the latest event could not be published; None if it was. For any thread."""
        failed = self._failed
        return failed[1] if failed and time.monotonic() - failed[0] < _ERROR_SHOWN_SECONDS else None

    def shut_down(self) -> None:
        """End all waiting in `publish`. For any thread."""
        self._closed.set()

    def publish(self, event: Event) -> None:
        """Publish an event; returns once Kafka has it. For any thread. Raises KafkaException."""
        try:
            with self._lock:
                producer = self._producer = self._producer or Producer(self._config)
            with self._noting_fatal_errors(producer):
                publication = Publication(producer, FILES_TOPIC, self._closed)
                publication.add(_event_message(event))
                publication.wait()
        except KafkaException as error:
            self._failed = time.monotonic(), error.args[0].str()
            raise
        self._failed = None
        try:
            self._on_published(event)
        except Exception:  # of an observer: the event is published all the same
            log.exception("%s is on g3.files, but can't be counted or shown; recording continues", event.key)

    @contextmanager
    def _noting_fatal_errors(self, producer: Producer) -> Iterator[None]:
        """Discard a producer after a fatal error, as when ACLs forbid all writing: the next event gets a new one.

        The error is raised as a transient one.
        """
        try:
            with needs(topic_right(Operation.WRITE, FILES_TOPIC)), unwrap_fatal_errors():
                yield
        except KafkaException as error:
            why: KafkaError = error.args[0]
            if not why.fatal():
                raise
            with self._lock:
                if self._producer is producer:
                    self._producer = None
            raise KafkaException(KafkaError(why.code(), why.str())) from None
