"""The recorder of one stream: consumes its records, and writes them to its open file.

Decisions are made elsewhere: g3stream/contract/sequence.py accepts records, core/segmenter.py decides where files
begin and end, lifecycle.py has the phases of the recorder. This code runs on the thread of the loop
(archiver/loop.py), and never waits for a sync or for Kafka: a CommitPipeline and a Finalizer do that on other
threads, with the snapshots that are taken here.
"""

import logging
import time
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

from confluent_kafka import KafkaException
from msgspec.structs import replace as with_fields

from archiver.archive.root import ArchiveRoot
from archiver.core import checkpoint as checkpoints
from archiver.core.checkpoint import Checkpoint, CheckpointError
from archiver.core.segmentation import CloseReason, Settings
from archiver.kafka.group_consumer import CommittedOffset, GroupConsumer
from archiver.kafka.invalid_records import InvalidRecord, invalid_record_message
from archiver.recording import lifecycle
from archiver.recording.commit_position import CommitPosition, Snapshot
from archiver.recording.executors import Executors
from archiver.recording.finalizer import Finalizer
from archiver.recording.inbox import MessageInbox
from archiver.recording.lifecycle import Closing, Finalizing, Halted, Recording, Recovering, Released, Unreadable
from archiver.recording.segment_writer import SegmentWriter
from archiver.recording.status import RecorderStatus
from archiver.recording.write_errors import WriteErrors
from archiver.recovery.recovery import StreamRecovery
from archiver.recovery.resume_point import ResumePoint
from archiver.segments.open_segment import record_id
from archiver.segments.segment_file import PartialDamagedError, SegmentFile, SyncError
from g3stream.contract.sequence import Record
from g3stream.contract.topics import ContractError
from g3stream.host.environment import now_ms
from g3stream.service.cancellation import CancellationToken

log = logging.getLogger(__name__)

BACKLOG_BYTES = 16 << 20
"""Buffered while a file is being finished, or the disk is full, before the stream is paused (backpressure)."""


