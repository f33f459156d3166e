"""What events change in the catalog: from the bytes of records of g3.files to rows. Pure.

The rules are those of core/catalog.py, which a property test compares: a repeated event replaces the first in its
place; of a path's retirements and adoptions the last one counts. Most of a checkpoint is skipped: it is two thirds of
an event, and decoding it takes half of the time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from msgspec import Struct

from archiver.core import events
from archiver.core.checkpoint import CheckpointError, Md5, check_path
from archiver.core.events import (
    EventPath,
    FileAdopted,
    FileBytes,
    FileRetired,
    FileSalvaged,
    FileSha256,
    Group,
    RecordsLost,
    Stream,
    UnknownEventError,
    Version,
)
from archiver.core.paths import parse_path
from archiver.core.segmentation import CloseReason, Count, Integer, Milliseconds, StreamName
from archiver.core.used_names import Start

FINISHED, SALVAGED, ADOPTED = "finished", "salvaged", "adopted"
"""The kinds of files."""


class FileRow(NamedTuple):
    """A row of the table `file`, without what is derived from others."""

    path: str
    kind: str
    stream: str
    id: str
    start_s: int
    begin_ms: int
    end_ms: int
    frames: int
    missing: int
    bytes: int
    sha256: str
    host: str
    number: int | None = None
    session: int | None = None
    first_ms: int | None = None
    last_ms: int | None = None
    closed_ms: int | None = None
    closed: str | None = None
    md5: str | None = None
    what: str | None = None
    who: str | None = None
    reason: str | None = None
    damage: str | None = None


class LossRow(NamedTuple):
    """A row of the table `loss`, without what is derived from others."""

    key: str
    stream: str
    records: int | None
    times: int
    what: str
    cause: str | None
    offset: int
    since_ms: int | None
    until_ms: int
    host: str


class RetirementRow(NamedTuple):
    """A row of the table `retirement`."""

    path: str
    stream: str
    sha256: str
    bytes: int
    time_ms: int
    who: str
    host: str
    reason: str


class _Record(Struct):
    """Of a RecordId, what the catalog needs."""

    time: Milliseconds


class _State(Struct):
    session: Integer | None = None


class _Checkpoint(Struct):
    state: _State


class _FileFinished(Struct, tag_field="event", tag="file"):
    """Of a FileFinished, what the catalog needs."""

    group: Group
    stream: Stream
    path: EventPath
    number: Count
    id: StreamName
    start: Start
    why: CloseReason
    frames: Count
    bytes: FileBytes
    sha256: FileSha256
    first: _Record
    last: _Record
    closing: _Record
    checkpoint: _Checkpoint
    host: str
    missing: Count = 0
    v: Version = 1
    md5: Md5 | None = None


_Event = _FileFinished | FileSalvaged | RecordsLost | FileRetired | FileAdopted
_DECODER = msgspec.json.Decoder(_Event)


@dataclass(slots=True)
class Changes:
    """What successive events change; `add` each, in order."""

    files: dict[tuple[str, str, str], FileRow] = field(default_factory=dict)
    """By path, stream and kind."""
    losses: dict[str, LossRow] = field(default_factory=dict)
    """By key."""
    retirements: dict[str, RetirementRow | None] = field(default_factory=dict)
    """By path; None if an adoption has cancelled it."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """By offset: why that event can't be understood."""

    def add(self, offset: int, value: bytes) -> None:
        """Add an event of the archive: the value of the record of g3.files at that offset."""
        try:
            match _decode(value):
                case _FileFinished() as event:
                    self._add_file(_finished(event))
                case FileSalvaged() as event:
                    self._add_file(_file(event, SALVAGED)._replace(what=event.what))
                case FileAdopted() as event:
                    row = _file(event, ADOPTED)
                    self._add_file(row._replace(who=event.who, reason=event.reason, damage=event.damage))
                    self.retirements[event.path] = None
                case FileRetired() as event:
                    self.retirements[event.path] = RetirementRow(
                        event.path, event.stream, event.sha256, event.bytes, event.time, event.who, event.host,
                        event.reason,
                    )  # fmt: skip
                case RecordsLost() as event:
                    self.losses[event.key] = LossRow(
                        event.key, event.stream, event.records, event.times, event.what, event.cause, event.offset,
                        event.since, event.until, event.host,
                    )  # fmt: skip
        except UnknownEventError:
            pass  # of a later version: skipped, as `TopicReader.events` does
        except CheckpointError as error:
            self.unreadable[offset] = str(error)

    def _add_file(self, row: FileRow) -> None:
        self.files[row.path, row.stream, row.kind] = row


def _decode(value: bytes) -> _Event:
    """Decode an event. Raises CheckpointError as `events.decode`, which says best what is wrong."""
    try:
        event: _Event = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        events.decode(value)
        raise CheckpointError(f"a record of g3.files is no event: {error}") from None
    return event


def _finished(event: _FileFinished) -> FileRow:
    check_path(event.path)
    continues = event.why is CloseReason.TIME
    return FileRow(
        event.path, FINISHED, event.stream, event.id, event.start, event.first.time,
        # An acquisition's files have no gap between them: one that was closed by time lasts until the next begins.
        event.closing.time if continues else event.last.time,
        event.frames, event.missing, event.bytes, event.sha256, event.host, event.number,
        event.checkpoint.state.session, event.first.time, event.last.time, event.closing.time, event.why.value,
        event.md5,
    )  # fmt: skip


def _file(event: FileSalvaged | FileAdopted, kind: str) -> FileRow:
    """The row of a file of which only the path says when it began: in that second."""
    check_path(event.path)
    name = parse_path(event.path)
    assert name
    begin_ms = name.start_s * 1000
    return FileRow(
        event.path, kind, event.stream, name.id, name.start_s, begin_ms, begin_ms + 999, event.frames, 0,
        event.bytes, event.sha256, event.host,
    )  # fmt: skip


class Numbered(NamedTuple):
    """What decides to which acquisition a finished file belongs."""

    path: str
    number: int
    start_s: int
    id: str
    closed: str
    acquisition: int | None


def acquisitions(previous: Numbered | None, files: Iterable[Numbered], highest: int) -> Iterator[tuple[int, str]]:
    """Yield the acquisition and path of each of a stream's files that has another one than is known.

    A file belongs to the same acquisition as the one before it, if that was closed by time and has the same start and
    id. previous: the file before the first of `files`, which are in order. highest: the number of the last one that
    has changed; after it, the first that needn't change ends this.
    """
    for file in files:
        same = (
            previous is not None
            and previous.closed == CloseReason.TIME
            and (previous.start_s, previous.id) == (file.start_s, file.id)
        )
        found = previous.acquisition if previous is not None and same else file.number
        assert found is not None
        if file.acquisition != found:
            yield found, file.path
        elif file.number > highest:
            return
        previous = file._replace(acquisition=found)
