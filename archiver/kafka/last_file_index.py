"""The last file of each stream, as g3.files tells; for streams of which nothing is committed, new ones among them.

The topic is read once; then this remembers the newest event of each stream, and how far it has read, so that the next
one who asks waits only for what has been told since.
"""

import threading
from collections.abc import Iterable
from typing import NamedTuple, Self

from confluent_kafka import Message

from archiver.core.checkpoint import CheckpointError
from archiver.core.events import FileFinished, UnknownEventError, decode, kind_of
from archiver.kafka.topic_reader import History
from g3stream.service.cancellation import Abandoned

LastFile = FileFinished | CheckpointError | None
"""The event of a stream's last file; why it can't be understood; or None: it has none."""

_LOSS = b"loss"


class _Place(NamedTuple):
    """An event that was read: if another one is at its offset now, the topic has been made anew."""

    offset: int
    time: tuple[int, int]
    key: bytes

    @classmethod
    def of(cls, message: Message) -> Self:
        """Where it is."""
        return cls(message.offset() or 0, message.timestamp(), message.key() or b"")


class LastFiles:
    """Of one group; for any thread. Holds an event for each stream, 5 kB at most."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._group = history.group.encode()
        self._reading = threading.Lock()
        self._newest: dict[bytes, bytes | CheckpointError] = {}
        self._last: _Place | None = None

    def of(self, stream: str, abandoned: Abandoned) -> LastFile:
        """A stream's newest FileFinished. The first call reads all of g3.files, 100,000 events a second or so.

        Raises KafkaException, also if there is no such topic (History.files_span), AbandonedError.
        """
        with self._reading:
            self._read_on(abandoned)
            newest = self._newest.get(stream.encode())
        if not isinstance(newest, bytes):
            return newest
        try:
            event = decode(newest)
        except CheckpointError as error:
            return error
        assert isinstance(event, FileFinished)
        return event

    def _read_on(self, abandoned: Abandoned) -> None:
        abandoned.check("reading g3.files")
        first, end = self._history.files_span()
        if self._last is None or not first <= self._last.offset < end:
            self._forget()
        start = self._last.offset if self._last else first
        for batch in self._history.files_batches(start, end):
            abandoned.check("reading g3.files")
            if self._last and batch[0].offset() == start and _Place.of(batch[0]) != self._last:
                self._forget()
                self._read_on(abandoned)
                return
            self._take(batch)

    def _forget(self) -> None:
        """Begin again: what was read isn't in the topic any more."""
        self._newest.clear()
        self._last = None

    def _take(self, batch: Iterable[Message]) -> None:
        for message in batch:
            group, _, rest = (message.key() or b"").partition(b"/")
            if group == self._group:
                stream, _, what = rest.partition(b"/")
                # A loss is no file, also if a later version told it in a way that can't be understood here.
                if what.partition(b"/")[0] != _LOSS and (newest := _file(message.value() or b"")):
                    self._newest[stream] = newest
            self._last = _Place.of(message)


def _file(value: bytes) -> bytes | CheckpointError | None:
    """An event's value if it is of a file, why that can't be known, or None."""
    if kind_of(value) == "file":
        return value
    try:
        decode(value)
    except UnknownEventError:
        return None
    except CheckpointError as error:
        return error
    return None
