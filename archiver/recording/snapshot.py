"""What of a stream is to be made durable and committed: frozen, for another thread."""

from dataclasses import dataclass

from archiver.core import checkpoint as checkpoints
from archiver.core.checkpoint import Checkpoint
from archiver.core.events import RecordsLost
from archiver.kafka.offset_commits import OffsetCommit
from archiver.segments.segment_file import SegmentFile
from g3stream.service.cancellation import CancellationToken


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is to be made durable and committed.

    cancellation: cancels the commit, once the stream isn't recorded by this archiver any more. file: the open one, of
    which the checkpoint tells. losses: to be published before the commit. throughput_mark: of what is recorded by
    then, for Throughput.on_durable. taken_s: monotonic.
    """

    stream: str
    abandoned: CancellationToken
    offset: int
    checkpoint: Checkpoint
    file: SegmentFile | None
    losses: tuple[RecordsLost, ...]
    throughput_mark: int
    taken_s: float

    def make_durable(self) -> OffsetCommit:
        """Sync the open file; returns what to commit then. For another thread. Raises SyncError,
        SegmentClosedError."""
        if self.file:
            self.file.make_durable()
        return OffsetCommit(self.stream, self.offset, checkpoints.encode(self.checkpoint), self.abandoned)
