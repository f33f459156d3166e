"""The position of a follower in g3.files: its group's committed offset, and a copy in the private directory.

The copy is for when Kafka has lost it, or g3.files was created again. Kafka deletes a group's commits a week after
its last member has left (offsets.retention.minutes), as in a winter's shutdown, or while the hand-over is switched
off. And in a topic that was deleted and created again, the same offset is another event. So the event that a sink is
at is saved as `<sink>.position` in the private directory.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from archiver.archive.location import Location
from archiver.handover.sink import PendingEvent
from archiver.kafka.saved_position import NoPosition, SavedPosition, resume_offset
from archiver.kafka.topic_reader import TopicReader
from g3stream.contract.topics import FILES_TOPIC
from g3stream.kafka.offsets import committed_offsets, offset_at, offset_range
from g3stream.log.throttle import LogThrottle

log = logging.getLogger(__name__)

REQUEST_S = 2.0
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
        self.committed: int | None = None
        """The committed offset, as far as known."""
        self._failed = failed
        self._in_flight: int | None = None
        self._requested: int | None = None  # must be committed, at least, before the next event
        self._retry_at_s = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether every event that was handed over is committed, and no commit is in flight."""
        return self._requested is None and self._in_flight is None

    def reset(self, committed: int | None) -> None:
        """Begin a new assignment with this committed offset; answers to earlier commits are ignored."""
        self.committed, self._in_flight, self._requested, self._retry_at_s = committed, None, None, 0.0

    def request_commit(self, offset: int) -> None:
        """Request that at least this offset is committed at once, as an event was handed over."""
        self._requested, self._retry_at_s = offset, 0.0

    def commit_if_due(self, consumer: Consumer, position: int) -> None:
        """Commit this position, if it is time for that."""
        if self._in_flight is not None or position == self.committed or time.monotonic() < self._retry_at_s:
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
        self.committed = ours.offset
        if self._requested is not None and ours.offset >= self._requested:
            self._requested = None
        if self._requested is None:
            self._retry_at_s = time.monotonic() + _SKIPPED_S


class StartPosition:
    """Where the hand-over to one sink begins or continues.

    location, group: of the archive. config: librdkafka's settings. since_ms: if nothing was ever handed over, it
    begins with the first event published since then.
    """

    def __init__(self, location: Location, sink: str, config: Mapping[str, Any], group: str, since_ms: int) -> None:
        self._location = location
        self._sink = sink
        self._file = f"{sink}.position"  # with a dot, which no stream's name has
        self._reader = TopicReader(config, group, 2 * REQUEST_S)
        self._since_ms = since_ms
        self._throttle = LogThrottle()

    def save(self, event: PendingEvent) -> None:
        """Save durably that the sink is at this event; a failure is logged."""
        position = SavedPosition(event.offset, event.time_ms, event.event.key)
        try:
            with self._location.private() as private:
                private.replace_file(self._file, msgspec.json.encode(position) + b"\n")
            self._throttle.reset()
        except OSError as error:  # no reason not to hand over: Kafka has the position, too
            if self._throttle.due(time.monotonic()):
                log.warning("%s: its position can't be saved: %s; tried again at the next event", self._sink, error)

    def load(self) -> SavedPosition | None:
        """Return the saved position, None if there is none. Raises OSError, also if it can't be decoded."""
        must = "it must be JSON with offset, time_ms and key"
        remedy = ". Move it away; then the position committed in Kafka is used"
        return self._location.read_private(self._file, _decode, must, remedy)

    def remove_leftovers(self) -> None:
        """Remove the temporary files of a killed `save`; only for its single user. Raises OSError."""
        with self._location.private() as private:
            for name in private.names():
                if name.startswith(f"{self._file}.") and private.is_file(name):
                    private.unlink(name)

    def find(self, consumer: Consumer) -> tuple[int, int | None]:
        """Return the offset to start at, and the one that the consumer's group has committed.

        Raises KafkaException; OSError if nothing is committed and the saved position can't be read.
        """
        (found,) = committed_offsets(consumer, [FILES_TOPIC], REQUEST_S)
        committed = found.offset if found.offset >= 0 else None
        match self._resume_offset(committed):
            case NoPosition.NEVER_DELIVERED:
                start = self._first_offset_since(consumer)
                log.info("%s: hands over for the first time: the events from offset %d on", self._sink, start)
            case NoPosition.TOPIC_RECREATED:
                start, _ = offset_range(consumer, FILES_TOPIC, seconds=REQUEST_S)
                log.warning(
                    "%s: g3.files was deleted and created again: all of its events are handed over", self._sink
                )
            case start:
                pass
        return start, committed

    def _resume_offset(self, committed: int | None) -> int | NoPosition:
        try:
            self.remove_leftovers()
            saved = self.load()
        except OSError as error:
            if committed is None:
                raise
            log.warning("%s: its saved position can't be read, the committed one is used: %s", self._sink, error)
            return committed
        if saved is None:
            return NoPosition.NEVER_DELIVERED if committed is None else committed
        first, end = self._reader.files_offset_range()
        at = saved.offset
        batches = self._reader.files_batches(at, at + 1) if first <= at < end else iter(())
        there = next((SavedPosition.of(message) for batch in batches for message in batch), None)
        return resume_offset(committed, saved, there, end)

    def _first_offset_since(self, consumer: Consumer) -> int:
        """Return the offset of the first record published since `since_ms`; the end offset, if none was."""
        # Asked first: records published in between are at `end` or later.
        _, end = offset_range(consumer, FILES_TOPIC, seconds=REQUEST_S)
        found = offset_at(consumer, FILES_TOPIC, self._since_ms, seconds=REQUEST_S)
        return end if found is None else found


def _decode(text: str) -> SavedPosition | None:
    try:
        return msgspec.json.decode(text, type=SavedPosition)
    except msgspec.DecodeError:
        return None
