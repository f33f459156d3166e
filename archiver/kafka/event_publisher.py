"""The publisher of an archiver's events on g3.files, which waits for Kafka's acknowledgement."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from archiver.core.events import ArchiveFinalized, Event, encode
from archiver.kafka.publication import PRODUCER_CONFIG, OutgoingMessage, Publication
from g3stream.contract.topics import FILES_TOPIC
from g3stream.kafka.authorization import Operation, needs, topic_right
from g3stream.kafka.availability import unwrap_fatal_errors

log = logging.getLogger(__name__)

_ERROR_SHOWN_SECONDS = 30.0
"""A failed publication is repeated sooner than that, if it is still necessary."""


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
        self._config = {**PRODUCER_CONFIG, "message.timeout.ms": 9_000, **config}
        self._lock = threading.Lock()
        self._producer: Producer | None = Producer(self._config)  # None after a fatal error, until it is needed

    def poll(self) -> None:
        """Serve librdkafka's callbacks, so that its reports on brokers are current."""
        if producer := self._producer:
            with suppress(KafkaException), self._noting_fatal_errors(producer):  # `publish` reports the error
                producer.poll(0)

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
            self.publish_uncounted(event)
        except KafkaException as error:
            self._failed = time.monotonic(), error.args[0].str()
            raise
        self._failed = None
        try:
            self._on_published(event)
        except Exception:  # of an observer: the event is published all the same
            log.exception("%s is on g3.files, but can't be counted or shown", event.key)

    def publish_uncounted(self, event: Event | ArchiveFinalized) -> None:
        """Publish as `publish` does, without calling `on_published` and without setting `error`."""
        with self._lock:
            producer = self._producer = self._producer or Producer(self._config)
        with self._noting_fatal_errors(producer):
            publication = Publication(producer, FILES_TOPIC, self._closed)
            publication.add(OutgoingMessage(encode(event), event.key.encode()))
            publication.wait()

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
