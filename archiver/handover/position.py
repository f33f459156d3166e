"""The position of a follower in g3.files, as its group's committed offset."""

import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from g3stream.contract.topics import FILES_TOPIC

_COMMIT_AGAIN_S = 0.5
_SKIPPED_S = 5.0
"""How often the position is committed while all new events are skipped."""


def partition(offset: int) -> TopicPartition:
    """Return g3.files' partition at an offset."""
    return TopicPartition(FILES_TOPIC, 0, offset)


class CommittedPosition:
    """Commits the position, and keeps track of what Kafka has acknowledged.

    failed: called with the error of each failed commit, which is repeated. `on_commit_response` is the consumer's
    on_commit.
    """

    def __init__(self, failed: Callable[[KafkaError], None]) -> None:
        self._failed = failed
        self._committed: int | None = None
        self._in_flight: int | None = None
        self._requested: int | None = None  # must be committed, at least, before the next event
        self._retry_at_s = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether every event that was handed over is committed, and no commit is in flight."""
        return self._requested is None and self._in_flight is None

    def reset(self, committed: int | None) -> None:
        """Begin a new assignment with this committed offset; answers to earlier commits are ignored."""
        self._committed, self._in_flight, self._requested, self._retry_at_s = committed, None, None, 0.0

    def request_commit(self, offset: int) -> None:
        """Request that at least this offset is committed at once, as an event was handed over."""
        self._requested, self._retry_at_s = offset, 0.0

    def is_behind(self, position: int) -> bool:
        """Whether the committed offset is another than this position."""
        return position != self._committed

    def commit_if_due(self, consumer: Consumer, position: int) -> None:
        """Commit this position, if it is time for that."""
        if self._in_flight is not None or position == self._committed or time.monotonic() < self._retry_at_s:
            return
        self._in_flight = position
        try:
            consumer.commit(offsets=[partition(position)], asynchronous=True)
        except KafkaException as error:
            self.on_commit_response(error.args[0], [partition(position)])

    def on_commit_response(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """Handle the answer to a commit (the consumer's on_commit)."""
        ours = next((found for found in partitions if found.partition == 0), None)
        if ours is None or self._in_flight is None or ours.offset != self._in_flight:
            return  # the answer to a commit of an earlier assignment
        self._in_flight = None
        if failed := error or ours.error:
            self._retry_at_s = time.monotonic() + _COMMIT_AGAIN_S
            self._failed(failed)
            return
        self._committed = ours.offset
        if self._requested is not None and ours.offset >= self._requested:
            self._requested = None
        if self._requested is None:
            self._retry_at_s = time.monotonic() + _SKIPPED_S
