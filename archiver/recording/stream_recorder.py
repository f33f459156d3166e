"""The recording of one stream: its records in, its open file out, between two commits.

What decides is elsewhere: core/sequence.py says which records count, core/segmentation.py where files begin and end.
This is the thread of the loop (archiver/loop.py) carrying that out, and it never waits for a disk's sync or for
Kafka: those are done on other threads, by `make_durable` and `finalize`, with what is frozen here for them.
"""

import logging
import time
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from confluent_kafka import KafkaException
from msgspec.structs import replace

from archiver.archive.root import ArchiveRoot
from archiver.core import checkpoint as checkpoints
from archiver.core.checkpoint import Base, Checkpoint, CheckpointError, Closing
from archiver.core.segmentation import (
    NOT_RECORDED_TYPES,
    CloseReason,
    Effect,
    Settings,
    State,
    advance,
    close_reason,
    frame_window,
    is_carried,
    step,
)
from archiver.core.sequence import Record
from archiver.kafka.group_consumer import CommittedOffset, GroupConsumer
from archiver.kafka.invalid_records import InvalidRecord, invalid_record_message
from archiver.recording.commit_lag import UncommittedTimer
from archiver.recording.executors import Executors
from archiver.recording.finalizer import finalize
from archiver.recording.finalizer_status import FinalizeProgress
from archiver.recording.inbox import MessageInbox
from archiver.recording.loss_reporter import merge_losses
from archiver.recording.snapshot import Snapshot
from archiver.recording.status import RecorderStatus
from archiver.recording.throughput import Throughput
from archiver.recovery.recovery import StreamRecovery
from archiver.recovery.resume_point import ResumePoint
from archiver.segments.carry import Carry
from archiver.segments.open_segment import OpenSegment, record_id
from archiver.segments.segment_file import PartialDamagedError, SegmentFile, SyncError
from g3stream.contract.errors import ContractError
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.service.cancellation import CancellationToken

log = logging.getLogger(__name__)

_REPEAT_LOG_SECONDS = 60.0
BACKLOG_BYTES = 16 << 20
"""Records that wait while a file is being finished, or the disk is full, before the stream is paused."""


@dataclass(frozen=True, slots=True)
class _Finalization:
    """A file that is being finished on another thread, and the checkpoint that holds it, committed at `offset`."""

    offset: int
    checkpoint: Checkpoint
    future: Future[Checkpoint]
    progress: FinalizeProgress


