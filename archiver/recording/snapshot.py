"""A snapshot of a stream's recording, to be made durable and committed by other threads."""

from dataclasses import dataclass

from archiver.core.checkpoint import Checkpoint
from archiver.core.events import RecordsLost
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
    throughput_mark: int
    """Of what is recorded by then, for Throughput.on_durable."""
    taken_s: float
    """Monotonic."""
