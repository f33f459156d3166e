"""The recorder of one stream: consumes its records, and writes them to its open file.

Decisions are made elsewhere: core/sequence.py accepts records, core/segmentation.py decides where files begin and
end. This code runs on the thread of the loop (archiver/loop.py), and never waits for a sync or for Kafka: a
CommitPipeline and a Finalizer do that on other threads, with the snapshots that are taken here.
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
from archiver.core.segmenter import Carry
from archiver.core.sequence import Record
from archiver.kafka.group_consumer import CommittedOffset, GroupConsumer
from archiver.kafka.invalid_records import InvalidRecord, invalid_record_message
from archiver.recording.commit_position import CommitPosition
from archiver.recording.executors import Executors
from archiver.recording.finalizer import Finalized, Finalizer
from archiver.recording.inbox import MessageInbox
from archiver.recording.loss_reporter import merge_losses
from archiver.recording.segment_writer import SegmentWriter
from archiver.recording.snapshot import Snapshot
from archiver.recording.status import RecorderStatus
from archiver.recording.write_errors import WriteErrors
from archiver.recovery.recovery import StreamRecovery
from archiver.recovery.resume_point import ResumePoint
from archiver.segments.open_segment import record_id
from archiver.segments.segment_file import PartialDamagedError, SegmentFile, SyncError
from g3stream.contract.errors import ContractError
from g3stream.service.cancellation import CancellationToken

log = logging.getLogger(__name__)

BACKLOG_BYTES = 16 << 20
"""Buffered while a file is being finished, or the disk is full, before the stream is paused (backpressure)."""


class StreamRecorder:
    """Records one stream, from its last commit on.

    `inbox` receives its messages; `poll` processes them. A full disk raises nothing: `errors` has the reason, and
    `poll` tries again.
    settings: of acquisitions that begin from now on.
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
        self.snapshot_pending = False
        """Whether the CommitPipeline has a snapshot: the file can't be finished meanwhile."""
        self.halted: str | None = None
        """Why recording has stopped, until an operator acts."""
        self.invalid_record: InvalidRecord | None = None
        """The record that can't be read, at which recording waits."""
        self.end_offset: int | None = None
        """After the topic's last record, as last reported by Kafka."""
        self.errors = WriteErrors(committed.stream)
        self.failed = False
        # Of a file that was being finished when this failed.
        self._orphaned_finalization: Future[Finalized] | None = None
        self.cancellation = CancellationToken()
        self.inbox = MessageInbox(archive, committed.stream, committed.offset)
        self._archive = archive
        self._consumer = consumer
        self._executors = executors
        self._position = CommitPosition(committed)
        self._writer = SegmentWriter(archive, committed.stream, settings)
        self._unprocessed: Record | None = None  # complete, but not processed yet
        self._close_reason: CloseReason | None = None  # why the open file must be finished before that
        self._finalizing: Finalizer | None = None
        self._recovery = StreamRecovery(archive, consumer, executors.recovery, committed, self.cancellation)

    # For the loop

    @property
    def recovered(self) -> bool:
        """Whether the stream's recovery is done; until then it runs on another thread."""
        return self._recovery.is_done

    def poll_recovery(self, *, again: bool) -> None:
        """Start recording once the recovery is done. again: start another attempt if it failed."""
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
        """Process what can be processed now. Raises FencedError, MemberEvicted."""
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
                self.errors.on_error(error)  # rolled back once the snapshot is done, if it fails again
            else:
                self.handle_sync_error(error)
        except (OSError, KafkaException) as error:
            self.errors.on_error(error)
        else:
            self.errors.on_success()

    def skip_if_quarantined(self, invalid_record: InvalidRecord) -> bool:
        """Continue after the invalid record if it is quarantined; return whether it is."""
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
        read = partial(self._consumer.topic_reader.quarantined_digests, self.stream)
        return self._executors.recovery.submit(self.stream, read, stateless=False)

    def advance_digest(self) -> None:
        """Continue the SHA-256 of the open file, on another thread."""
        if self._writer.segment and not self._finalizing:
            self._writer.segment.advance_digest(self._executors.finalizers)

    def halt(self, why: str) -> None:
        """Stop recording this stream: it can't be continued without guessing."""
        self.halted = why
        log.error("%s: STOPPED %s", self.stream, why)

    def fail(self, why: str) -> None:
        """Release everything after an unexpected error: the state can't be trusted any more.

        May be called within any method.
        """
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
        """Whether no other thread works for it, once it has failed."""
        return not self.snapshot_pending and (
            self._orphaned_finalization is None or self._orphaned_finalization.done()
        )

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for another thread, or for free disk space."""
        waits = (
            self._finalizing or self._close_reason or self.errors.current or self.invalid_record or not self.recovered
        )
        return bool(waits) and not self.halted

    @property
    def backpressured(self) -> bool:
        """Whether the stream should be paused for now."""
        waits = self.halted or self.errors.current or not self.recovered
        return bool(waits) or self.inbox.buffered_bytes > BACKLOG_BYTES

    def status(self, resume_error: str | None = None) -> RecorderStatus:
        """Return the present status. Thread-safe. resume_error: why Kafka doesn't deliver the stream."""
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
        """Return what can be committed now; None if there is nothing, or it can't be committed now."""
        offset = self._offset_to_commit()
        if offset is None or self._finalizing or self.snapshot_pending or self.errors.current:
            return None
        if self.cancellation.is_set():  # without its file the state would be inconsistent
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
        """Update the age of what isn't committed. To be called each second."""
        offset = self._offset_to_commit()
        self._position.track_uncommitted(
            exists=offset is not None and not self._position.is_saved(offset, self._writer.length_bytes)
        )

    def _offset_to_commit(self) -> int | None:
        """Return the offset up to which all is recorded; None if it isn't known, or may not be committed."""
        at = self._unprocessed.offset if self._unprocessed else self.inbox.next_offset
        if at is None or not self.recovered:
            return None
        offset = self.inbox.sequence.safe_offset(at)
        return offset if self._position.may_commit(offset) else None

    def on_committed(self, snapshot: Snapshot) -> None:
        """Handle a snapshot that is durable and committed."""
        self._position.on_committed(snapshot)
        del self.inbox.losses.unpublished[: len(snapshot.losses)]
        self._writer.throughput.on_durable(snapshot.throughput_mark, _now())
        self.errors.on_committed()

    def handle_sync_error(self, error: SyncError) -> None:
        """Roll back to the last commit: the disk failed to sync what was written."""
        if self.failed:
            return
        self.errors.on_sync_error(error)
        self._recovery.restart(self._position.roll_back(), self._reset())

    def on_offset_reset(self, earliest: int) -> None:
        """Handle records that were deleted before they were read: reading continues at `earliest`."""
        self._position.on_offset_reset(earliest)
        self.inbox.on_offset_reset(earliest)

    def release(self) -> None:
        """Close the open file as it is: the next recorder of the stream continues from the last commit."""
        if self.failed:
            return
        self.cancellation.set()
        open_file = self._reset()
        if open_file and not self.snapshot_pending:
            open_file.close()  # at once, so that the next recorder of the stream doesn't find it open
            open_file = None
        self._recovery.release(open_file)

    def drain(self) -> bool:
        """Drain for revocation: return True once no file is being finished, and no recovery runs."""
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
        # Nearly always, the buffered records only continue the file: they are taken as a run.
        if run := self.inbox.next_run(record.headers, self._writer.segmenter):
            self._writer.write_run(run)

    # From open to finished

    def _drive_finalization(self) -> None:
        """Start to finish the open file if it must be closed; take over the outcome once it is finished."""
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
        """Continue after a finished file. Raises the Finalizer's error, unless it concerns the partial."""
        try:
            path, after = finalizing.future.result()
        except PartialDamagedError as error:
            self._position.rebuild_from(finalizing.offset)
            self._recovery.rebuild(finalizing.checkpoint, finalizing.offset, str(error), self._reset())
            return
        except SyncError as error:
            self.handle_sync_error(error)
            return
        self._finalizing = self._close_reason = None
        self._writer.on_finalized(path)
        self._position.on_finalized(finalizing.offset, after)
        self._executors.foreign_checksums.enqueue(self.stream, finalizing.path)
        throughput = self._writer.throughput
        throughput.on_durable(throughput.mark(), _now())

    # Resume and roll back

    def _resume(self, resume_point: ResumePoint, carry: Carry) -> None:
        """Set the state to the resume point's."""
        found = resume_point.checkpoint
        assert resume_point.offset is not None
        self.inbox.start(resume_point.offset, found, has_prior_state=resume_point.has_prior_state)
        self._writer.resume(resume_point, carry)
        if found.closing:
            self._start_finalization(resume_point.offset, found, None)

    def _reset(self) -> SegmentFile | None:
        """Discard all that isn't committed; return the open file, to be closed."""
        self._finalizing = self._unprocessed = self._close_reason = None
        if self.invalid_record:
            self.invalid_record = self.halted = None  # it is consumed again
        self._position.track_uncommitted(exists=False)
        self.inbox.clear()
        return self._writer.reset()


def _now() -> int:
    """Return ms since the epoch."""
    return time.time_ns() // 1_000_000