class StreamRecorder:
    """Records one stream from what was committed for it. settings: for acquisitions that begin from now on.

    `inbox` takes its messages; `poll` does them. Raises nothing on a full disk: `error` says what it is, and
    `poll` tries again.
    """

    def __init__(
        self,
        committed: CommittedOffset,
        settings: Settings,
        archive: ArchiveRoot,
        consumer: GroupConsumer,
        executors: Executors,
    ) -> None:
        self.stream = committed.stream
        # by Committing, while it makes a snapshot durable: the file can't be finished meanwhile
        self.snapshot_pending = False
        self.halted: str | None = None  # by what can't be understood: for good, or until `invalid_record` passes
        self.invalid_record: InvalidRecord | None = None  # at which it stands
        self.end_offset: int | None = None  # after the topic's last record, as far as Kafka has told
        self.error: str | None = None  # of the disk; it will pass
        self.failed = False
        # a finishing that didn't know yet that it failed
        self._orphaned_finalization: Future[Checkpoint] | None = None
        self.cancellation = CancellationToken()
        self.inbox = MessageInbox(archive, committed.stream, committed.offset)
        self.throughput = Throughput()
        self._settings = settings
        self._next_settings = settings  # of the acquisition that begins next
        self._archive = archive
        self._consumer = consumer
        self._executors = executors
        self._committed = committed
        self._last_commit: tuple[int, Checkpoint] | None = None  # since then
        self._state = State(self.stream)
        self._files = 0
        self._carry = Carry()
        self._segment: OpenSegment | None = None
        self._unprocessed: Record | None = None  # whole, but not stepped yet
        self._close_reason: CloseReason | None = None  # the open file must be finished before it is
        self._finalizing: _Finalization | None = None
        self._recovery = StreamRecovery(archive, consumer, executors.recovery, committed, self.cancellation)
        self._previous_ms: int | None = None  # of the last recorded frame before it
        self._sync_failing = False
        self._log_error_at_s = 0.0
        self._last_saved: tuple[int | None, int] = (committed.offset, -1)
        self._uncommitted = UncommittedTimer()
        self._min_commit_offset = committed.offset if committed.metadata else None
        """What had been committed when reading began. While a file is rebuilt from its first record, what is recorded
        lies below it: then nothing is committed, and a kill has it rebuilt again."""

    # What is asked of a recording by the loop

    @property
    def recovered(self) -> bool:
        """Whether it is known from where to go on; until then another thread finds out."""
        return self._recovery.is_done

    def poll_recovery(self, *, again: bool) -> None:
        """Go on, once it is known from where. again: find out again, if that has failed."""
        try:
            recovered = self._recovery.poll(again=again)
        except CheckpointError as error:
            self.halt(f"{error}; nothing is recorded over it")
        except (OSError, KafkaException) as error:
            self.on_error(error)
        else:
            if recovered:
                self._resume(recovered.resume_point, recovered.carry)

    def poll(self) -> None:
        """Do what can be done now. Raises FencedError, MemberEvicted."""
        if not self.recovered or self.halted or self.invalid_record:
            return
        try:
            self._drive_finalization()
            try:
                while not self._close_reason and not self._finalizing and (self._unprocessed or self.inbox):
                    if self._unprocessed is None:
                        self._unprocessed = self.inbox.next_record()
                    if self._unprocessed is not None:
                        self._process(self._unprocessed)
                    self.inbox.report_losses(self._previous_ms)
            except ContractError as error:
                self.invalid_record = InvalidRecord(self.inbox.first, str(error), self._query_quarantine)
            self._drive_finalization()
            if self._segment and self.error:
                self._segment.file.flush()
            elif self._segment:
                self._segment.file.flush_in_background(self._executors.writers)
        except SyncError as error:
            if self.snapshot_pending:
                self.on_error(error)  # it is gone back from once the snapshot is done with, if it fails again
            else:
                self.sync_failed(error)
        except (OSError, KafkaException) as error:
            self.on_error(error)
        else:
            if self.error is not None:
                log.info("%s: writing again", self.stream)
            self.error = None

    def skip_if_quarantined(self, invalid_record: InvalidRecord) -> bool:
        """Whether recording goes on after that record, at which it stands: it is in quarantine."""
        found = invalid_record.is_in_quarantine(time.monotonic())
        if found:
            self.invalid_record = self.halted = None
            self.inbox.skip_quarantined()
            log.warning(
                "%s: left out the record at offset %d, in quarantine: %s",
                self.stream,
                invalid_record.offset,
                invalid_record.why,
            )
        elif found is False and not self.halted:
            self.halt(invalid_record_message(self.stream, invalid_record.offset, invalid_record.why))
        return bool(found)

    def _query_quarantine(self) -> Future[frozenset[str]]:
        look = partial(self._consumer.topic_reader.quarantined_digests, self.stream)
        return self._executors.recovery.submit(self.stream, look, stateless=False)

    def advance_digest(self) -> None:
        """Let the SHA-256 of the open file come nearer to its end."""
        if self._segment and not self._finalizing:
            self._segment.advance_digest(self._executors.finalizers)

    def halt(self, why: str) -> None:
        """Record no more of this stream: going on would be guessing."""
        self.halted = why
        log.error("%s: STOPPED %s", self.stream, why)

    def fail(self, why: str) -> None:
        """Let go of all that there is, after an error that nobody expected: its state isn't to be trusted any more.
        To be called in the midst of any method."""
        self.halt(why)
        if self.failed:
            return
        self.invalid_record = None
        if self._finalizing:
            self._orphaned_finalization = self._finalizing.future
        try:
            self.release()
        except OSError as error:
            log.warning("%s: its file can't be closed: %s", self.stream, error)
        self.failed = True

    @property
    def is_idle(self) -> bool:
        """Whether no other thread does anything for it, once it has failed."""
        return not self.snapshot_pending and (
            self._orphaned_finalization is None or self._orphaned_finalization.done()
        )

    def on_error(self, error: OSError | KafkaException) -> None:
        """The disk, or Kafka, can't be used now; what is to be written waits, here and in Kafka."""
        now = time.monotonic()
        of_disk = isinstance(error, OSError)
        why = str(error) if of_disk else error.args[0].str()
        if self.error is None or now >= self._log_error_at_s:
            self._log_error_at_s = now + _REPEAT_LOG_SECONDS
            what = "can't write" if of_disk else "can't ask Kafka for what it needs"
            log.error("%s: %s: %s; records wait in Kafka, still trying", self.stream, what, why)
        self.error = why

    @property
    def is_waiting(self) -> bool:
        """Whether something here waits for another thread, or for a disk with room."""
        waits = self._finalizing or self._close_reason or self.error or self.invalid_record or not self.recovered
        return bool(waits) and not self.halted

    @property
    def backpressured(self) -> bool:
        """Whether no more records should be delivered for now."""
        waits = self.halted or self.error or not self.recovered
        return bool(waits) or self.inbox.buffered_bytes > BACKLOG_BYTES

    def status(self, resume_error: str | None = None) -> RecorderStatus:
        """How it is now; for any thread. resume_error: why Kafka doesn't give it on."""
        record, segment, finalizing, inbox = self._unprocessed, self._segment, self._finalizing, self.inbox
        committed, durable_bytes = self._last_saved
        file = None
        if segment:
            closing = finalizing.checkpoint.closing if finalizing else None
            file = segment.status(max(0, durable_bytes), closing.why if closing else self._close_reason)
        return RecorderStatus(
            stream=self.stream,
            next_offset=record.offset if record else inbox.next_offset,
            committed_offset=committed,
            end_offset=self.end_offset,
            time_ms=inbox.last_time_ms,
            frames=self.throughput.frames,
            bytes=self.throughput.bytes,
            latency=self.throughput.latency.counts(),
            file=file,
            losses=inbox.losses.count,
            lost_records=inbox.losses.records,
            duplicates=inbox.sequence.duplicates,
            interleaved_producers=inbox.sequence.interleaved_producers,
            error=self.error or ("the disk didn't take its file" if self._sync_failing else None),
            resume_error=resume_error,
            halted=self.halted,
            recovering_s=None if self.halted else self._recovery.seconds,
            uncommitted_s=self._uncommitted.seconds,
            finalizing=finalizing.progress.status() if finalizing else None,
            delivery_faults=inbox.deliveries.faults,
            quarantined=inbox.quarantined,
            times_replaced=inbox.times_replaced,
            repeated_frames=self.throughput.repeated,
        )

    def snapshot(self) -> Snapshot | None:
        """What there is to commit, or None if that is committed, or can't be now."""
        offset = self._offset_to_commit()
        if offset is None or self._finalizing or self.snapshot_pending or self.error:
            return None
        if self.cancellation.is_set():  # without its file its state contradicts itself
            return None
        if self._segment:
            try:
                self._segment.file.flush()
            except OSError as error:
                self.on_error(error)
                return None
        written = self._segment.file.written_bytes if self._segment else 0
        losses = tuple(self.inbox.losses.unpublished)
        if self._last_saved == (offset, written) and not losses:
            return None
        file = self._segment.file if self._segment else None
        checkpoint, mark = self._checkpoint(), self.throughput.mark()
        return Snapshot(self.stream, self.cancellation, offset, checkpoint, file, losses, mark, time.monotonic())

    def track_uncommitted(self) -> None:
        """See whether there is something to commit: how long it waits is watched. (To be called each second.)"""
        offset = self._offset_to_commit()
        length = self._segment.file.length_bytes if self._segment else 0
        self._uncommitted.update(has_uncommitted=offset is not None and self._last_saved != (offset, length))

    def _offset_to_commit(self) -> int | None:
        """Up to where all is recorded; None if that isn't known, or lies where nothing may be committed any more."""
        at = self._unprocessed.offset if self._unprocessed else self.inbox.next_offset
        if at is None or not self.recovered:
            return None
        offset = self.inbox.sequence.safe_offset(at)
        return None if self._min_commit_offset is not None and offset < self._min_commit_offset else offset

    def on_committed(self, snapshot: Snapshot) -> None:
        """That snapshot is durable and committed."""
        partial = snapshot.checkpoint.partial
        self._last_saved = (snapshot.offset, partial.length if partial else 0)
        del self.inbox.losses.unpublished[: len(snapshot.losses)]
        self.throughput.on_durable(snapshot.throughput_mark, _now())
        self._last_commit = snapshot.offset, snapshot.checkpoint
        self._uncommitted.on_committed(snapshot.taken_s)
        if self._sync_failing:
            self._sync_failing = False
            log.info("%s: the disk takes its file again", self.stream)

    def sync_failed(self, error: SyncError) -> None:
        """The disk failed to take what was written: go back to what it had taken before."""
        if self.failed:
            return
        if not self._sync_failing:
            log.error(
                "%s: the disk didn't take its file: %s; going back to what was committed, until it does",
                self.stream,
                error,
            )
        self._sync_failing = True
        if self._last_commit:
            offset, checkpoint = self._last_commit
            self._committed = CommittedOffset(self.stream, offset, checkpoints.encode(checkpoint))
            self._min_commit_offset = offset
        self._recovery.restart(self._committed, self._reset())

    def on_offset_reset(self, earliest: int) -> None:
        """Records were deleted before they were read; reading goes on at `earliest`."""
        if self._min_commit_offset is not None and earliest < self._min_commit_offset:
            # Another topic of that name, or what is rebuilt can't be read again: what is recorded is all there is.
            self._min_commit_offset = None
        self.inbox.on_offset_reset(earliest)

    def release(self) -> None:
        """Let go of the open file as it is; whoever has the stream next goes on from what was committed."""
        if self.failed:
            return
        self.cancellation.set()
        left = self._reset()
        if left and not self.snapshot_pending:
            left.close()  # at once, so that whoever has the stream next doesn't find it open
            left = None
        self._recovery.release(left)

    def drain(self) -> bool:
        """Come to a state that can be committed, or in which there is nothing to commit; gives whether it is there,
        or another thread still finishes a file or takes the stream up. To be followed by `release`."""
        if self._finalizing and not self._finalizing.future.done():
            return False
        try:
            if self._finalizing:
                self._on_finalized(self._finalizing)
            if self._segment:
                self._segment.file.flush()
        except (OSError, KafkaException) as error:
            self.on_error(error)
        if not self.recovered:
            self.cancellation.set()
        return not self._finalizing and self._recovery.is_idle

    # From message to file

    def _process(self, record: Record) -> None:
        headers, time_ms = record.headers, record.time_ms
        self._previous_ms = self._state.last_frame_ms or None
        self._close_reason = close_reason(self._state, headers, time_ms)
        if self._close_reason:
            return
        state, effect = step(self._state, headers, time_ms, self._next_settings)
        if effect is Effect.OPEN_AND_WRITE:
            self._segment = self._open_segment(state, record)
            self._next_settings = self._settings
        if effect is not Effect.NOTHING:
            self._write(state, record)
        elif headers.kind is Kind.FRAME and headers.type not in NOT_RECORDED_TYPES:
            self.throughput.repeated += 1
        self._state = state
        self.inbox.mark_processed(record, self._previous_ms)
        self._unprocessed = None
        self._write_run(headers)

    def _write_run(self, headers: RecordHeaders) -> None:
        """Nearly always, what waits only goes on after the record with these headers."""
        run = self.inbox.next_run(headers, frame_window(self._state, headers))
        if run:
            assert self._segment
            assert run.headers.num is not None
            self._segment.write_run(run)
            for time_ms, value in zip(run.times, run.values, strict=True):
                self.throughput.on_write(time_ms, len(value))
            self._state = advance(self._state, run.headers.num, run.times[-1])

    def _open_segment(self, state: State, record: Record) -> OpenSegment:
        """Raises OSError, and then nothing has changed."""
        seen = self.inbox.sequence
        base = Base(seen.safe_offset(record.offset), self._state, {}, self._carry.places(self._state.carry))
        with self._archive.private(self.stream) as private:
            segment = OpenSegment.create(
                private, state, record, base, seen.epochs(), self._carry, md5=self._archive.md5
            )
        log.info("%s: opened %s", self.stream, segment.path)
        return segment

    def _write(self, state: State, record: Record) -> None:
        segment = self._segment
        assert segment
        code = record.headers.type
        if code is not None and is_carried(state, record.headers):
            self._carry.store(code, record, segment.path, segment.file.length_bytes)
        before = segment.file.length_bytes
        segment.write(record)
        self.throughput.on_write(record.time_ms, segment.file.length_bytes - before)
        assert state.acquisition
        if state.acquisition.other_ids and self._state.acquisition and not self._state.acquisition.other_ids:
            log.warning("%s: frames in %s name another id than its own", self.stream, segment.path)

    # From open to finished

    def _drive_finalization(self) -> None:
        """Begin to finish the open file if it is time; take over from a finishing that is done."""
        if self._finalizing and self._finalizing.future.done():
            self._on_finalized(self._finalizing)
        if self._close_reason and not self._finalizing and not self.snapshot_pending:
            assert self._segment
            assert self._unprocessed
            self._segment.file.flush()
            closing = Closing(self._close_reason, "0" * 64, record_id(self._unprocessed))
            offset = self.inbox.sequence.safe_offset(self._unprocessed.offset)
            self._start_finalization(offset, replace(self._checkpoint(), closing=closing), self._segment.file)

    def _start_finalization(self, offset: int, of: Checkpoint, file: SegmentFile | None) -> None:
        losses_reporter = self.inbox.losses
        losses, losses_reporter.unpublished = merge_losses(losses_reporter.unpublished), []
        assert of.partial
        progress = FinalizeProgress(of.partial.path)
        done = self._executors.finalizers.submit(
            finalize, self._archive, self._consumer, offset, of, file, losses, self.cancellation, progress
        )
        self._finalizing = _Finalization(offset, of, done, progress)

    def _on_finalized(self, finalizing: _Finalization) -> None:
        """Go on from what a finishing came to; raises what it raised, but for what is wrong with the partial."""
        try:
            after = finalizing.future.result()
        except PartialDamagedError as error:
            self._min_commit_offset = finalizing.offset  # its end may be committed already
            self._recovery.rebuild(finalizing.checkpoint, finalizing.offset, str(error), self._reset())
            return
        except SyncError as error:
            self.sync_failed(error)
            return
        self._finalizing = self._close_reason = None
        if self._segment:
            self._segment.file.close()
            self._segment = None
        self._state = after.state
        self._files = after.files
        self._carry.update_places(after.carry)
        self._last_commit = finalizing.offset, after
        self._uncommitted.update(has_uncommitted=False)
        self._last_saved = finalizing.offset, 0
        assert finalizing.checkpoint.partial
        self._executors.foreign_checksums.enqueue(self.stream, finalizing.checkpoint.partial.path)
        self.throughput.on_durable(self.throughput.mark(), _now())

    # From and to what is committed

    def _checkpoint(self) -> Checkpoint:
        epochs, forgotten = self.inbox.sequence.epochs(), self.inbox.sequence.forgotten
        partial = self._segment.partial(epochs) if self._segment else None
        return Checkpoint(
            self._state,
            epochs,
            self._files,
            self._carry.places(self._state.carry),
            partial,
            archive=self._archive.mark,
            forgotten=forgotten,
        )

    def _resume(self, resume_point: ResumePoint, carry: Carry) -> None:
        """Be as the checkpoint says."""
        found = resume_point.checkpoint
        self._state = found.state
        self._files = found.files
        assert resume_point.offset is not None
        self.inbox.start(resume_point.offset, found, has_prior_state=resume_point.has_prior_state)
        self._carry = carry
        self._segment = resume_point.file
        self._next_settings = resume_point.settings or self._settings
        if found.closing:
            self._start_finalization(resume_point.offset, found, None)

    def _reset(self) -> SegmentFile | None:
        """Forget all that isn't committed; gives the open file, to be closed."""
        segment, self._segment = self._segment, None
        self._finalizing = self._unprocessed = self._close_reason = None
        if self.invalid_record:
            self.invalid_record = self.halted = None  # it is met again
        self.throughput.rollback()
        self._uncommitted.update(has_uncommitted=False)
        self.inbox.clear()
        return segment.file if segment else None


def _now() -> int:
    """Ms since the epoch, UTC."""
    return time.time_ns() // 1_000_000
