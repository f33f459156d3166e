"""What is published on the topic g3.files: a file is finished, retired or adopted, or records were lost.

docs/g3.files.md says it for those who read the topic, docs/g3.files.schema.json for their programs. After a change of
a class here:

    python -m archiver.core.events > docs/g3.files.schema.json
"""

import hashlib
import json
import re
from collections.abc import Collection
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from archiver.core.checkpoint import (
    Checkpoint,
    CheckpointError,
    FilePath,
    Md5,
    RecordId,
    Sha256,
    check_path,
    validated,
)
from archiver.core.paths import GROUP
from archiver.core.segmentation import CloseReason, Count, Milliseconds, Settings, StreamName, TypeCode
from archiver.core.sequence import LossCause
from archiver.core.used_names import Start

Group = Annotated[str, Meta(pattern=rf"^{GROUP.pattern}\Z")]


class FileFinished(Struct, frozen=True, tag_field="event", tag="file"):
    """A file is durable under its name, and will never change.

    path: below the data directory. number: the how-many-th file of this group and stream. id: the stream id, a part
    of the path. start: s, of the acquisition. suffix: the number at the end of the name. bytes: with the carry;
    frames: without. carry: type codes of the frames repeated at its head. first, last: of its frames; closing: the
    record that closed it; `checkpoint`, the state after the file, goes on at `offset`, with that record or what it
    needs before. missing: how many frames before or between these were never received, as jumps of frame_num say.
    host: where it was written. v: the version of this event. md5: null if the archiver wasn't asked for it (--md5).
    """

    group: Group
    stream: StreamName
    path: FilePath
    number: Count
    id: StreamName
    start: Start
    suffix: Count
    settings: Settings
    why: CloseReason
    frames: Count
    bytes: Count
    sha256: Sha256
    carry: tuple[TypeCode, ...]
    first: RecordId
    last: RecordId
    closing: RecordId
    offset: Count
    checkpoint: Checkpoint
    host: str
    missing: Count = 0
    v: Literal[1] = 1
    md5: Md5 | None = None

    @property
    def key(self) -> str:
        """The Kafka key: the same for the same file, so that a doubled event is recognisable."""
        return f"{self.group}/{self.stream}/{self.path}"


class FirstLoss(Struct, frozen=True):
    """The first of several losses that are told as one: its offset, until and what."""

    offset: Count
    until: Milliseconds
    what: str


class RecordsLost(Struct, frozen=True, tag_field="event", tag="loss"):
    """Records are missing, or may be.

    records: how many, null if unknown. what: which, as far as is known, and how it shows. offset: where it was
    noticed, just after the record that showed it. since, until: ms, the times of the last record before the loss, if
    known, and of that record. host: who noticed it. cause: what took them away, null in events that were told before
    it was told. times: how many losses these are, in a row and of one cause; if several, `first` is the first of
    them, offset and until are of the last, since is of the first. v: the version of this event.
    """

    group: Group
    stream: StreamName
    records: Count | None
    what: str
    offset: Count
    since: Milliseconds | None
    until: Milliseconds
    host: str
    cause: LossCause | None = None
    times: Annotated[int, Meta(ge=1)] = 1
    first: FirstLoss | None = None
    v: Literal[1] = 1

    @property
    def key(self) -> str:
        """The Kafka key: the same for the same loss, and for the same first of several. One record may show several;
        and offsets come again in a topic that is made anew."""
        first = self.first or FirstLoss(self.offset, self.until, self.what)
        which = hashlib.sha256(f"{first.until} {first.what}".encode(errors="replace")).hexdigest()[:8]
        return f"{self.group}/{self.stream}/loss/{first.offset}/{which}"


class FileSalvaged(Struct, frozen=True, tag_field="event", tag="salvaged"):
    """What a partial held that the topic can't give again has been published, up to its last whole frame.

    path, bytes, sha256, host, v: as of a finished file. frames: with the carry. what: why it could not be gone on
    with, and what is missing.
    """

    group: Group
    stream: StreamName
    path: FilePath
    frames: Count
    bytes: Count
    sha256: Sha256
    what: str
    host: str
    v: Literal[1] = 1

    @property
    def key(self) -> str:
        """The Kafka key: the same for the same file."""
        return f"{self.group}/{self.stream}/{self.path}"


Who = Annotated[str, Meta(min_length=1, max_length=300)]
Reason = Annotated[str, Meta(max_length=1000)]


class FileRetired(Struct, frozen=True, tag_field="event", tag="file_retired"):
    """A file was taken away on purpose, or is about to be: from now on it isn't missing if it isn't there.

    path, sha256, bytes: as of the event that recorded it (finished, salvaged or adopted). time: when it was retired,
    ms. who: the operator or job that did it. reason: in their words, may be empty. host: where the command ran.
    v: the version of this event.
    """

    group: Group
    stream: StreamName
    path: FilePath
    sha256: Sha256
    bytes: Count
    time: Milliseconds
    who: Who
    host: str
    reason: Reason = ""
    v: Literal[1] = 1

    @property
    def key(self) -> str:
        """The Kafka key: the same for the same file, and another than that of the event that recorded it."""
        return f"{_outside_archive(FileRetired, self.group)}/{self.stream}/{self.path}"


