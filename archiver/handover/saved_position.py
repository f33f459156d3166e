"""A follower's position, saved in the private directory: for when Kafka has lost it, or g3.files was created again.

Kafka deletes a group's commits a week after its last member has left (offsets.retention.minutes), as in a winter's
shutdown, or while the hand-over is switched off. And in a topic that was deleted and created again, the same offset
is another event. So the event that a sink is at is saved as `<sink>.position` in the private directory.
"""

import logging
from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec
from confluent_kafka import OFFSET_END, Consumer, KafkaException, Message, TopicPartition
from msgspec import Struct

from archiver.archive.location import Location
from archiver.archive.private_file import read_private_file
from archiver.handover.sink import PendingEvent
from archiver.kafka.offsets import committed_offsets, offset_range
from archiver.kafka.topic_reader import TopicReader
from archiver.storage.durable_file import replace_file
from g3stream.contract.topics import FILES_TOPIC

log = logging.getLogger(__name__)

REQUEST_S = 2.0


class SavedPosition(Struct, frozen=True):
    """The event that was to be handed over next."""

    offset: int
    time_ms: int
    """When it was published, ms since the epoch."""
    key: str
    """Its Kafka key."""

    @classmethod
    def of(cls, message: Message) -> "SavedPosition":
        """Return the position of a record of g3.files."""
        key = (message.key() or b"").decode(errors="replace")
        return cls(message.offset() or 0, message.timestamp()[1], key)


class NoPosition(Enum):
    """Why there is no position to continue from."""

    NEVER_DELIVERED = "nothing was handed over before"
    TOPIC_RECREATED = "g3.files was deleted and created again"


def resume_offset(
    committed: int | None, saved: SavedPosition | None, there: SavedPosition | None, end: int
) -> int | NoPosition:
    """Return the offset to continue from, or why there is none. Pure.

    committed: the group's committed offset. saved: the position saved in the archive. there: the event at the saved
    offset now, if there is one. end: the offset after the topic's last record.
    """
    if saved and (there not in (None, saved) or saved.offset >= end):
        return NoPosition.TOPIC_RECREATED
    if committed is not None:
        return committed
    return saved.offset if saved else NoPosition.NEVER_DELIVERED


class StartPosition:
    """Where the hand-over to one sink begins or continues.

    location, group: of the archive. config: librdkafka's settings. since_ms: if nothing was ever handed over, it
    begins with the first event published since then.
    """

    def __init__(self, location: Location, sink: str, config: Mapping[str, Any], group: str, since_ms: int) -> None:
        self._location = location
        self._sink = sink
        self._reader = TopicReader(config, group, 2 * REQUEST_S)
        self._since_ms = since_ms
        self._has_failed = False

    def save(self, event: PendingEvent) -> None:
        """Save that the sink is at this event; a failure is logged."""
        try:
            save(self._location, self._sink, SavedPosition(event.offset, event.time_ms, event.event.key))
        except OSError as error:  # no reason not to hand over: Kafka has the position, too
            if not self._has_failed:
                log.warning("%s: its position can't be saved: %s", self._sink, error)
            self._has_failed = True
        else:
            self._has_failed = False

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
            remove_leftovers(self._location, self._sink)
            saved = load(self._location, self._sink)
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
        found = consumer.offsets_for_times([TopicPartition(FILES_TOPIC, 0, self._since_ms)], timeout=REQUEST_S)[0]
        if found.error:
            raise KafkaException(found.error)
        return end if found.offset in (OFFSET_END, -1) else found.offset


def load(location: Location, sink: str) -> SavedPosition | None:
    """Return the saved position, None if there is none. Raises OSError, also if it can't be decoded."""
    must = "it must be JSON with offset, time_ms and key"
    remedy = ". Move it away; then the position committed in Kafka is used"
    return read_private_file(location, _name(sink), _decode, must, remedy)


def _decode(text: str) -> SavedPosition | None:
    try:
        return msgspec.json.decode(text, type=SavedPosition)
    except msgspec.DecodeError:
        return None


def save(location: Location, sink: str, position: SavedPosition) -> None:
    """Save a position durably. Raises OSError."""
    with location.private() as private:
        replace_file(private, _name(sink), msgspec.json.encode(position) + b"\n")


def remove_leftovers(location: Location, sink: str) -> None:
    """Remove the temporary files of a killed `save`; only for its single user. Raises OSError."""
    with location.private() as private:
        for name in private.names():
            if name.startswith(f"{_name(sink)}.") and private.is_file(name):
                private.unlink(name)


def _name(sink: str) -> str:
    return f"{sink}.position"  # with a dot, which no stream's name has
