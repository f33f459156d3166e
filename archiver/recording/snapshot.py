"""What of a recording is to be made durable and committed: frozen, for another thread."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archiver.core import checkpoint as checkpoints
from archiver.core.checkpoint import Checkpoint
from archiver.core.events import RecordsLost
from archiver.kafka.offset_commits import Commit
from archiver.segments.segment_file import SegmentFile

if TYPE_CHECKING:
    from archiver.recording.stream_recorder import Recording


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is to be made durable and committed."""

    recording: "Recording"
    offset: int
    checkpoint: Checkpoint
    file: SegmentFile | None
    losses: tuple[RecordsLost, ...]
    mark: int  # of what is recorded by then
    taken: float  # time.monotonic()

    def make_durable(self) -> Commit:
        """On another thread. Raises SyncError, LetGoError."""
        if self.file:
            self.file.make_durable()
        stream, metadata = self.checkpoint.state.stream, checkpoints.encode(self.checkpoint)
        return Commit(stream, self.offset, metadata, self.recording.abandoned)
