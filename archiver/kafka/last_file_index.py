"""The last file of each stream according to g3.files, for streams without a commit, such as new ones.

The topic is read once. Then the newest event of each stream is kept, and the position, so that the next query reads
only the events that were published since.
"""

import threading
from collections.abc import Iterable

from confluent_kafka import Message

from archiver.core.checkpoint import CheckpointError
from archiver.core.events import FileFinished, UnknownEventError, decode, kind_of
from archiver.kafka.topic_reader import TopicReader
from g3stream.service.cancellation import CancellationToken

LastFile = FileFinished | CheckpointError | None
"""The event of a stream's last file; the error if it can't be understood; None if there is none."""

_LOSS = b"loss"


class LastFileIndex:
    """The index of one group; for any thread. Keeps one event for each stream, 5 kB at most."""

    def __init__(self, reader: TopicReader) -> None:
        self._reader = reader
        self._group = reader.group.encode()
        self._read_lock = threading.Lock()
        self._newest: dict[bytes, bytes] = {}
        self._last: _EventIdentity | None = None  # of the last event that was read

    def find(self, stream: str, cancellation: CancellationToken) -> LastFile:
        """Find a stream's newest FileFinished. The first call reads all of g3.files, about 100,000 events a second.

        Raises KafkaException, also if there is no such topic (TopicReader.files_offset_range), Cancelled.
        """
        with self._read_lock:
            self._read_new(cancellation)
            newest = self._newest.get(stream.encode())
        try:
            event = decode(newest) if newest is not None else None
        except CheckpointError as error:
            return error
        assert event is None or isinstance(event, FileFinished)
        return event

    def _read_new(self, cancellation: CancellationToken) -> None:
        cancellation.raise_if_cancelled("reading g3.files")
        first, end = self._reader.files_offset_range()
        if self._last is None or not first <= self._last[0] < end:
            self._reset()
        start = self._last[0] if self._last else first
        for batch in self._reader.files_batches(start, end):
            cancellation.raise_if_cancelled("reading g3.files")
            if self._last and batch[0].offset() == start and _identity_of(batch[0]) != self._last:
                self._reset()
                self._read_new(cancellation)
                return
            self._add(batch)

    def _reset(self) -> None:
        """Start again: what was read isn't in the topic any more."""
        self._newest.clear()
        self._last = None

    def _add(self, batch: Iterable[Message]) -> None:
        for message in batch:
            group, _, rest = (message.key() or b"").partition(b"/")
            if group == self._group:
                stream, _, what = rest.partition(b"/")
                # A loss is no file, also if a later version wrote it in a way that can't be understood here.
                if what.partition(b"/")[0] != _LOSS and _may_be_file(value := message.value() or b""):
                    self._newest[stream] = value
            self._last = _identity_of(message)


_EventIdentity = tuple[int, tuple[int, int], bytes]
"""An event's offset, time and key: if another one is at its offset now, the topic has been created again."""


def _identity_of(message: Message) -> _EventIdentity:
    return message.offset() or 0, message.timestamp(), message.key() or b""


def _may_be_file(value: bytes) -> bool:
    """Whether an event is a finished file's, or that can't be known as it can't be decoded."""
    if kind_of(value) == "file":
        return True
    try:
        decode(value)
    except UnknownEventError:
        return False
    except CheckpointError:
        return True
    return False
