"""The events on the topic g3.files: a file is finished, salvaged, retired or adopted, or records were lost.

docs/reference/g3.files.md describes them for people, docs/reference/g3.files.schema.json for programs. The texts of
the latter are the docstrings and descriptions here; after a change of them run `make schema`.
"""

import hashlib
import json
import re
from collections.abc import Collection
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from archiver.core import checkpoint as checkpoints
from archiver.core.checkpoint import Checkpoint, CheckpointError, FilePath, Md5, RecordId, Sha256
from archiver.core.paths import GROUP
from archiver.core.segmentation import CloseReason, Count, Milliseconds, Settings, StreamName, TypeCode
from archiver.core.used_names import Start
from g3stream.contract.sequence import LossCause

Group = Annotated[
    str, Meta(pattern=rf"^{GROUP.pattern}\Z", description="The consumer group that records the archive.")
]
Stream = Annotated[StreamName, Meta(description="The stream: the part of its topic's name after `g3.frames.`.")]
EventPath = Annotated[FilePath, Meta(description="The file's path below the data directory.")]
FileBytes = Annotated[Count, Meta(description="The file's size in bytes, with carried frames.")]
FileSha256 = Annotated[Sha256, Meta(description="The SHA-256 of the whole file, in hex.")]
Host = Annotated[str, Meta(description="The host on which the program that published this event ran.")]
Version = Annotated[Literal[1], Meta(description="The version of this event.")]


class _FileEvent(Struct, frozen=True, tag_field="event"):
    """An event about a file."""

    group: Group
    stream: Stream
    path: EventPath

    @property
    def key(self) -> str:
        """The Kafka key: the same for the same file, so that a repeated event is recognized."""
        return f"{self.group}/{self.stream}/{self.path}"


class FileFinished(_FileEvent, frozen=True, tag="file"):
    """A file is durable under its name, and will never change."""

    number: Annotated[Count, Meta(description="The file's number among all of this group and stream, from 1.")]
    id: Annotated[StreamName, Meta(description="The stream id, a part of the path.")]
    start: Annotated[Start, Meta(description="The start of the acquisition, in s since 1970.")]
    suffix: Annotated[Count, Meta(description="The number at the end of the file's name.")]
    settings: Annotated[Settings, Meta(description="The settings of the acquisition.")]
    why: Annotated[CloseReason, Meta(description="Why the file was closed.")]
    frames: Annotated[Count, Meta(description="The number of its frames, without carried ones.")]
    bytes: FileBytes
    sha256: FileSha256
    carry: Annotated[tuple[TypeCode, ...], Meta(description="The type codes of the frames repeated at its head.")]
    first: Annotated[RecordId, Meta(description="The record of its first frame, without carried ones.")]
    last: Annotated[RecordId, Meta(description="The record of its last frame.")]
    closing: Annotated[RecordId, Meta(description="The record that closed it.")]
    offset: Annotated[
        Count, Meta(description="Where `checkpoint` continues: at `closing`, or at an incomplete record before it.")
    ]
    checkpoint: Annotated[Checkpoint, Meta(description="The state of the stream's recording after the file.")]
    host: Host
    missing: Annotated[
        Count, Meta(description="Frames before or between these that were never received, by jumps of frame_num.")
    ] = 0
    v: Version = 1
    md5: Annotated[Md5 | None, Meta(description="The MD5 of the whole file, in hex; null without --md5.")] = None


class FirstLoss(Struct, frozen=True):
    """The first of several losses that are published as one event."""

    offset: Annotated[Count, Meta(description="The offset after the record that revealed it.")]
    until: Annotated[Milliseconds, Meta(description="The time of that record, in ms since 1970.")]
    what: Annotated[str, Meta(description="Which records, as far as is known.")]


class RecordsLost(Struct, frozen=True, tag_field="event", tag="loss"):
    """Records are missing, or may be."""

    group: Group
    stream: Stream
    records: Annotated[Count | None, Meta(description="How many; null if unknown.")]
    what: Annotated[str, Meta(description="Which records, as far as is known, and how the loss shows.")]
    offset: Annotated[Count, Meta(description="The offset after the record that revealed the (last) loss.")]
    since: Annotated[
        Milliseconds | None,
        Meta(description="The time of the last record before the (first) loss, in ms since 1970; null if unknown."),
    ]
    until: Annotated[
        Milliseconds, Meta(description="The time of the record that revealed the (last) loss, in ms since 1970.")
    ]
    host: Host
    cause: Annotated[LossCause | None, Meta(description="Why; null in events older than this field.")] = None
    times: Annotated[int, Meta(ge=1, description="How many consecutive losses of one cause this event reports.")] = 1
    first: Annotated[FirstLoss | None, Meta(description="The first of several; null if `times` is 1.")] = None
    v: Version = 1

    @property
    def key(self) -> str:
        """The Kafka key: the same for the same (first) loss, so that a repeated event is recognized.

        It has a digest, as one record may reveal several losses, and offsets are repeated in a topic created again.
        """
        first = self.first or FirstLoss(self.offset, self.until, self.what)
        which = hashlib.sha256(f"{first.until} {first.what}".encode(errors="replace")).hexdigest()[:8]
        return f"{self.group}/{self.stream}/loss/{first.offset}/{which}"


