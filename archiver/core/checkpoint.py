"""The checkpoint that an archiver commits with an offset: all it needs to continue from there.

It is the metadata of a Kafka commit (at most 4095 characters), as JSON. It comes over the network: what is read back
is validated against these types, and its names against the layout, before any of it becomes a path.
"""

from collections.abc import Iterator
from pathlib import PurePath
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from archiver.core.paths import FILE, PartialName, parse_path
from archiver.core.segmentation import CloseReason, Count, Milliseconds, State, TypeCode
from archiver.core.used_names import Used, only_start
from g3stream.contract.headers import Kind
from g3stream.contract.producer_epoch import mark_of
from g3stream.contract.sequence import epoch_changes, roll_back, without_oldest

MAX_CHARACTERS: Final = 4095
"""Kafka's default offset.metadata.max.bytes, less one."""
_EPOCHS_KEPT = 8
"""So many epochs are kept in a checkpoint that is too long, as long as something else can be left out."""

Epoch = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
Crc = Annotated[int, Meta(ge=0, lt=2**32)]
FilePath = Annotated[str, Meta(pattern=rf"^{FILE}\Z")]
ArchiveId = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
WHERE_CHARACTERS = 160
Where = Annotated[str, Meta(pattern=rf"^[ -~]{{0,{WHERE_CHARACTERS}}}\Z")]
Random = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Md5 = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]


class CheckpointError(ValueError):
    """Committed metadata that is no valid checkpoint; the message says why."""


class RecordId(Struct, frozen=True):
    """A record of the topic g3.frames.<stream>."""

    offset: Annotated[Count, Meta(description="Its offset (of the first chunk), in that topic.")]
    epoch: Annotated[Epoch, Meta(description="Its producer epoch.")]
    seq: Annotated[Count, Meta(description="Its number within the producer epoch, from 0.")]
    time: Annotated[Milliseconds, Meta(description="When it was received, in ms since 1970.")]
    kind: Annotated[Kind, Meta(description="What it is.")] = Kind.FRAME


class FramePlace(Struct, frozen=True):
    """The place of a carried frame's bytes on disk."""

    path: FilePath
    """Of the file, or of the partial that becomes it."""
    at: Count
    """Its position there, in bytes."""
    length: Count
    """In bytes."""
    crc: Crc
    """CRC32C of its bytes."""
    offset: Count
    """Of its record in the topic."""


class Base(Struct, frozen=True, omit_defaults=True):
    """The state before a file's first record, from which the file can be rebuilt out of the topic."""

    offset: Count
    state: State
    epochs: dict[Epoch, Used] = {}
    """What has changed since then, as `sequence.epoch_changes` returns it."""
    carry: dict[TypeCode, FramePlace] = {}


class Partial(Struct, frozen=True):
    """The open file, as far as it is durable."""

    path: FilePath
    """The path that it will have once it is finished."""
    random: Random
    """Makes the partial's name unique."""
    length: Count
    """Durable bytes."""
    crc: Crc
    """CRC32C of the durable bytes."""
    frames: Count
    """Without the carried ones."""
    first: RecordId
    last: RecordId
    carry: tuple[TypeCode, ...]
    """The type codes of the frames repeated at its head."""
    base: Base

    @property
    def name(self) -> str:
        """Its name in the stream's private directory."""
        return str(PartialName(self.path, self.first.time, self.random))


class Closing(Struct, frozen=True, omit_defaults=True):
    """A file that is being finished."""

    why: CloseReason
    sha256: Sha256
    record: RecordId
    """The record that closed it."""
    md5: Md5 | None = None
    """Only with --md5."""


class ArchiveMark(Struct, frozen=True, omit_defaults=True):
    """The archive that a checkpoint belongs to (archive/identity.py)."""

    id: ArchiveId
    where: Where = ""
    """Its host and directory when this was committed, for people to read; empty if there was no room for it."""


def where(host: str, root: PurePath, private_dir: PurePath | None = None) -> str:
    """Format an archive's host and directory for a checkpoint; private_dir: None for the default."""
    private = f" --private-dir {private_dir}" if private_dir else ""
    return f"{host}:{root}{private}".encode("unicode_escape").decode("ascii")[:WHERE_CHARACTERS]


class Checkpoint(Struct, frozen=True, omit_defaults=True):
    """The state of one stream's recording at the offset it is committed with."""

    state: State
    epochs: tuple[tuple[Epoch, Count], ...] = ()
    """Producer epochs, each with its last seq, as `sequence.SequenceTracker` takes them."""
    files: Count = 0
    """Finished so far."""
    carry: dict[TypeCode, FramePlace] = {}
    """By frame type code, in no order."""
    partial: Partial | None = None
    closing: Closing | None = None
    v: int = 1
    """The version of this format."""
    archive: ArchiveMark | None = None
    """None in checkpoints from before archives had an identity."""
    forgotten: tuple[Epoch, ...] = ()
    """The latest epoch of each spool that is no longer among `epochs`."""


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Checkpoint)


