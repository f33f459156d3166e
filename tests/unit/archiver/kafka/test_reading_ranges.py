"""The rules by which topics are read between two offsets.

The consumer delivers what a test says: no broker has gaps, or fails, at the moment that a test needs.
"""

from collections.abc import Sequence
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from archiver.kafka.topic_reader import Partition, TopicReader

# librdkafka's own errors
END, DELETED, DOWN = KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET, KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001
A, B = ("g3.frames.a", 0), ("g3.frames.b", 0)


class Scripted:
    """A consumer. script: what its calls of `consume` return, and then nothing."""

    def __init__(self, *script: Sequence[Message]) -> None:
        self.assigned: list[tuple[str, int, int]] = []
        self.requested: list[int] = []
        self._script = list(script)

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = [(each.topic, each.partition, each.offset) for each in partitions]

    def unassign(self) -> None:
        self.assigned = []

    def consume(self, count: int, _: float) -> list[Message]:
        self.requested.append(count)
        return list(self._script.pop(0)) if self._script else []


def records(partition: Partition, *offsets: int) -> list[Message]:
    return [Message(topic=partition[0], partition=partition[1], offset=at, value=b"x") for at in offsets]


def error(code: int, partition: Partition | None = A) -> Message:
    found: dict[str, Any] = {"topic": partition[0], "partition": partition[1]} if partition else {}
    return Message(error=KafkaError(code), **found)


def read(
    consumer: Scripted, ranges: dict[Partition, tuple[int, int]], **options: bool
) -> list[tuple[str, int | None]]:
    reader = TopicReader({}, "archive", seconds=0.05)
    batches = reader.read_ranges(cast("Consumer", consumer), ranges, **options)
    return [(message.topic() or "", message.offset()) for batch in batches for message in batch]


def test_a_range_ends_with_its_last_record() -> None:
    consumer = Scripted(records(A, 3), records(A, 4, 5))
    assert read(consumer, {A: (3, 6)}) == [(A[0], 3), (A[0], 4), (A[0], 5)]
    assert consumer.requested == [1, 2], "no more than are left: `consume` would wait for them"
    assert consumer.assigned == []


def test_nothing_is_read_of_an_empty_range() -> None:
    consumer = Scripted(records(B, 0))
    assert read(consumer, {A: (7, 7), B: (0, 1)}) == [(B[0], 0)]
    assert read(Scripted(), {A: (7, 7)}) == []


def test_offsets_without_a_record_are_no_end_and_records_beyond_the_end_are_not_read() -> None:
    assert read(Scripted(records(A, 0), records(A, 2, 5, 6)), {A: (0, 5)}) == [(A[0], 0), (A[0], 2)]
    assert read(Scripted(records(A, 0), [error(END)]), {A: (0, 2)}) == [(A[0], 0)]
    assert read(Scripted([*records(A, 0), error(END)]), {A: (0, 2)}) == [(A[0], 0)]


def test_of_several_topics_each_ends_by_itself() -> None:
    consumer = Scripted(records(A, 0), [*records(B, 4), *records(A, 1, 2)], [error(END, B)])
    assert read(consumer, {A: (0, 2), B: (4, 7)}) == [(A[0], 0), (B[0], 4), (A[0], 1)]


def test_a_record_that_was_deleted_meanwhile_is_an_error_unless_it_may_be() -> None:
    deleted = [error(DELETED)]
    with pytest.raises(KafkaException):
        read(Scripted(deleted), {A: (0, 2)})
    assert read(Scripted(deleted, records(B, 0)), {A: (0, 2), B: (0, 1)}, may_be_deleted=True) == [(B[0], 0)]


def test_no_right_on_the_group_is_needed_and_a_missing_one_on_the_topic_is_named() -> None:
    refused = error(KafkaError.GROUP_AUTHORIZATION_FAILED, None)
    assert read(Scripted([refused], records(A, 0)), {A: (0, 1)}) == [(A[0], 0)]
    with pytest.raises(KafkaException, match=r"lacks Read on the topic g3\.frames\.a"):
        read(Scripted([error(KafkaError.TOPIC_AUTHORIZATION_FAILED)]), {A: (0, 1)})


def test_records_before_an_error_are_read() -> None:
    reader = TopicReader({}, "archive", seconds=0.05)
    consumer = Scripted([*records(A, 0), error(DOWN, None)])
    batches = reader.read_ranges(cast("Consumer", consumer), {A: (0, 9)})
    assert [message.offset() for message in next(batches)] == [0]
    with pytest.raises(KafkaException):
        next(batches)


def test_records_that_never_arrive_are_an_error() -> None:
    with pytest.raises(KafkaException, match=r"no more records of g3\.frames\.a arrive"):
        read(Scripted(records(A, 0)), {A: (0, 2)})
