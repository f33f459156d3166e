"""The open file of a recording: its partial, and what a checkpoint has of it."""

import logging
import secrets
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Self

from msgspec.structs import replace

from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import Base, Partial, RecordId
from archiver.core.segmentation import CloseReason
from archiver.core.segmenter import Carry
from archiver.segments.segment_file import PartialLockedError, SegmentFile
from g3stream.contract.headers import RecordHeaders
from g3stream.contract.sequence import Epochs, Record, epoch_changes, roll_back
from g3stream.service.cancellation import CancellationToken

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenFileStatus:
    """The status of a file that is being recorded or finished."""

    path: str
    """The path below the data directory that it will have."""
    first_ms: int
    """The time of its first frame."""
    bytes: int
    """Written."""
    durable_bytes: int
    """Written and committed."""
    frames: int
    """Without carried ones."""
    closing: CloseReason | None
    """Why it is being finished; None while it is recorded."""


class OpenSegment:
    """A file between its first record and its last."""

    def __init__(self, file: SegmentFile, begun: Partial, base_epochs: Epochs) -> None:
        """Continue a file. begun: its state so far; base_epochs: those before its first record."""
        self.file = file
        self.path = begun.path
        self.name = begun.name
        """The name of its partial."""
        self._begun = begun
        self._base_epochs = base_epochs
        self._last: tuple[int, RecordHeaders, int] | None = None  # made faster than a RecordId, for every frame
        self._frames = begun.frames
        self._digesting: Future[None] | None = None

    @classmethod
    def create(
        cls, archive: ArchiveRoot, path: str, record: Record, base: Base, base_epochs: Epochs, head: Carry
    ) -> Self:
        """Create the open file for that path, with the carried frames of `head`; `record` will be its first.

        base: the state before it, from which it can be rebuilt. Raises OSError; then nothing has changed.
        """
        first = record_id(record.offset, record.headers, record.time_ms)
        begun = Partial(path, secrets.token_hex(4), 0, 0, 0, first, first, tuple(head), base)
        with archive.private(base.state.stream) as directory:
            file = SegmentFile.create(directory, begun.name, md5=archive.md5)
        for frame in head.values():
            file.write(frame.value)
        return cls(file, begun, base_epochs)

    @classmethod
    def reopen(cls, archive: ArchiveRoot, partial: Partial, epochs: Epochs, cancellation: CancellationToken) -> Self:
        """Continue a committed partial; in a copy of it if a frozen process has it locked.

        epochs: those of the checkpoint. Raises PartialDamagedError, OSError, Cancelled.
        """
        length, crc, name = partial.length, partial.crc, partial.name
        with archive.private(partial.base.state.stream) as directory:
            try:
                file = SegmentFile.reopen(directory, name, length, crc, md5=archive.md5)
            except PartialLockedError:
                directory.check_free_space(length, name)
                log.warning("%s is locked by a frozen archiver; continuing in a copy", partial.path)
                partial = replace(partial, random=secrets.token_hex(4))
                file = SegmentFile.copy(directory, name, partial.name, length, crc, cancellation, md5=archive.md5)
        return cls(file, partial, roll_back(epochs, partial.base.epochs))

    def append(self, parts: Sequence[bytes], frames: int, last: tuple[int, RecordHeaders, int]) -> None:
        """Append frames, in parts; they are written at the next flush.

        last: the offset, headers and time in ms of the last one's record.
        """
        self.file.write(parts)
        self._frames += frames
        self._last = last

    def partial(self, epochs: Epochs) -> Partial:
        """Its state for a checkpoint, to be committed once what is written is durable."""
        return replace(
            self._begun,
            length=self.file.written_bytes,
            crc=self.file.crc,
            frames=self._frames,
            last=record_id(*self._last) if self._last else self._begun.last,
            base=replace(self._begun.base, epochs=epoch_changes(self._base_epochs, epochs)),
        )

    def status(self, durable_bytes: int, closing: CloseReason | None) -> OpenFileStatus:
        """Its present status; for any thread."""
        written = self.file.written_bytes
        return OpenFileStatus(
            self.path, self._begun.first.time, written, min(durable_bytes, written), self._frames, closing
        )

    def advance_digest(self, pool: Executor) -> None:
        """Advance the SHA-256 on another thread, so that it isn't far behind at the end."""
        if not self._digesting or self._digesting.done():
            # Its errors are raised again when the file is finished.
            self._digesting = pool.submit(self.file.advance_digest, self.file.written_bytes)


def record_id(offset: int, headers: RecordHeaders, time_ms: int) -> RecordId:
    """The identity of a record, for a checkpoint."""
    return RecordId(offset, headers.epoch, headers.seq, time_ms, headers.kind)