class StreamRecorder:
    """Records one stream, from its last commit on.

    `inbox` receives its messages; `poll` processes them. A full disk raises nothing: `errors` has the reason, and
    `poll` tries again.
    settings: of acquisitions that begin from now on.

    Its attributes are the parts that it connects, its phase, and the record at which it is.
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
        self.errors = WriteErrors(committed.stream)
        self.inbox = MessageInbox(archive, committed.stream, committed.offset)
        self._archive = archive
        self._consumer = consumer
        self._executors = executors
        self._cancellation = CancellationToken()
        self._recovery = StreamRecovery(archive, consumer, executors.recovery, committed, self._cancellation)
        self._position = CommitPosition(committed)
        self._writer = SegmentWriter(archive, committed.stream, settings)
        self._unprocessed: Record | None = None  # complete, but not processed yet
        self._phase: lifecycle.Phase = Recovering()

    # For the loop

    @property
    def is_recording(self) -> bool:
        """Whether the stream is recovered and its file, if any, held."""
        return isinstance(self._phase, Recording | Unreadable | Closing | Finalizing)

    @property
    def has_failed(self) -> bool:
        """Whether it was released after an unexpected error."""
        return isinstance(self._phase, Released) and self._phase.why is not None

    @property
    def halted(self) -> str | None:
        """Why recording has stopped, until an operator acts."""
        match self._phase:
            case Halted(why) | Released(why):
                return why
            case Unreadable(reported=why):
                return why
        return None

    @property
    def is_committing(self) -> bool:
        """Whether a snapshot is being made durable and committed; meanwhile no file is finished."""
        return self._position.pending is not None

    @property
    def is_idle(self) -> bool:
        """Whether no other thread works for it, once it is released."""
        finalizer = self._phase.finalizer if isinstance(self._phase, Released) else None
        return not self.is_committing and (finalizer is None or finalizer.future.done())

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for another thread, or for free disk space."""
        waits = self.errors.current or self._unprocessed or not isinstance(self._phase, Recording)
        return bool(waits) and not self.halted

    @property
    def backpressured(self) -> bool:
        """Whether the stream should be paused for now."""
        waits = self.errors.current or self.halted or not self.is_recording
        return bool(waits) or self.inbox.buffered_bytes > BACKLOG_BYTES

    def poll(self, *, has_messages: bool, tick: bool) -> None:
        """Do what can be done now. Raises FencedError, MemberEvicted.

        has_messages: whether there are new ones. tick: whether to repeat what has failed, once a second.
        """
        match self._phase:
            case Recovering():
                self._poll_recovery(again=tick)
            case Unreadable() as phase:
                has_messages |= self._skip_if_quarantined(phase)
        is_writable = isinstance(self._phase, Recording | Closing | Finalizing)
        if is_writable and (has_messages or (self.is_waiting and (tick or not self.errors.current))):
            self._work()

    def on_tick(self, end_offset: int | None, *, digests: bool) -> None:
        """Do what is done once a second, besides `snapshot`.

        end_offset: the topic's. digests: whether to continue the SHA-256.
        """
        self.inbox.on_end_offset(end_offset)
        if digests and self._writer.segment and not isinstance(self._phase, Finalizing):
            self._writer.segment.advance_digest(self._executors.finalizers)

    def status(self, syncing_s: float, commit_error: str | None, resume_error: str | None) -> RecorderStatus:
        """Return the present status. Thread-safe. The arguments are what the loop knows, as in RecorderStatus."""
        record, segment, phase, halted = self._unprocessed, self._writer.segment, self._phase, self.halted
        committed, durable_bytes = self._position.last_saved
        finalizer = phase.finalizer if isinstance(phase, Finalizing) else None
        file = None
        if segment:
            closing = phase.reason if isinstance(phase, Closing) else None
            if finalizer and finalizer.checkpoint.closing:
                closing = finalizer.checkpoint.closing.why
            file = segment.status(durable_bytes, closing)
        return RecorderStatus(
            self.stream,
            self.inbox.status(record.offset if record else None),
            self._writer.throughput.status(),
            file,
            committed,
            error=self.errors.shown,
            resume_error=resume_error,
            commit_error=commit_error,
            syncing_s=syncing_s,
            halted=halted,
            recovering_s=self._recovery.seconds if isinstance(phase, Recovering) else None,
            uncommitted_s=self._position.uncommitted_s(time.monotonic()),
            finalizing=finalizer.progress.status() if finalizer else None,
        )

    def on_offset_reset(self, earliest: int) -> None:
        """Handle records that were deleted before they were read: reading continues at `earliest`."""
        self._position.on_offset_reset(earliest)
        self.inbox.on_offset_reset(earliest)

    def drain(self) -> bool:
        """Drain for revocation: return True once no file is being finished, and no recovery runs."""
        try:
            if isinstance(self._phase, Finalizing):
                if not self._phase.finalizer.future.done():
                    return False
                self._on_finalized(self._phase.finalizer)
            self._writer.flush()
        except (OSError, KafkaException) as error:
            self.errors.on_error(error)
        if not self.is_recording:
            self._cancellation.set()
        return not isinstance(self._phase, Finalizing) and self._recovery.is_idle

    def release(self, why: str | None = None) -> None:
        """Close the open file as it is: the next recorder of the stream continues from the last commit.

        why: the unexpected error that is the reason, if it is one: the state can't be trusted any more. May be called
        within any method.
        """
        if why:
            log.error("%s: STOPPED %s", self.stream, why)
        if isinstance(self._phase, Released):
            return
        self._cancellation.set()
        self._enter(Released(why, self._phase.finalizer if isinstance(self._phase, Finalizing) else None))
        open_file = self._reset()
        if open_file and not self.is_committing:
            self._close(open_file)  # at once, so that the next recorder of the stream doesn't find it open
            open_file = None
        self._recovery.release(open_file)

    # Recovery and roll-back

    def _poll_recovery(self, *, again: bool) -> None:
        """Start recording once the recovery is done. again: start another attempt if it failed."""
        try:
            recovered = self._recovery.poll(again=again)
        except CheckpointError as error:
            self._enter(Halted(f"{error}; nothing is recorded over it"))
            log.error("%s: STOPPED %s", self.stream, self.halted)
        except (OSError, KafkaException) as error:
            self.errors.on_error(error)
        else:
            if recovered:
                self._resume(recovered)

    def _resume(self, resume_point: ResumePoint) -> None:
        """Set the state to the resume point's."""
        found = resume_point.checkpoint
        assert resume_point.offset is not None
        self.inbox.start(resume_point.offset, found, has_prior_state=resume_point.has_prior_state)
        self._writer.resume(resume_point)
        if found.closing:
            self._start_finalization(resume_point.offset, found, None)
        else:
            self._enter(Recording())

    def handle_sync_error(self, error: SyncError) -> None:
        """Roll back to the last commit: the disk failed to sync what was written."""
        self.errors.on_sync_error(error)
        self._enter(Recovering())
        self._recovery.restart(self._position.roll_back(), self._reset())

    def _reset(self) -> SegmentFile | None:
        """Discard all that isn't committed; return the open file, to be closed."""
        self._unprocessed = None
        self._position.track_uncommitted(time.monotonic(), exists=False)
        self.inbox.clear()
        return self._writer.reset()

    def _close(self, file: SegmentFile) -> None:
        try:
            file.close()
        except OSError as error:
            log.warning("%s: its file can't be closed: %s; what is committed is safe", self.stream, error)

    def _enter(self, phase: lifecycle.Phase) -> None:
        self._phase = lifecycle.following(self._phase, phase)

    # From message to file

    def _work(self) -> None:
        try:
            if isinstance(self._phase, Finalizing) and self._phase.finalizer.future.done():
                self._on_finalized(self._phase.finalizer)
            try:
                while isinstance(self._phase, Recording) and (self._unprocessed or self.inbox):
                    # Nearly always, the buffered records only continue the file.
                    if not self._unprocessed and (run := self.inbox.next_run(self._writer.segmenter)):
                        self._writer.write_run(run)
                    else:
                        self._process_next()
            except ContractError as error:
                self._enter(Unreadable(InvalidRecord(self.inbox.first, str(error), self._query_quarantine)))
            if isinstance(self._phase, Closing) and not self.is_committing:
                self._finish_file(self._phase.reason)
            self._writer.flush(None if self.errors.current else self._executors.writers)
        except SyncError as error:
            if self.is_committing:
                self.errors.on_error(error)  # rolled back once the snapshot is done, if it fails again
            else:
                self.handle_sync_error(error)
        except (OSError, KafkaException) as error:
            self.errors.on_error(error)
        else:
            self.errors.on_success()

    def _process_next(self) -> None:
        record = self._unprocessed = self._unprocessed or self.inbox.next_record()
        if record and (reason := self._writer.write(record, self.inbox.sequence)):
            self._enter(Closing(reason))
        elif record:
            self.inbox.mark_processed(record, self._writer.previous_ms)
            self._unprocessed = None
        self.inbox.report_losses(self._writer.previous_ms)

    def _skip_if_quarantined(self, phase: Unreadable) -> bool:
        """Continue after the unreadable record if it is quarantined; return whether it is."""
        invalid = phase.record
        found = invalid.is_in_quarantine(time.monotonic())
        if found:
            self._enter(Recording())
            self.inbox.skip_quarantined()
            what = "%s: left out the record at offset %d, in quarantine: %s; recording continues"
            log.warning(what, self.stream, invalid.offset, invalid.why)
        elif found is False and not phase.reported:
            why = invalid_record_message(self.stream, invalid.offset, invalid.why)
            self._enter(replace(phase, reported=why))
            log.error("%s: STOPPED %s", self.stream, why)
        return bool(found)

    def _query_quarantine(self) -> Future[frozenset[str]]:
        read = partial(self._consumer.topic_reader.quarantined_digests, self.stream)
        return self._executors.recovery.submit(self.stream, read)

    # Once a second: durable and committed

    def snapshot(self) -> Snapshot | None:
        """Return what can be committed now; None if there is nothing, or it can't be committed now.

        Then nothing else is, until `on_snapshot_done`.
        """
        offset, losses, now_s = self._offset_to_commit(), tuple(self.inbox.losses.unpublished), time.monotonic()
        is_saved = offset is None or self._position.is_saved(offset, self._writer.length_bytes)
        self._position.track_uncommitted(now_s, exists=not is_saved)
        if offset is None or (is_saved and not losses) or isinstance(self._phase, Finalizing):
            return None
        if self.is_committing or self.errors.current or self._cancellation.is_set():
            return None
        try:
            self._writer.flush()
        except OSError as error:
            self.errors.on_error(error)
            return None
        segment = self._writer.segment
        snapshot = Snapshot(
            self.stream,
            self._cancellation,
            offset,
            self._writer.checkpoint(self.inbox.sequence),
            segment.file if segment else None,
            losses,
            now_s,
        )
        self._writer.throughput.mark()
        self._position.on_snapshot(snapshot)
        return snapshot

    def _offset_to_commit(self) -> int | None:
        """Return the offset up to which all is recorded; None if it isn't known, or may not be committed."""
        at = self._unprocessed.offset if self._unprocessed else self.inbox.next_offset
        if at is None or not self.is_recording:
            return None
        offset = self.inbox.sequence.safe_offset(at)
        return offset if self._position.may_commit(offset) else None

    def on_snapshot_done(self, snapshot: Snapshot, *, committed: bool) -> None:
        """Handle a snapshot that is no longer being committed. committed: whether it is durable and committed."""
        self._position.on_snapshot_done(snapshot, committed=committed)
        if committed:
            self.inbox.losses.on_published(len(snapshot.losses))
            self._writer.throughput.on_durable(now_ms())
            self.errors.on_committed()

    # From open to finished

    def _finish_file(self, reason: CloseReason) -> None:
        """Begin to finish the open file, before the record that waits."""
        assert self._writer.segment
        assert self._unprocessed
        self._writer.flush()
        record = self._unprocessed
        closing_id = record_id(record.offset, record.headers, record.time_ms)
        closing = checkpoints.Closing(reason, "0" * 64, closing_id)
        offset = self.inbox.sequence.safe_offset(record.offset)
        checkpoint = with_fields(self._writer.checkpoint(self.inbox.sequence), closing=closing)
        remark = record.headers.why if record.headers.operator else None
        self._start_finalization(offset, checkpoint, self._writer.segment.file, remark)

    def _start_finalization(
        self, offset: int, checkpoint: Checkpoint, file: SegmentFile | None, remark: str | None = None
    ) -> None:
        losses, pool = self.inbox.losses.take_unpublished(), self._executors.finalizers
        finalizer = Finalizer(
            self._archive, self._consumer, pool, offset, checkpoint, file, losses, self._cancellation, remark
        )
        self._enter(Finalizing(finalizer))

    def _on_finalized(self, finalizer: Finalizer) -> None:
        """Continue after a finished file. Raises the Finalizer's error, unless it concerns the partial."""
        try:
            path, after = finalizer.future.result()
        except PartialDamagedError as error:
            self._position.rebuild_from(finalizer.offset)
            self._enter(Recovering())
            self._recovery.rebuild(finalizer.checkpoint, finalizer.offset, str(error), self._reset())
            return
        except SyncError as error:
            self.handle_sync_error(error)
            return
        self._enter(Recording())
        if finished := self._writer.on_finalized(path):
            self._close(finished)
        self._position.on_finalized(finalizer.offset, after)
        self._executors.foreign_checksums.enqueue(self.stream, finalizer.path)
        self._writer.throughput.mark()
        self._writer.throughput.on_durable(now_ms())
