"""Offsets of topics, by requests of a consumer: a group's commits, a topic's range, a time's, a restart at one.

All functions raise KafkaException if Kafka doesn't answer within `seconds`.
"""

import time
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from g3stream.kafka.errors import is_refusal

COORDINATOR_MOVES = frozenset(
    (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
)
"""A group's coordinator moves, is unavailable, or has just started: the same request soon succeeds."""
_COORDINATOR_POLL_SECONDS = 0.2


def committed_offsets(consumer: Consumer, topics: Iterable[str], seconds: float) -> list[TopicPartition]:
    """Return the consumer's group's commits of these topics; without one the offset is negative.

    seconds: how long to wait for an answer, and for the group's coordinator, which a broker that has just started may
    not know yet.
    """
    partitions = [TopicPartition(topic, 0) for topic in topics]
    until_s = time.monotonic() + seconds
    while partitions:
        try:
            found: list[TopicPartition] = consumer.committed(partitions, timeout=seconds)
            if errors := [partition.error for partition in found if partition.error]:
                raise KafkaException(errors[0])
            return found
        except KafkaException as error:
            if error.args[0].code() not in COORDINATOR_MOVES or time.monotonic() >= until_s:
                raise
        time.sleep(_COORDINATOR_POLL_SECONDS)
    return []


def metadata_of(partition: TopicPartition) -> str:
    """The metadata committed with an offset, empty if there is none; text that is no checkpoint if it isn't UTF-8."""
    try:
        return partition.metadata or ""
    except UnicodeDecodeError:
        return "\N{REPLACEMENT CHARACTER}"


def offset_range(consumer: Consumer, topic: str, partition: int = 0, *, seconds: float) -> tuple[int, int]:
    """Return the first offset that a topic still has, and the offset after its last."""
    found = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=seconds)
    if found is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no answer about the offsets of {topic}"))
    return found[0], found[1]


def offset_at(consumer: Consumer, topic: str, time_ms: int, *, seconds: float) -> int | None:
    """Return the offset of the first record of that time (ms since 1970) or later; None if there is none."""
    [found] = consumer.offsets_for_times([TopicPartition(topic, 0, max(0, time_ms))], timeout=seconds)
    if found.error:
        raise KafkaException(found.error)
    return found.offset if found.offset >= 0 else None


def hidden_by(consumer: Consumer, topic: str, *, seconds: float) -> KafkaError | None:
    """Return the error if ACLs hide the topic: librdkafka reports one as unknown, whatever the reason is."""
    found = consumer.list_topics(topic, timeout=seconds).topics.get(topic)
    return found.error if found and found.error and is_refusal(found.error) else None


def restart_at(consumer: Consumer, topic: str, offset: int) -> None:
    """Deliver a topic from that offset on, also if its next one was out of range, or it is paused."""
    # After such an error librdkafka has stopped fetching, and refuses to seek.
    consumer.incremental_unassign([TopicPartition(topic, 0)])
    consumer.incremental_assign([TopicPartition(topic, 0, offset)])
    consumer.resume([TopicPartition(topic, 0)])


def known_end_offset(consumer: Consumer, topic: str) -> int | None:
    """Return the offset after a topic's last record, as of the latest fetch; None before the first one."""
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), cached=True) or (0, -1)
    return end if end >= 0 else None
