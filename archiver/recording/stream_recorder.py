"""The recording of one stream: its records in, its open file out, between two commits.

What decides is elsewhere: core/sequence.py says which records count, core/segmentation.py where files begin and end.
This is the thread of the loop (archiver/loop.py) carrying that out, and it never waits for a disk's sync or for
Kafka: those are done on other threads, by a CommitPipeline and a Finalizer, with what is frozen here for them.
"""

import logging
import time
from concurrent.futures import Future
from functools import partial

from confluent_kafka import KafkaException
from msgspec.structs import replace

from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import Checkpoint, CheckpointError, Closing
from archiver.core.segmentation import CloseReason, Settings
from archiver.core.sequence import Record
from archiver.kafka.group_consumer import CommittedOffset, GroupConsumer
from archiver.kafka.invalid_records import InvalidRecord, invalid_record_message
from archiver.recording.commit_position import CommitPosition
from archiver.recording.executors import Executors
from archiver.recording.finalizer import Finalizer
from archiver.recording.inbox import MessageInbox
from archiver.recording.loss_reporter import merge_losses
from archiver.recording.segment_writer import SegmentWriter
from archiver.recording.snapshot import Snapshot
from archiver.recording.status import RecorderStatus
from archiver.recording.write_errors import WriteErrors
from archiver.recovery.recovery import StreamRecovery
from archiver.recovery.resume_point import ResumePoint
from archiver.segments.carry import Carry
from archiver.segments.open_segment import record_id
from archiver.segments.segment_file import PartialDamagedError, SegmentFile, SyncError
from g3stream.contract.errors import ContractError
from g3stream.service.cancellation import CancellationToken

log = logging.getLogger(__name__)

BACKLOG_BYTES = 16 << 20
"""Records that wait while a file is being finished, or the disk is full, before the stream is paused."""


