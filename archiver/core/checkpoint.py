"""What an archiver commits with an offset: all it needs to go on from there as if it had never stopped.

It is the metadata of a Kafka commit (at most 4095 characters), as JSON. Kafka is network: what is read back is
checked against these types, and its names against what they may be, before any of it becomes a path.
"""

from pathlib import PurePath
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from archiver.core.paths import FILE, PartialName, parse_path
from archiver.core.segmentation import CloseReason, Count, Milliseconds, State, TypeCode
from archiver.core.sequence import epoch_changes, roll_back, without_oldest
from archiver.core.used_names import Used, only_start
from g3stream.contract.headers import Kind
from g3stream.contract.producer_epoch import mark_of

MAX_CHARACTERS: Final = 4095
"""Kafka's default offset.metadata.max.bytes, less one."""
_EPOCHS_KEPT = 8
"""As long as there is something else in a checkpoint that is too long."""

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
    """Committed metadata that is no checkpoint; the message says what is wrong with it."""


class RecordId(Struct, frozen=True):
    """Which record: its offset, epoch, seq, and time in ms. kind: of a closing record, what it was."""

    offset: Count
    epoch: Epoch
    seq: Count
    time: Milliseconds
    kind: Kind = Kind.FRAME


class FramePlace(Struct, frozen=True):
    """Where a frame of the carry lies: `length` bytes at `at` of the file `path`, or of the partial that becomes it.

    offset: of the record that brought it.
    """

    path: FilePath
    at: Count
    length: Count
    crc: Crc
    offset: Count


class Base(Struct, frozen=True, omit_defaults=True):
    """What was so before a file's first record: from here the file can be made again from the topic.

    epochs: what has changed since, as `sequence.epoch_changes` says it.
    """

    offset: Count
    state: State
    epochs: dict[Epoch, Used] = {}
    carry: dict[TypeCode, FramePlace] = {}


class Partial(Struct, frozen=True):
    """The file that is being recorded: the path it will have, what makes its name until then its own, the bytes of
    it that are durable with their CRC32C, and what it holds."""

    path: FilePath
    random: Random
    length: Count
    crc: Crc
    frames: Count
    first: RecordId
    last: RecordId
    carry: tuple[TypeCode, ...]
    base: Base

    @property
    def name(self) -> str:
        """Its name in the stream's private directory."""
        return str(PartialName(self.path, self.first.time, self.random))


class Closing(Struct, frozen=True, omit_defaults=True):
    """The file is being finished: why, its digests (MD5: if it was asked for), and the record that closed it."""

    why: CloseReason
    sha256: Sha256
    record: RecordId
    md5: Md5 | None = None


class ArchiveMark(Struct, frozen=True, omit_defaults=True):
    """The archive of which a checkpoint is (archive/identity.py). where: its host and directory then, for people to
    read; empty if a checkpoint had no room for it."""

    id: ArchiveId
    where: Where = ""


def where(host: str, root: PurePath, private_dir: PurePath | None = None) -> str:
    """An archive's host and directory, as a checkpoint takes them. private_dir: if it isn't the default."""
    private = f" --private-dir {private_dir}" if private_dir else ""
    return f"{host}:{root}{private}".encode("unicode_escape").decode("ascii")[:WHERE_CHARACTERS]


class Checkpoint(Struct, frozen=True, omit_defaults=True):
    """The state of one stream's recording at the offset it is committed with.

    epochs, forgotten: as `sequence.Seen` takes them. carry: by frame type code, in no order. files: finished so far.
    archive: None of what was committed before archives had an identity.
    """

    state: State
    epochs: tuple[tuple[Epoch, Count], ...] = ()
    files: Count = 0
    carry: dict[TypeCode, FramePlace] = {}
    partial: Partial | None = None
    closing: Closing | None = None
    v: int = 1
    archive: ArchiveMark | None = None
    forgotten: tuple[Epoch, ...] = ()


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Checkpoint)


def encode(checkpoint: Checkpoint) -> str:
    """As commit metadata. Raises CheckpointError if Kafka would not take it, or `decode` would not.

    If it is too long it says no longer where the archive is; then the oldest epochs are forgotten; then the other
    sessions that there were before the open file (it is made again under its number all the same); then more epochs.
    """
    text = _ENCODER.encode(checkpoint).decode()
    if len(text) > MAX_CHARACTERS and checkpoint.archive:
        checkpoint = replace(checkpoint, archive=ArchiveMark(checkpoint.archive.id))
        text = _ENCODER.encode(checkpoint).decode()
    for fewest in (_EPOCHS_KEPT, 0):
        while len(text) > MAX_CHARACTERS and len(checkpoint.epochs) > fewest:
            checkpoint = _without_oldest_epoch(checkpoint)
            text = _ENCODER.encode(checkpoint).decode()
        if fewest and len(text) > MAX_CHARACTERS:
            checkpoint = _without_base_sessions(checkpoint)
            text = _ENCODER.encode(checkpoint).decode()
    if len(text) > MAX_CHARACTERS:
        raise CheckpointError(f"a checkpoint of {len(text)} characters; Kafka takes {MAX_CHARACTERS}")
    decode(text, checkpoint.state.stream)  # 20 us, once a second for each stream
    return text


def encode_minimal(text: str, stream: str) -> str:
    """The same checkpoint in as few characters as may be, for a Kafka that takes fewer than usual: without where the
    archive is, of the epochs of each spool only the latest, which tells duplicates as well (sequence.py), and without
    other sessions before the open file than its own."""
    try:
        checkpoint = decode(text, stream)
    except CheckpointError:
        return text  # of none of ours
    if checkpoint.archive:
        checkpoint = replace(checkpoint, archive=ArchiveMark(checkpoint.archive.id))
    spools = len({mark_of(epoch) for epoch, _ in checkpoint.epochs})
    while len(checkpoint.epochs) > spools:
        checkpoint = _without_oldest_epoch(checkpoint)
    return encode(_without_base_sessions(checkpoint))


def decode(text: str, stream: str) -> Checkpoint:
    """Read commit metadata back. Raises CheckpointError if it isn't a checkpoint of that stream."""
    try:
        checkpoint = _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise CheckpointError(f"the committed metadata is no checkpoint: {error}") from None
    return validated(checkpoint, stream)


def validated(checkpoint: Checkpoint, stream: str) -> Checkpoint:
    """The checkpoint, if it is one of that stream that we can go on from. Raises CheckpointError."""
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
    """Raises CheckpointError if that is no path that a file may have."""
    if parse_path(path) is None:
        raise CheckpointError(f"{path[:120]} is no file's path: it names no time, or lies in another one's directory")


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
