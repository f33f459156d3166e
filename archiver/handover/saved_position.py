"""A follower's position, kept with the archive's files: for when Kafka has forgotten it, or has another g3.files.

Kafka forgets what a group has committed a week after its last member has gone (offsets.retention.minutes): a winter's
shutdown, or a hand-over that is switched off for a while. And in a topic that was deleted and created anew, the same
offset is another event. So the event that a sink is at is noted as `<sink>.position` in the private directory.
"""

import logging
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import msgspec
from confluent_kafka import Message
from msgspec import Struct

from archiver.archive.location import Location
from archiver.handover.sink import PendingEvent
from archiver.kafka.topic_reader import TopicReader
from archiver.storage.durable_file import replace_file

log = logging.getLogger(__name__)

_REQUEST_S = 4.0
_MAX_BYTES = 1 << 16


class SavedPosition(Struct, frozen=True):
    """An event that was to be handed over next. time_ms: when it was published; key: its Kafka key."""

    offset: int
    time_ms: int
    key: str

    @classmethod
    def of(cls, message: Message) -> "SavedPosition":
        """Of a record of g3.files."""
        key = (message.key() or b"").decode(errors="replace")
        return cls(message.offset() or 0, message.timestamp()[1], key)


class NoPosition(Enum):
    """Why a position can't be gone on from."""

    NEVER_DELIVERED = "nothing was handed over before"
    TOPIC_RECREATED = "g3.files has been made anew"


def resume_offset(
    committed: int | None, saved: SavedPosition | None, there: SavedPosition | None, end: int
) -> int | NoPosition:
    """The offset to go on from. Pure.

    committed: what Kafka has. saved: what the archive has. there: what is at the saved offset now, if anything. end:
    the offset after the topic's last record.
    """
    if saved and (there not in (None, saved) or saved.offset >= end):
        return NoPosition.TOPIC_RECREATED
    if committed is not None:
        return committed
    return saved.offset if saved else NoPosition.NEVER_DELIVERED


class PositionFile:
    """The note of one sink. location, group: of the archive. config: librdkafka's settings."""

    def __init__(self, location: Location, sink: str, config: Mapping[str, Any], group: str) -> None:
        self._location = location
        self._sink = sink
        self._reader = TopicReader(config, group, _REQUEST_S)
        self._has_failed = False

    def save(self, event: PendingEvent) -> None:
        """The sink is at this event now."""
        try:
            save(self._location, self._sink, SavedPosition(event.offset, event.time_ms, event.event.key))
        except OSError as error:  # no reason not to hand it over: Kafka has the position, too
            if not self._has_failed:
                self._has_failed = True
                log.warning("%s: how far it is can't be noted: %s", self._sink, error)
        else:
            self._has_failed = False

    def resume_offset(self, committed: int | None) -> int | NoPosition:
        """The offset to go on from. Raises KafkaException; OSError, if only the note could tell."""
        try:
            remove_leftovers(self._location, self._sink)
            saved = load(self._location, self._sink)
        except OSError as error:
            if committed is None:
                raise
            log.warning("%s: what was noted of how far it is can't be read: %s", self._sink, error)
            return committed
        if saved is None:
            return NoPosition.NEVER_DELIVERED if committed is None else committed
        return resume_offset(committed, saved, *self._event_at(saved.offset))

    def _event_at(self, offset: int) -> tuple[SavedPosition | None, int]:
        """What is at that offset of g3.files, if anything; the offset after the last. Raises KafkaException."""
        first, end = self._reader.files_offset_range()
        within = first <= offset < end
        batches: Iterator[list[Message]] = self._reader.files_batches(offset, offset + 1) if within else iter(())
        found = next((message for batch in batches for message in batch), None)
        return (SavedPosition.of(found) if found and found.offset() == offset else None), end


def load(location: Location, sink: str) -> SavedPosition | None:
    """What was noted last, None if nothing was. Raises OSError, also if it can't be understood."""
    name = _name(sink)
    try:
        with location.private() as private:
            if private.stat(name) is None:
                return None
            data = private.read(name, _MAX_BYTES)
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=SavedPosition)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        path = location.private_path / name
        raise OSError(f"{path} can't be understood: {error}. Move it away; then Kafka's word counts") from None


def save(location: Location, sink: str, position: SavedPosition) -> None:
    """Note it, durably. Raises OSError."""
    with location.private() as private:
        replace_file(private, _name(sink), msgspec.json.encode(position) + b"\n")


def remove_leftovers(location: Location, sink: str) -> None:
    """Remove what a kill has left in the midst of `save`; for who is alone in using it. Raises OSError."""
    with location.private() as private:
        for name in private.names():
            if name.startswith(f"{_name(sink)}.") and private.is_file(name):
                private.unlink(name)


def _name(sink: str) -> str:
    return f"{sink}.position"  # with a dot, as no stream has one in its name