def encode(checkpoint: Checkpoint) -> str:
    """Encode a checkpoint as commit metadata.

    If it is too long, these are left out, in this order: where the archive is; the oldest epochs; of the sessions
    before the open file all but its own (the file is still rebuilt under its number); more epochs.
    Raises CheckpointError if it would be refused by Kafka, or by `decode`.
    """
    for shorter in _shortened(checkpoint):
        text = _ENCODER.encode(shorter).decode()
        if len(text) <= MAX_CHARACTERS:
            decode(text, checkpoint.state.stream)  # 20 us, once a second for each stream
            return text
    raise CheckpointError(f"a checkpoint of {len(text)} characters; Kafka takes {MAX_CHARACTERS}")


def encode_minimal(text: str, stream: str) -> str:
    """Encode the same checkpoint in as few characters as possible, for a Kafka that takes fewer than usual.

    Left out are: where the archive is; of the sessions before the open file all but its own; of each spool's epochs
    all but the latest, which is enough to recognize duplicates (sequence.py).
    """
    try:
        checkpoint = decode(text, stream)
    except CheckpointError:
        return text  # not a checkpoint of ours
    checkpoint = _without_where(checkpoint)
    spools = len({mark_of(epoch) for epoch, _ in checkpoint.epochs})
    while len(checkpoint.epochs) > spools:
        checkpoint = _without_oldest_epoch(checkpoint)
    return encode(_without_base_sessions(checkpoint))


def decode(text: str, stream: str) -> Checkpoint:
    """Decode commit metadata. Raises CheckpointError if it isn't a checkpoint of that stream."""
    try:
        checkpoint = _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise CheckpointError(f"the committed metadata is no checkpoint: {error}") from None
    return validated(checkpoint, stream)


def validated(checkpoint: Checkpoint, stream: str) -> Checkpoint:
    """Returns the checkpoint. Raises CheckpointError if it isn't one of that stream, or can't be continued from."""
    if checkpoint.v != 1:
        raise CheckpointError(f"the committed checkpoint is of version {checkpoint.v}; this program reads 1")
    if checkpoint.state.stream != stream:
        raise CheckpointError(f"the committed checkpoint is of the stream {checkpoint.state.stream}")
    partial, state = checkpoint.partial, checkpoint.state
    if partial is None:
        consistent = state.file is None and checkpoint.closing is None
    else:
        base = partial.base.state
        consistent = state.file is not None and state.acquisition is not None
        consistent = consistent and base.stream == stream and base.file is None
    if not consistent:
        raise CheckpointError("the committed checkpoint contradicts itself about its open file")
    places = [*checkpoint.carry.values(), *(partial.base.carry.values() if partial else ())]
    for path in [place.path for place in places] + ([partial.path] if partial else []):
        check_path(path)
    return checkpoint


def check_path(path: str) -> None:
    """Raises CheckpointError if no file may have that path."""
    if parse_path(path) is None:
        raise CheckpointError(f"{path[:120]} is no file's path: it has no valid time, or another time's directory")


def _shortened(checkpoint: Checkpoint) -> Iterator[Checkpoint]:
    """The checkpoint, and ever shorter ones, as `encode` describes them."""
    yield checkpoint
    yield (checkpoint := _without_where(checkpoint))
    for fewest in (_EPOCHS_KEPT, 0):
        while len(checkpoint.epochs) > fewest:
            yield (checkpoint := _without_oldest_epoch(checkpoint))
        yield (checkpoint := _without_base_sessions(checkpoint))


def _without_where(checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, archive=ArchiveMark(checkpoint.archive.id)) if checkpoint.archive else checkpoint


def _without_base_sessions(checkpoint: Checkpoint) -> Checkpoint:
    partial, acquisition = checkpoint.partial, checkpoint.state.acquisition
    if partial is None or acquisition is None:
        return checkpoint
    names = only_start(partial.base.state.names, acquisition.start_s)
    base = replace(partial.base, state=replace(partial.base.state, names=names))
    return replace(checkpoint, partial=replace(partial, base=base))


def _without_oldest_epoch(checkpoint: Checkpoint) -> Checkpoint:
    epochs, forgotten = without_oldest(checkpoint.epochs, checkpoint.forgotten, len(checkpoint.epochs) - 1)
    partial = checkpoint.partial
    if partial:
        base_epochs = roll_back(checkpoint.epochs, partial.base.epochs)
        partial = replace(partial, base=replace(partial.base, epochs=epoch_changes(base_epochs, epochs)))
    return replace(checkpoint, epochs=epochs, forgotten=forgotten, partial=partial)
