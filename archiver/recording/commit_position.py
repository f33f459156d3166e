"""Up to where a stream is committed, from where to go back to, and since when something waits to be committed."""

from archiver.core import checkpoint as checkpoints
from archiver.core.checkpoint import Checkpoint
from archiver.kafka.group_consumer import CommittedOffset
from archiver.recording.commit_lag import UncommittedTimer
from archiver.recording.snapshot import Snapshot


class CommitPosition:
    """For the loop's thread; `last_saved` and `uncommitted_s` for any."""

    def __init__(self, committed: CommittedOffset) -> None:
        """committed: what was when the stream was taken."""
        self._committed = committed
        self._last: tuple[int, Checkpoint] | None = None  # since then
        self._last_saved: tuple[int | None, int] = (committed.offset, -1)  # the offset, and the open file's bytes
        self._uncommitted = UncommittedTimer()
        self._min_offset = committed.offset if committed.metadata else None
        """What had been committed when reading began. While a file is rebuilt from its first record, what is recorded
        lies below it: then nothing is committed, and a kill has it rebuilt again."""

    @property
    def last_saved(self) -> tuple[int | None, int]:
        """The offset up to which everything is durable and committed, None if nothing is; and of the open file, the
        bytes that are."""
        offset, length = self._last_saved
        return offset, max(0, length)

    @property
    def uncommitted_s(self) -> float:
        """How long the first of what isn't committed has waited; 0 if all is committed."""
        return self._uncommitted.seconds

    def may_commit(self, offset: int) -> bool:
        """Whether that offset may be committed."""
        return self._min_offset is None or offset >= self._min_offset

    def is_saved(self, offset: int, length: int) -> bool:
        """Whether that is what is committed. length: bytes of the open file."""
        return self._last_saved == (offset, length)

    def track_uncommitted(self, *, exists: bool) -> None:
        """Whether something waits to be committed now."""
        self._uncommitted.update(has_uncommitted=exists)

    def on_committed(self, snapshot: Snapshot) -> None:
        """That is durable and committed."""
        partial = snapshot.checkpoint.partial
        self._last_saved = (snapshot.offset, partial.length if partial else 0)
        self._last = snapshot.offset, snapshot.checkpoint
        self._uncommitted.on_committed(snapshot.taken_s)

    def on_finalized(self, offset: int, after: Checkpoint) -> None:
        """A file is finished, and the checkpoint without it is committed at that offset."""
        self._last = offset, after
        self._last_saved = offset, 0
        self._uncommitted.update(has_uncommitted=False)

    def roll_back(self) -> CommittedOffset:
        """Recording goes back to what is committed, which this returns."""
        if self._last:
            offset, checkpoint = self._last
            self._committed = CommittedOffset(self._committed.stream, offset, checkpoints.encode(checkpoint))
            self._min_offset = offset
        return self._committed

    def rebuild_from(self, offset: int) -> None:
        """The open file is damaged, and is rebuilt from its first record; its end, at that offset, may be committed
        already."""
        self._min_offset = offset

    def on_offset_reset(self, earliest: int) -> None:
        """Records before `earliest` are deleted."""
        if self._min_offset is not None and earliest < self._min_offset:
            # Another topic of that name, or what is rebuilt can't be read again: what is recorded is all there is.
            self._min_offset = None