class FileSalvaged(_FileEvent, frozen=True, tag="salvaged"):
    """The whole frames of a partial that can't be rebuilt from the topic have been published as a file."""

    frames: Annotated[Count, Meta(description="The number of its frames, with carried ones.")]
    bytes: FileBytes
    sha256: FileSha256
    what: Annotated[str, Meta(description="Why the partial could not be continued, and what is missing.")]
    host: Host
    v: Version = 1


Who = Annotated[str, Meta(min_length=1, max_length=300, description="The operator or job that did this.")]
Reason = Annotated[str, Meta(max_length=1000)]
GivenReason = Annotated[Reason, Meta(description="Why, in their words; may be empty.")]


class _OperatorEvent(_FileEvent, frozen=True):
    """An event about a file by which an operator changes what belongs to the archive.

    No group has a colon in its name, so versions of this program that don't know these events take them for another
    archive's and skip them.
    """

    @property
    def key(self) -> str:
        """The Kafka key: the same for the same file, but not that of the event that recorded it."""
        return f"{self.__struct_config__.tag}:{super().key}"


class FileRetired(_OperatorEvent, frozen=True, tag="file_retired"):
    """A file was deleted on purpose, or is about to be: from now on it isn't missing if it isn't there."""

    sha256: FileSha256
    bytes: FileBytes
    time: Annotated[Milliseconds, Meta(description="When it was retired, in ms since 1970.")]
    who: Who
    host: Host
    reason: GivenReason = ""
    v: Version = 1


class FileAdopted(_OperatorEvent, frozen=True, tag="file_adopted"):
    """A file belongs to the archive that no archiver has just finished.

    It was there before (another recorder's, or its event is lost), or is back after it was retired.
    """

    frames: Annotated[
        Count, Meta(description="The number of its whole frames, with carried ones; before the damage, if any.")
    ]
    bytes: FileBytes
    sha256: FileSha256
    time: Annotated[Milliseconds, Meta(description="When it was adopted, in ms since 1970.")]
    who: Who
    host: Host
    reason: GivenReason = ""
    damage: Annotated[Reason, Meta(description="Why it doesn't consist of whole G3 frames; empty if it does.")] = ""
    v: Version = 1


class ArchiveFinalized(Struct, frozen=True, tag_field="event", tag="finalized"):
    """Everything received before a time is in finished files, and these are registered for transfer."""

    group: Group
    until: Annotated[Milliseconds, Meta(description="That time, in ms since 1970.")]
    held_by: Annotated[str | None, Meta(description="What it waits for; null if it advances with the clock.")]
    host: Host
    v: Version = 1

    @property
    def key(self) -> str:
        """The Kafka key: the same for all of an archive, of which the last one counts."""
        return f"{self.__struct_config__.tag}:{self.group}"


Event = FileFinished | FileSalvaged | RecordsLost | FileRetired | FileAdopted
"""Without ArchiveFinalized: it belongs to no stream, and no program of ours reads it."""


def key_prefixes(group: str, streams: Collection[str] = ()) -> tuple[bytes, ...]:
    """The beginnings of the keys of an archive's events: of these streams, or of all."""
    archives = [group, *(f"{kind.__struct_config__.tag}:{group}" for kind in (FileRetired, FileAdopted))]
    paths = [f"{stream}/" for stream in streams] or [""]
    return tuple(f"{archive}/{path}".encode() for archive in archives for path in paths)


class UnknownEventError(CheckpointError):
    """An event of a kind that only later versions of the program know; to be skipped."""


class _Kind(Struct):
    """The kind of an event; all that is decoded of most of them."""

    event: str


KINDS: Final = frozenset(str(kind.__struct_config__.tag) for kind in get_args(Event))
_KIND_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_KIND = msgspec.json.Decoder(_Kind)
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Event)


def encode(event: Event | ArchiveFinalized) -> bytes:
    """Encode an event as the value of a message. Raises CheckpointError if `decode` would refuse it."""
    value = _ENCODER.encode(event)
    if not isinstance(event, ArchiveFinalized):
        decode(value)
    return value


def decode(value: bytes) -> Event:
    """Decode the value of a message. Raises UnknownEventError if only its kind is unknown, else CheckpointError."""
    try:
        event: Event = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        kind = kind_of(value)
        if kind is not None and kind not in KINDS and _KIND_NAME.fullmatch(kind):
            raise UnknownEventError(f"a record of g3.files is an event of an unknown kind: {kind}") from None
        raise CheckpointError(f"a record of g3.files is no event: {error}") from None
    if isinstance(event, FileFinished):
        checkpoints.validated(event.checkpoint, event.stream)
    if not isinstance(event, RecordsLost):
        checkpoints.check_path(event.path)
    return event


def kind_of(value: bytes) -> str | None:
    """The kind of an event, without decoding the rest of it; None if it isn't an event."""
    try:
        return _KIND.decode(value).event
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def schema() -> dict[str, Any]:
    """Generate the JSON Schema (2020-12) of an event."""
    found: dict[str, Any] = _portable(msgspec.json.schema(Event | ArchiveFinalized))
    found.pop("discriminator")  # OpenAPI's; the constant `event` of each says the same
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:g3-recorder:g3.files:1",
        "title": "An event on the topic g3.files",
        **found,
    }


def _portable(part: Any) -> Any:
    """Make a part of the schema fit for all languages: patterns end with $ (\\Z is Python's only).

    Line breaks in descriptions are those of this file, and are removed.
    """
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
