"""The position of a follower in g3.files: what its group has committed; where it begins if that is nothing."""

import logging
import time
from collections.abc import Callable

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from g3stream.contract.topics import FILES_TOPIC

log = logging.getLogger(__name__)

_REQUEST_S = 2.0
_COMMIT_AGAIN_S = 0.5
_PASSED_OVER_S = 5.0
"""So often the position is committed, if only events that aren't to be handed over have come."""


def partition(offset: int) -> TopicPartition:
    """That place in g3.files."""
    return TopicPartition(FILES_TOPIC, 0, offset)


def committed_offset(consumer: Consumer) -> int | None:
    """What the consumer's group has committed, None if nothing. Raises KafkaException."""
    found = consumer.committed([TopicPartition(FILES_TOPIC, 0)], timeout=_REQUEST_S)[0]
    if found.error:
        raise KafkaException(found.error)
    return found.offset if found.offset >= 0 else None


def first_offset_since(consumer: Consumer, since_ms: int) -> int:
    """Of the first record that was published then or later; of the next one, if none was. Raises KafkaException."""
    _, end = offset_range(consumer)  # before the question: what comes in between is at `end` or after it
    found = consumer.offsets_for_times([partition(since_ms)], timeout=_REQUEST_S)[0]
    if found.error:
        raise KafkaException(found.error)
    return end if found.offset in (OFFSET_END, -1) else found.offset


def offset_range(consumer: Consumer) -> tuple[int, int]:
    """The topic's first offset, and the one after its last. Raises KafkaException."""
    found = consumer.get_watermark_offsets(TopicPartition(FILES_TOPIC, 0), timeout=_REQUEST_S)
    if found is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"the ends of {FILES_TOPIC} can't be had"))
    return found[0], found[1]


def cached_end_offset(consumer: Consumer) -> int:
    """The offset after the topic's last record, as the last answer to a fetch told it; 0 if none has."""
    _, end = consumer.get_watermark_offsets(TopicPartition(FILES_TOPIC, 0), cached=True) or (0, -1)
    return max(0, end)


class CommittedPosition:
    """What Kafka has, and is asked to have, as the position. failed: is given each error of a commit, which is made
    again. `on_commit_response` is for the consumer's on_commit."""

    def __init__(self, failed: Callable[[KafkaError], None]) -> None:
        self._failed = failed
        self._committed: int | None = None
        self._in_flight: int | None = None
        self._requested: int | None = None  # the least that it has to be before the next event
        self._retry_at_s = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether all that was handed over is committed as such, and no answer is awaited."""
        return self._requested is None and self._in_flight is None

    def reset(self, committed: int | None) -> None:
        """The partition is ours, with that committed; answers that are still to come are of before."""
        self._committed, self._in_flight, self._requested, self._retry_at_s = committed, None, None, 0.0

    def request_commit(self, offset: int) -> None:
        """An event was handed over: at least that is to be committed, at once."""
        self._requested, self._retry_at_s = offset, 0.0

    def is_behind(self, position: int) -> bool:
        """Whether Kafka has another one."""
        return position != self._committed

    def commit_if_due(self, consumer: Consumer, position: int) -> None:
        """Ask Kafka to have this position, if it is time for that."""
        if self._in_flight is not None or position == self._committed or time.monotonic() < self._retry_at_s:
            return
        self._in_flight = position
        try:
            consumer.commit(offsets=[partition(position)], asynchronous=True)
        except KafkaException as error:
            self.on_commit_response(error.args[0], [partition(position)])

    def on_commit_response(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """The consumer's on_commit."""
        ours = next((found for found in partitions if found.partition == 0), None)
        if ours is None or self._in_flight is None or ours.offset != self._in_flight:
            return  # of an assignment before this one
        self._in_flight = None
        if failed := error or ours.error:
            self._retry_at_s = time.monotonic() + _COMMIT_AGAIN_S
            self._failed(failed)
            return
        self._committed = ours.offset
        if self._requested is not None and ours.offset >= self._requested:
            self._requested = None
        if self._requested is None:
            self._retry_at_s = time.monotonic() + _PASSED_OVER_S
