"""The commit position of a stream: what is committed, is being committed, or isn't yet; no I/O.

Times are monotonic, s.
"""

from dataclasses import dataclass

from archiver.core import checkpoint as checkpoints
from archiver.core.checkpoint import Checkpoint
from archiver.core.events import RecordsLost
from archiver.kafka.group_consumer import CommittedOffset
from archiver.segments.segment_file import SegmentFile
from g3stream.service.cancellation import CancellationToken


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is to be made durable and committed of a stream."""

    stream: str
    cancellation: CancellationToken
    """Cancels the commit once this archiver no longer records the stream."""
    offset: int
    checkpoint: Checkpoint
    file: SegmentFile | None
    """The open file, which the checkpoint describes."""
    losses: tuple[RecordsLost, ...]
    """To be published before the commit."""
    taken_s: float
    """Monotonic."""


class CommitPosition:
    """What is committed of a stream. For the loop's thread; `last_saved` and `uncommitted_s` are thread-safe.

    committed: as it was when the stream was assigned.
    """

    def __init__(self, committed: CommittedOffset) -> None:
        self.pending: Snapshot | None = None
        """The snapshot that is being made durable and committed. Read-only for others."""
        self._committed = committed
        self._last: tuple[int, Checkpoint] | None = None  # since then
        self._uncommitted_since_s: float | None = None
        self._min_offset = committed.offset if committed.metadata else None
        """The lowest offset that may be committed. While a file is rebuilt from its first record, offsets are below
        it: then nothing is committed, and after a kill the file is rebuilt again."""

    @property
    def last_saved(self) -> tuple[int | None, int]:
        """The committed offset, None if nothing is; and how many bytes of the open file are durable and committed."""
        if self._last is None:
            return self._committed.offset, 0
        offset, checkpoint = self._last
        return offset, checkpoint.partial.length if checkpoint.partial else 0

    def uncommitted_s(self, now_s: float) -> float:
        """Age of the oldest uncommitted record, s; 0 if all are committed."""
        since_s = self._uncommitted_since_s
        return 0.0 if since_s is None else now_s - since_s

    def may_commit(self, offset: int) -> bool:
        """Whether that offset may be committed."""
        return self._min_offset is None or offset >= self._min_offset

    def is_saved(self, offset: int, length: int) -> bool:
        """Whether exactly that was committed since the stream was assigned. length: bytes of the open file."""
        return self._last is not None and self.last_saved == (offset, length)

    def track_uncommitted(self, now_s: float, *, exists: bool) -> None:
        """Note whether something is uncommitted now."""
        if not exists:
            self._uncommitted_since_s = None
        elif self._uncommitted_since_s is None:
            self._uncommitted_since_s = now_s

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Note that this snapshot is being committed."""
        self.pending = snapshot

    def on_snapshot_done(self, snapshot: Snapshot, *, committed: bool) -> None:
        """Note that the snapshot is no longer being committed; whether it is durable and committed."""
        self.pending = None
        if not committed:
            return
        self._last = snapshot.offset, snapshot.checkpoint
        if self._uncommitted_since_s is not None:
            self._uncommitted_since_s = max(self._uncommitted_since_s, snapshot.taken_s)

    def on_finalized(self, offset: int, after: Checkpoint) -> None:
        """Note a finished file: the checkpoint after it is committed at that offset."""
        self._last = offset, after
        self._uncommitted_since_s = None

    def roll_back(self) -> CommittedOffset:
        """Return what is committed, as recording goes back to it."""
        if self._last:
            offset, checkpoint = self._last
            self._committed = CommittedOffset(self._committed.stream, offset, checkpoints.encode(checkpoint))
            self._min_offset = max(offset, self._min_offset or 0)
        return self._committed

    def rebuild_from(self, offset: int) -> None:
        """Note that the damaged open file is rebuilt. offset: of its end, which may be committed already."""
        self._min_offset = offset

    def on_offset_reset(self, earliest: int) -> None:
        """Note that records before `earliest` are deleted."""
        if self._min_offset is not None and earliest < self._min_offset:
            # Another topic of that name, or the records of the file to rebuild are gone: nothing more comes of it.
            self._min_offset = None