class FileAdopted(Struct, frozen=True, tag_field="event", tag="file_adopted"):
    """A file that is in the archive, and that its archivers didn't just finish: it was there before (another
    recorder's, or its event is lost), or it is back after it was retired.

    path, frames, bytes, sha256: what it holds, frames with any carry. time: when it was adopted, ms. who, reason,
    host, v: as of a retired file. damage: why it isn't whole G3 frames, empty if it is; then `frames` are those
    before that.
    """

    group: Group
    stream: StreamName
    path: FilePath
    frames: Count
    bytes: Count
    sha256: Sha256
    time: Milliseconds
    who: Who
    host: str
    reason: Reason = ""
    damage: Reason = ""
    v: Literal[1] = 1

    @property
    def key(self) -> str:
        """The Kafka key: as of a retired file."""
        return f"{_outside_archive(FileAdopted, self.group)}/{self.stream}/{self.path}"


class ArchiveFinalized(Struct, frozen=True, tag_field="event", tag="finalized"):
    """Everything received before a time is in finished files, and they are registered for transfer.

    until: that time, ms. held_by: what it waits for, null if it goes with the clock. host, v: as of a finished file.
    It is of no stream, and no program of ours reads it: so it is none of `Event`.
    """

    group: Group
    until: Milliseconds
    held_by: str | None
    host: str
    v: Literal[1] = 1

    @property
    def key(self) -> str:
        """The Kafka key: the same for each time of an archive, of which the last one counts."""
        return f"{self.__struct_config__.tag}:{self.group}"


Event = FileFinished | FileSalvaged | RecordsLost | FileRetired | FileAdopted

_BY_COMMANDS: tuple[type[FileRetired] | type[FileAdopted], ...] = (FileRetired, FileAdopted)


def _outside_archive(kind: type[FileRetired] | type[FileAdopted], group: str) -> str:
    """How the keys of such events begin. No group has a colon in its name, so versions of this program that don't
    know these events take them for another archive's, and pass over them."""
    return f"{kind.__struct_config__.tag}:{group}"


def key_prefixes(group: str, streams: Collection[str] = ()) -> tuple[bytes, ...]:
    """How the keys of an archive's events begin: of all, or of these streams."""
    begins = [group, *(_outside_archive(kind, group) for kind in _BY_COMMANDS)]
    return tuple(f"{it}/{stream}/".encode() for it in begins for stream in streams) or tuple(
        f"{it}/".encode() for it in begins
    )


class UnknownEventError(CheckpointError):
    """An event of a kind that this version of the program doesn't know: of a later one. To be passed over."""


class _Kind(Struct):
    """What kind of event it is: all that is looked at of most of them."""

    event: str


KINDS: Final = frozenset(
    str(kind.__struct_config__.tag) for kind in (FileFinished, FileSalvaged, RecordsLost, *_BY_COMMANDS)
)
_KIND_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_KIND = msgspec.json.Decoder(_Kind)
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Event)


def encode(event: Event | ArchiveFinalized) -> bytes:
    """As the value of a record on g3.files. Raises CheckpointError if `decode` would not take it."""
    value = _ENCODER.encode(event)
    if not isinstance(event, ArchiveFinalized):
        decode(value)
    return value


def decode(value: bytes) -> Event:
    """Read an event back. Raises CheckpointError if it isn't one that this program writes; UnknownEventError if only
    its kind isn't known."""
    try:
        event: Event = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        kind = kind_of(value)
        if kind is not None and kind not in KINDS and _KIND_NAME.fullmatch(kind):
            raise UnknownEventError(f"a record of g3.files is an event of an unknown kind: {kind}") from None
        raise CheckpointError(f"a record of g3.files is no event: {error}") from None
    if isinstance(event, FileFinished):
        validated(event.checkpoint, event.stream)
    if not isinstance(event, RecordsLost):
        check_path(event.path)
    return event


def kind_of(value: bytes) -> str | None:
    """What an event's field `event` says, without reading the rest of it; None if that is no event."""
    try:
        return _KIND.decode(value).event
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of an event."""
    found: dict[str, Any] = _portable(msgspec.json.schema(Event | ArchiveFinalized))
    found.pop("discriminator")  # OpenAPI's; the constant `event` of each says the same
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:g3-recorder:g3.files:1",
        "title": "An event on the topic g3.files",
        **found,
    }


def _portable(part: Any) -> Any:
    """For readers in any language: the end of a string is $ in their patterns, and \\Z in Python's only. Descriptions
    without the line breaks of this file."""
    if isinstance(part, list):
        return [_portable(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    made = {name: _portable(inner) for name, inner in part.items()}
    if isinstance(pattern := made.get("pattern"), str):
        made["pattern"] = pattern.removesuffix(r"\Z") + "$"
    if isinstance(text := made.get("description"), str):
        made["description"] = " ".join(text.split())
    return made


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))
