"""Write the records of one stream to its open file.

core/segmentation.py decides where files begin and end, and this carries it out, up to a file's last record.
commit_cycle.py makes what is written durable and commits it, finalizer.py finishes the file.
"""

import logging
from concurrent.futures import Executor

from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import Base, Checkpoint
from archiver.core.fast_path import FrameRun
from archiver.core.segmentation import (
    NOT_RECORDED_TYPES,
    CloseReason,
    Effect,
    FrameWindow,
    Settings,
    State,
    advance,
    close_reason,
    frame_window,
    is_carried,
    step,
)
from archiver.core.sequence import Record, SequenceTracker
from archiver.recording.throughput import Throughput
from archiver.recovery.resume_point import ResumePoint
from archiver.segments.carry import Carry
from archiver.segments.open_segment import OpenSegment
from archiver.segments.segment_file import SegmentFile
from g3stream.contract.headers import Kind, RecordHeaders

log = logging.getLogger(__name__)


class SegmentWriter:
    """Writes the records of a stream. For the loop's thread. settings: of acquisitions that begin from now on."""

    def __init__(self, archive: ArchiveRoot, stream: str, settings: Settings) -> None:
        self.segment: OpenSegment | None = None
        """The open file; None between two files."""
        self.previous_ms: int | None = None
        """The time of the last frame before the last record, if known, ms since the epoch."""
        self.throughput = Throughput()
        self._archive = archive
        self._stream = stream
        self._settings = settings
        self._next_settings = settings  # of the acquisition that begins next
        self._state = State(stream)
        self._files = 0
        self._carry = Carry()

    def resume(self, resume_point: ResumePoint, carry: Carry) -> None:
        """Set the state to the resume point's."""
        self._state = resume_point.checkpoint.state
        self._files = resume_point.checkpoint.files
        self._carry = carry
        self.segment = resume_point.file
        self._next_settings = resume_point.settings or self._settings

    # In the order of a file's life

    def write(self, record: Record, sequence: SequenceTracker) -> CloseReason | None:
        """Append a record to the open file, open the next file with it, or skip it, as segmentation decides.

        If the open file must be finished before, changes nothing and returns the reason.
        sequence: the records before this one.
        Raises OSError without having changed anything.
        """
        headers, time_ms = record.headers, record.time_ms
        self.previous_ms = self._state.last_frame_ms or None
        if reason := close_reason(self._state, headers, time_ms):
            return reason
        state, effect = step(self._state, headers, time_ms, self._next_settings)
        if effect is Effect.OPEN_AND_WRITE:
            self.segment = self._open_segment(state, record, sequence)
            self._next_settings = self._settings
        if effect is not Effect.NOTHING:
            self._write_frame(state, record)
        elif headers.kind is Kind.FRAME and headers.type not in NOT_RECORDED_TYPES:
            self.throughput.repeated += 1
        self._state = state
        return None

    def frame_window(self, headers: RecordHeaders) -> FrameWindow | None:
        """Return the window in which frames only continue after the last record, which has these headers."""
        return frame_window(self._state, headers)

    def write_run(self, run: FrameRun) -> None:
        """Append frames that only continue the file."""
        assert self.segment
        assert run.headers.num is not None
        self.segment.write_run(run)
        for time_ms, value in zip(run.times, run.values, strict=True):
            self.throughput.on_write(time_ms, len(value))
        self._state = advance(self._state, run.headers.num, run.times[-1])

    def _open_segment(self, state: State, record: Record, sequence: SequenceTracker) -> OpenSegment:
        """Open the next file. Raises OSError without having changed anything."""
        base = Base(sequence.safe_offset(record.offset), self._state, {}, self._carry.places(self._state.carry))
        with self._archive.private(self._stream) as private:
            opened = OpenSegment.create(
                private, state, record, base, sequence.epochs(), self._carry, md5=self._archive.md5
            )
        log.info("%s: opened %s", self._stream, opened.path)
        return opened

    def _write_frame(self, state: State, record: Record) -> None:
        opened = self.segment
        assert opened
        code = record.headers.type
        if code is not None and is_carried(state, record.headers):
            self._carry.store(code, record, opened.path, opened.file.length_bytes)
        before = opened.file.length_bytes
        opened.write(record)
        self.throughput.on_write(record.time_ms, opened.file.length_bytes - before)
        assert state.acquisition
        if state.acquisition.other_ids and self._state.acquisition and not self._state.acquisition.other_ids:
            log.warning("%s: frames in %s name another id than its own", self._stream, opened.path)

    def flush(self, pool: Executor | None = None) -> None:
        """Write what is buffered, on a thread of the pool if it is large.

        Raises OSError; an error of another thread is raised by the next flush.
        """
        if self.segment and pool:
            self.segment.file.flush_in_background(pool)
        elif self.segment:
            self.segment.file.flush()

    @property
    def written_bytes(self) -> int:
        """Bytes written to the open file; 0 if none is open."""
        return self.segment.file.written_bytes if self.segment else 0

    @property
    def length_bytes(self) -> int:
        """Bytes of the open file, including buffered ones; 0 if none is open."""
        return self.segment.file.length_bytes if self.segment else 0

    def checkpoint(self, sequence: SequenceTracker) -> Checkpoint:
        """Return the checkpoint to commit once all that is written is durable. sequence: the records so far."""
        epochs = sequence.epochs()
        return Checkpoint(
            self._state,
            epochs,
            self._files,
            self._carry.places(self._state.carry),
            self.segment.partial(epochs) if self.segment else None,
            archive=self._archive.mark,
            forgotten=sequence.forgotten,
        )

    def on_finalized(self, after: Checkpoint) -> None:
        """Close the finished file. after: the checkpoint to continue from."""
        if self.segment:
            self.segment.file.close()
            self.segment = None
        self._state = after.state
        self._files = after.files
        self._carry.update_places(after.carry)

    def reset(self) -> SegmentFile | None:
        """Drop the open file, until `resume`; return it, to be closed."""
        opened, self.segment = self.segment, None
        self.throughput.rollback()
        return opened.file if opened else None
