"""When a publication is done, and when it isn't, whichever thread serves the acknowledgements.

The producer acknowledges when a test says so: the order of threads matters, and no broker chooses it.
"""

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from archiver.kafka.publication import OutgoingMessage, Publication

REFUSED = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)


class Manual:
    """A producer that acknowledges when a test says so. room: how many messages its queue takes."""

    def __init__(self, room: int = 10) -> None:
        self.acknowledge: list[Callable[[KafkaError | None, Message], None]] = []
        self.on_flush: Callable[[], None] = lambda: None
        self.room = room

    def produce(self, *_: Any, on_delivery: Callable[[KafkaError | None, Message], None], **__: Any) -> None:
        if not self.room:
            raise BufferError
        self.room -= 1
        self.acknowledge.append(on_delivery)

    def poll(self, _: float) -> int:
        return 0

    def flush(self, _: float) -> int:
        self.on_flush()
        return 0

    def serve(self, error: KafkaError | None = None) -> None:
        """Serve the first acknowledgement."""
        self.room += 1
        self.acknowledge.pop(0)(error, Message(topic="t", partition=0, offset=7))


def publication(producer: Manual) -> Publication:
    return Publication(cast("Producer", producer), "t", threading.Event())


def test_it_waits_for_every_acknowledgement() -> None:
    producer = Manual()
    some = publication(producer)
    for _ in range(3):
        some.add(OutgoingMessage(b""))
    producer.on_flush = producer.serve
    assert some.wait() == 7
    assert producer.acknowledge == []


def test_what_another_thread_is_told_counts_too() -> None:
    producer = Manual()
    some = publication(producer)
    some.add(OutgoingMessage(b""))
    producer.serve(REFUSED)
    with pytest.raises(KafkaException):
        some.wait()


def test_while_the_queue_is_full_it_waits() -> None:
    producer = Manual(room=1)
    some = publication(producer)
    producer.on_flush = producer.serve
    for _ in range(3):
        some.add(OutgoingMessage(b""))
    assert some.wait() == 7


def test_it_ends_when_it_is_cancelled() -> None:
    cancelled = threading.Event()
    some = Publication(cast("Producer", Manual()), "t", cancelled)
    some.add(OutgoingMessage(b""))
    cancelled.set()
    with pytest.raises(KafkaException, match="no acknowledgement of a message to t"):
        some.wait()
