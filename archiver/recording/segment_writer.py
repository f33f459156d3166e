"""Write the records of one stream to its open file.

core/segmenter.py decides, and this carries it out, up to a file's last record. commit_cycle.py makes what is written
durable and commits it, finalizer.py finishes the file.
"""

import logging
from concurrent.futures import Executor

from confluent_kafka import Message

from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import Base, Checkpoint
from archiver.core.segmentation import CloseReason, Settings, State
from archiver.core.segmenter import Decision, FrameRun, Segmenter
from archiver.recording.throughput import Throughput
from archiver.recovery.resume_point import ResumePoint
from archiver.segments.open_segment import OpenSegment
from archiver.segments.segment_file import SegmentFile
from g3stream.contract.sequence import Record, SequenceTracker

log = logging.getLogger(__name__)


class SegmentWriter:
    """Writes the records of a stream. For the loop's thread. settings: of acquisitions that begin from now on."""

    def __init__(self, archive: ArchiveRoot, stream: str, settings: Settings) -> None:
        self.segment: OpenSegment | None = None
        """The open file; None between two files."""
        self.previous_ms: int | None = None
        """The time of the last frame before the last record, if known, ms since the epoch."""
        self.throughput = Throughput()
        self.segmenter = Segmenter(State(stream))
        self._archive = archive
        self._stream = stream
        self._settings = settings
        self._next_settings = settings  # of the acquisition that begins next
        self._files = 0

    def resume(self, resume_point: ResumePoint) -> None:
        """Set the state to the resume point's."""
        self.segment = resume_point.file
        self.segmenter = Segmenter(resume_point.checkpoint.state, resume_point.carry, self.length_bytes)
        self._files = resume_point.checkpoint.files
        self._next_settings = resume_point.settings or self._settings

    # In the order of a file's life

    def write(self, record: Record, sequence: SequenceTracker) -> CloseReason | None:
        """Append a record to the open file, open the next file with it, or skip it, as the segmenter decides.

        If the open file must be finished before, changes nothing and returns the reason.
        sequence: the records before this one.
        Raises OSError without having changed anything.
        """
        self.previous_ms = self.segmenter.state.last_frame_ms or None
        decision = self.segmenter.decide(record, self._next_settings)
        if decision.close:
            return decision.close
        if decision.opens:
            self.segment = self._open_segment(decision, sequence)
            self._next_settings = self._settings
        if decision.writes:
            assert self.segment
            self.segment.append(record.value, 1, (record.offset, record.headers, record.time_ms))
            self.throughput.on_write(record.time_ms, record.bytes)
            before, acquisition = self.segmenter.state.acquisition, decision.state.acquisition
            if before and acquisition and acquisition.other_ids and not before.other_ids:
                text = "%s: frames in %s name another id than its own; they stay in it"
                log.warning(text, self._stream, self.segment.path)
        elif decision.leaves_out:
            self.throughput.on_left_out()
        self.segmenter.apply(decision)
        return None

    def write_run(self, run: FrameRun[Message]) -> None:
        """Append frames that only continue the file."""
        assert self.segment
        self.segment.append(run.values, len(run.values), (run.offset, run.headers, run.times[-1]))
        for time_ms, value in zip(run.times, run.values, strict=True):
            self.throughput.on_write(time_ms, len(value))

    def _open_segment(self, decision: Decision, sequence: SequenceTracker) -> OpenSegment:
        """Open the next file. Raises OSError without having changed anything."""
        segmenter, record = self.segmenter, decision.record
        base = Base(sequence.safe_offset(record.offset), segmenter.state, {}, segmenter.places())
        head, epochs = segmenter.head(decision), sequence.epochs()
        opened = OpenSegment.create(self._archive, decision.path, record, base, epochs, head)
        log.info("%s: opened %s", self._stream, opened.path)
        return opened

    def flush(self, pool: Executor | None = None) -> None:
        """Write what is buffered, on a thread of the pool if it is large.

        Raises OSError; an error of another thread is raised by the next flush.
        """
        if self.segment:
            self.segment.file.flush(pool)

    @property
    def length_bytes(self) -> int:
        """Bytes of the open file, including buffered ones; 0 if none is open."""
        return self.segment.file.length_bytes if self.segment else 0

    def checkpoint(self, sequence: SequenceTracker) -> Checkpoint:
        """Return the checkpoint to commit once all that is written is durable. sequence: the records so far."""
        epochs = sequence.epochs()
        return Checkpoint(
            self.segmenter.state,
            epochs,
            self._files,
            self.segmenter.places(),
            self.segment.partial(epochs) if self.segment else None,
            archive=self._archive.mark,
            forgotten=sequence.forgotten,
        )

    def on_finalized(self, path: str) -> SegmentFile | None:
        """Continue after the finished file; return it, to be closed. path: its name, below the data directory."""
        opened, self.segment = self.segment, None
        self.segmenter.on_closed(path)
        self._files += 1
        return opened.file if opened else None

    def reset(self) -> SegmentFile | None:
        """Drop the open file, until `resume`; return it, to be closed."""
        opened, self.segment = self.segment, None
        self.throughput.rollback()
        return opened.file if opened else None