class StreamRecorder:
    """Records one stream from what was committed for it. settings: for acquisitions that begin from now on.

    `inbox` takes its messages; `poll` does them. Raises nothing on a full disk: `errors` says what it is, and
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
        self.errors = WriteErrors(committed.stream)
        self.failed = False
        # a finishing that didn't know yet that it failed
        self._orphaned_finalization: Future[Checkpoint] | None = None
        self.cancellation = CancellationToken()
        self.inbox = MessageInbox(archive, committed.stream, committed.offset)
        self._archive = archive
        self._consumer = consumer
        self._executors = executors
        self._position = CommitPosition(committed)
        self._writer = SegmentWriter(archive, committed.stream, settings)
        self._unprocessed: Record | None = None  # whole, but not stepped yet
        self._close_reason: CloseReason | None = None  # the open file must be finished before it is
        self._finalizing: Finalizer | None = None
        self._recovery = StreamRecovery(archive, consumer, executors.recovery, committed, self.cancellation)

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
            self.errors.on_error(error)
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
                    self.inbox.report_losses(self._writer.previous_ms)
            except ContractError as error:
                self.invalid_record = InvalidRecord(self.inbox.first, str(error), self._query_quarantine)
            self._drive_finalization()
            self._writer.flush(None if self.errors.current else self._executors.writers)
        except SyncError as error:
            if self.snapshot_pending:
                self.errors.on_error(error)  # it is gone back from once the snapshot is done with, if it fails again
            else:
                self.handle_sync_error(error)
        except (OSError, KafkaException) as error:
            self.errors.on_error(error)
        else:
            self.errors.on_success()

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
        if self._writer.segment and not self._finalizing:
            self._writer.segment.advance_digest(self._executors.finalizers)

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

    @property
    def is_waiting(self) -> bool:
        """Whether something here waits for another thread, or for a disk with room."""
        waits = (
            self._finalizing or self._close_reason or self.errors.current or self.invalid_record or not self.recovered
        )
        return bool(waits) and not self.halted

    @property
    def backpressured(self) -> bool:
        """Whether no more records should be delivered for now."""
        waits = self.halted or self.errors.current or not self.recovered
        return bool(waits) or self.inbox.buffered_bytes > BACKLOG_BYTES

    def status(self, resume_error: str | None = None) -> RecorderStatus:
        """How it is now; for any thread. resume_error: why Kafka doesn't give it on."""
        record, segment, finalizing, inbox = self._unprocessed, self._writer.segment, self._finalizing, self.inbox
        throughput = self._writer.throughput
        committed, durable_bytes = self._position.last_saved
        file = None
        if segment:
            closing = finalizing.checkpoint.closing if finalizing else None
            file = segment.status(durable_bytes, closing.why if closing else self._close_reason)
        return RecorderStatus(
            stream=self.stream,
            next_offset=record.offset if record else inbox.next_offset,
            committed_offset=committed,
            end_offset=self.end_offset,
            time_ms=inbox.last_time_ms,
            frames=throughput.frames,
            bytes=throughput.bytes,
            latency=throughput.latency.counts(),
            file=file,
            losses=inbox.losses.count,
            lost_records=inbox.losses.records,
            duplicates=inbox.sequence.duplicates,
            interleaved_producers=inbox.sequence.interleaved_producers,
            error=self.errors.shown,
            resume_error=resume_error,
            halted=self.halted,
            recovering_s=None if self.halted else self._recovery.seconds,
            uncommitted_s=self._position.uncommitted_s,
            finalizing=finalizing.progress.status() if finalizing else None,
            delivery_faults=inbox.deliveries.faults,
            quarantined=inbox.quarantined,
            times_replaced=inbox.times_replaced,
            repeated_frames=throughput.repeated,
        )

    def snapshot(self) -> Snapshot | None:
        """What there is to commit, or None if that is committed, or can't be now."""
        offset = self._offset_to_commit()
        if offset is None or self._finalizing or self.snapshot_pending or self.errors.current:
            return None
        if self.cancellation.is_set():  # without its file its state contradicts itself
            return None
        try:
            self._writer.flush()
        except OSError as error:
            self.errors.on_error(error)
            return None
        losses = tuple(self.inbox.losses.unpublished)
        if self._position.is_saved(offset, self._writer.written_bytes) and not losses:
            return None
        segment = self._writer.segment
        return Snapshot(
            self.stream,
            self.cancellation,
            offset,
            self._writer.checkpoint(self.inbox.sequence),
            segment.file if segment else None,
            losses,
            self._writer.throughput.mark(),
            time.monotonic(),
        )

    def track_uncommitted(self) -> None:
        """See whether there is something to commit: how long it waits is watched. (To be called each second.)"""
        offset = self._offset_to_commit()
        self._position.track_uncommitted(
            exists=offset is not None and not self._position.is_saved(offset, self._writer.length_bytes)
        )

    def _offset_to_commit(self) -> int | None:
        """Up to where all is recorded; None if that isn't known, or lies where nothing may be committed any more."""
        at = self._unprocessed.offset if self._unprocessed else self.inbox.next_offset
        if at is None or not self.recovered:
            return None
        offset = self.inbox.sequence.safe_offset(at)
        return offset if self._position.may_commit(offset) else None

    def on_committed(self, snapshot: Snapshot) -> None:
        """That snapshot is durable and committed."""
        self._position.on_committed(snapshot)
        del self.inbox.losses.unpublished[: len(snapshot.losses)]
        self._writer.throughput.on_durable(snapshot.throughput_mark, _now())
        self.errors.on_committed()

    def handle_sync_error(self, error: SyncError) -> None:
        """The disk failed to take what was written: go back to what it had taken before."""
        if self.failed:
            return
        self.errors.on_sync_error(error)
        self._recovery.restart(self._position.roll_back(), self._reset())

    def on_offset_reset(self, earliest: int) -> None:
        """Records were deleted before they were read; reading goes on at `earliest`."""
        self._position.on_offset_reset(earliest)
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
            self._writer.flush()
        except (OSError, KafkaException) as error:
            self.errors.on_error(error)
        if not self.recovered:
            self.cancellation.set()
        return not self._finalizing and self._recovery.is_idle

    # From message to file

    def _process(self, record: Record) -> None:
        self._close_reason = self._writer.write(record, self.inbox.sequence)
        if self._close_reason:
            return
        self.inbox.mark_processed(record, self._writer.previous_ms)
        self._unprocessed = None
        # Nearly always, what waits only goes on after that record.
        if run := self.inbox.next_run(record.headers, self._writer.frame_window(record.headers)):
            self._writer.write_run(run)

    # From open to finished

    def _drive_finalization(self) -> None:
        """Begin to finish the open file if it is time; take over from a finishing that is done."""
        if self._finalizing and self._finalizing.future.done():
            self._on_finalized(self._finalizing)
        if self._close_reason and not self._finalizing and not self.snapshot_pending:
            assert self._writer.segment
            assert self._unprocessed
            self._writer.flush()
            closing = Closing(self._close_reason, "0" * 64, record_id(self._unprocessed))
            offset = self.inbox.sequence.safe_offset(self._unprocessed.offset)
            checkpoint = replace(self._writer.checkpoint(self.inbox.sequence), closing=closing)
            self._start_finalization(offset, checkpoint, self._writer.segment.file)

    def _start_finalization(self, offset: int, checkpoint: Checkpoint, file: SegmentFile | None) -> None:
        losses_reporter = self.inbox.losses
        losses, losses_reporter.unpublished = merge_losses(losses_reporter.unpublished), []
        self._finalizing = Finalizer(
            self._archive,
            self._consumer,
            self._executors.finalizers,
            offset,
            checkpoint,
            file,
            losses,
            self.cancellation,
        )

    def _on_finalized(self, finalizing: Finalizer) -> None:
        """Go on from what a finishing came to; raises what it raised, but for what is wrong with the partial."""
        try:
            after = finalizing.future.result()
        except PartialDamagedError as error:
            self._position.rebuild_from(finalizing.offset)
            self._recovery.rebuild(finalizing.checkpoint, finalizing.offset, str(error), self._reset())
            return
        except SyncError as error:
            self.handle_sync_error(error)
            return
        self._finalizing = self._close_reason = None
        self._writer.on_finalized(after)
        self._position.on_finalized(finalizing.offset, after)
        self._executors.foreign_checksums.enqueue(self.stream, finalizing.path)
        throughput = self._writer.throughput
        throughput.on_durable(throughput.mark(), _now())

    # From and to what is committed

    def _resume(self, resume_point: ResumePoint, carry: Carry) -> None:
        """Be as the checkpoint says."""
        found = resume_point.checkpoint
        assert resume_point.offset is not None
        self.inbox.start(resume_point.offset, found, has_prior_state=resume_point.has_prior_state)
        self._writer.resume(resume_point, carry)
        if found.closing:
            self._start_finalization(resume_point.offset, found, None)

    def _reset(self) -> SegmentFile | None:
        """Forget all that isn't committed; gives the open file, to be closed."""
        self._finalizing = self._unprocessed = self._close_reason = None
        if self.invalid_record:
            self.invalid_record = self.halted = None  # it is met again
        self._position.track_uncommitted(exists=False)
        self.inbox.clear()
        return self._writer.reset()


def _now() -> int:
    """Ms since the epoch, UTC."""
    return time.time_ns() // 1_000_000
