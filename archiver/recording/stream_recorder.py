"""The recording of one stream: its records in, its open file out, between two commits.

What decides is elsewhere: core/sequence.py says which records count, core/segmentation.py where files begin and end.
This is the thread of the loop (archiver/loop.py) carrying that out, and it never waits for a disk's sync or for
Kafka: those are done on other threads, by `make_durable` and `finish`, with what is frozen here for them.
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
from archiver.core.segmentation import LEFT_OUT, Effect, Settings, State, Why, closes, is_carried, room, step, went_on
from archiver.core.sequence import Record
from archiver.kafka.group_consumer import Committed, Feed
from archiver.kafka.invalid_records import ForeignRecord, stopped_at
from archiver.recording.commit_lag import Uncommitted
from archiver.recording.executors import Pools
from archiver.recording.finalizer import finish
from archiver.recording.finalizer_status import FinishingProgress
from archiver.recording.inbox import Incoming
from archiver.recording.loss_reporter import together
from archiver.recording.snapshot import Snapshot
from archiver.recording.status import RecordingStatus
from archiver.recording.throughput import Recorded
from archiver.recovery.recovery import TakingUp
from archiver.recovery.resume_point import Resumed
from archiver.segments.carry import Carry
from archiver.segments.open_segment import GrowingFile, id_of
from archiver.segments.segment_file import PartialDamagedError, SegmentFile, SyncError
from g3stream.contract.errors import ContractError
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.service.cancellation import Abandoned

log = logging.getLogger(__name__)

_SAY_AGAIN_SECONDS = 60.0
BACKLOG_BYTES = 16 << 20
"""Records that wait while a file is being finished, or the disk is full, before the stream is paused."""


@dataclass(frozen=True, slots=True)
class _Finishing:
    """A file that is being finished on another thread, and the checkpoint that holds it, committed at `offset`."""

    offset: int
    of: Checkpoint
    done: Future[Checkpoint]
    progress: FinishingProgress


class Recording:
    """Records one stream from what was committed for it. settings: for acquisitions that begin from now on.

    `incoming` takes its messages; `work` does them. Raises nothing on a full disk: `trouble` says what it is, and
    `work` tries again.
    """

    def __init__(
        self,
        committed: Committed,
        settings: Settings,
        archive: ArchiveRoot,
        feed: Feed,
        pools: Pools,
    ) -> None:
        self.stream = committed.stream
        self.held = False  # by Committing, while it makes a snapshot durable: the file can't be finished meanwhile
        self.stopped: str | None = None  # by what can't be understood: for good, or until `foreign` passes
        self.foreign: ForeignRecord | None = None  # at which it stands
        self.end: int | None = None  # after the topic's last record, as far as Kafka has told
        self.trouble: str | None = None  # of the disk; it will pass
        self.failed = False
        self._left_running: Future[Checkpoint] | None = None  # a finishing that didn't know yet that it failed
        self.abandoned = Abandoned()
        self.incoming = Incoming(archive, committed.stream, committed.offset)
        self.recorded = Recorded()
        self._settings = settings
        self._next_settings = settings  # of the acquisition that begins next
        self._archive = archive
        self._feed = feed
        self._pools = pools
        self._committed = committed
        self._last_commit: tuple[int, Checkpoint] | None = None  # since then
        self._state = State(self.stream)
        self._files = 0
        self._carry = Carry()
        self._open: GrowingFile | None = None
        self._record: Record | None = None  # whole, but not stepped yet
        self._why: Why | None = None  # the open file must be finished before it is
        self._finishing: _Finishing | None = None
        self._taking_up = TakingUp(archive, feed, pools.takers, committed, self.abandoned)
        self._since: int | None = None  # of the last recorded frame before it
        self._syncs_fail = False
        self._say_trouble_at = 0.0
        self._saved: tuple[int | None, int] = (committed.offset, -1)
        self._uncommitted = Uncommitted()
        self._floor = committed.offset if committed.metadata else None
        """What had been committed when reading began. While a file is rebuilt from its first record, what is recorded
        lies below it: then nothing is committed, and a kill has it rebuilt again."""

    # What is asked of a recording by the loop

    @property
    def taken_up(self) -> bool:
        """Whether it is known from where to go on; until then another thread finds out."""
        return self._taking_up.over

    def take_up(self, *, again: bool) -> None:
        """Go on, once it is known from where. again: find out again, if that has failed."""
        try:
            taken = self._taking_up.result(again=again)
        except CheckpointError as error:
            self.stop(f"{error}; nothing is recorded over it")
        except (OSError, KafkaException) as error:
            self.say_trouble(error)
        else:
            if taken:
                self._go_on(taken.resumed, taken.carry)

    def work(self) -> None:
        """Do what can be done now. Raises FencedError, EvictedError."""
        if not self.taken_up or self.stopped or self.foreign:
            return
        try:
            self._see_to_finishing()
            try:
                while not self._why and not self._finishing and (self._record or self.incoming):
                    if self._record is None:
                        self._record = self.incoming.record()
                    if self._record is not None:
                        self._step(self._record)
                    self.incoming.tell_losses(self._since)
            except ContractError as error:
                self.foreign = ForeignRecord(self.incoming.first, str(error), self._look_into_quarantine)
            self._see_to_finishing()
            if self._open and self.trouble:
                self._open.file.flush()
            elif self._open:
                self._open.file.begin_flush(self._pools.writers)
        except SyncError as error:
            if self.held:
                self.say_trouble(error)  # it is gone back from once the snapshot is done with, if it fails again
            else:
                self.sync_failed(error)
        except (OSError, KafkaException) as error:
            self.say_trouble(error)
        else:
            if self.trouble is not None:
                log.info("%s: writing again", self.stream)
            self.trouble = None

    def passes(self, foreign: ForeignRecord) -> bool:
        """Whether recording goes on after that record, at which it stands: it is in quarantine."""
        found = foreign.is_in_quarantine(time.monotonic())
        if found:
            self.foreign = self.stopped = None
            self.incoming.leave_out()
            log.warning(
                "%s: left out the record at offset %d, in quarantine: %s", self.stream, foreign.offset, foreign.why
            )
        elif found is False and not self.stopped:
            self.stop(stopped_at(self.stream, foreign.offset, foreign.why))
        return bool(found)

    def _look_into_quarantine(self) -> Future[frozenset[str]]:
        look = partial(self._feed.history.in_quarantine, self.stream)
        return self._pools.takers.submit(self.stream, look, stateless=False)

    def follow(self) -> None:
        """Let the SHA-256 of the open file come nearer to its end."""
        if self._open and not self._finishing:
            self._open.follow(self._pools.finishers)

    def stop(self, why: str) -> None:
        """Record no more of this stream: going on would be guessing."""
        self.stopped = why
        log.error("%s: STOPPED %s", self.stream, why)

    def fail(self, why: str) -> None:
        """Let go of all that there is, after an error that nobody expected: its state isn't to be trusted any more.
        To be called in the midst of any method."""
        self.stop(why)
        if self.failed:
            return
        self.foreign = None
        if self._finishing:
            self._left_running = self._finishing.done
        try:
            self.abandon()
        except OSError as error:
            log.warning("%s: its file can't be closed: %s", self.stream, error)
        self.failed = True

    @property
    def at_rest(self) -> bool:
        """Whether no other thread does anything for it, once it has failed."""
        return not self.held and (self._left_running is None or self._left_running.done())

    def say_trouble(self, error: OSError | KafkaException) -> None:
        """The disk, or Kafka, can't be used now; what is to be written waits, here and in Kafka."""
        now = time.monotonic()
        of_disk = isinstance(error, OSError)
        why = str(error) if of_disk else error.args[0].str()
        if self.trouble is None or now >= self._say_trouble_at:
            self._say_trouble_at = now + _SAY_AGAIN_SECONDS
            what = "can't write" if of_disk else "can't ask Kafka for what it needs"
            log.error("%s: %s: %s; records wait in Kafka, still trying", self.stream, what, why)
        self.trouble = why

    @property
    def busy(self) -> bool:
        """Whether something here waits for another thread, or for a disk with room."""
        waits = self._finishing or self._why or self.trouble or self.foreign or not self.taken_up
        return bool(waits) and not self.stopped

    @property
    def crowded(self) -> bool:
        """Whether no more records should be delivered for now."""
        waits = self.stopped or self.trouble or not self.taken_up
        return bool(waits) or self.incoming.bytes > BACKLOG_BYTES

    def status(self, unread: str | None = None) -> RecordingStatus:
        """How it is now; for any thread. unread: why Kafka doesn't give it on."""
        record, opened, finishing, incoming = self._record, self._open, self._finishing, self.incoming
        committed, durable_bytes = self._saved
        file = None
        if opened:
            closing = finishing.of.closing if finishing else None
            file = opened.status(max(0, durable_bytes), closing.why if closing else self._why)
        return RecordingStatus(
            stream=self.stream,
            offset=record.offset if record else incoming.next,
            committed=committed,
            end=self.end,
            time=incoming.time,
            frames=self.recorded.frames,
            bytes=self.recorded.bytes,
            latency=self.recorded.latency.counts(),
            file=file,
            losses=incoming.losses.times,
            lost_records=incoming.losses.records,
            duplicates=incoming.seen.duplicates,
            turns=incoming.seen.turns,
            trouble=self.trouble or ("the disk didn't take its file" if self._syncs_fail else None),
            unread=unread,
            stopped=self.stopped,
            taking_up=None if self.stopped else self._taking_up.seconds,
            uncommitted=self._uncommitted.seconds,
            finishing=finishing.progress.status() if finishing else None,
            misdeliveries=incoming.deliveries.faults,
            left_out=incoming.left_out,
            times_replaced=incoming.times_replaced,
            repeated_frames=self.recorded.repeated,
        )

    def snapshot(self) -> Snapshot | None:
        """What there is to commit, or None if that is committed, or can't be now."""
        offset = self._offset_to_commit()
        if offset is None or self._finishing or self.held or self.trouble:
            return None
        if self.abandoned.is_set():  # without its file its state contradicts itself
            return None
        if self._open:
            try:
                self._open.file.flush()
            except OSError as error:
                self.say_trouble(error)
                return None
        written = self._open.file.written if self._open else 0
        losses = tuple(self.incoming.losses.events)
        if self._saved == (offset, written) and not losses:
            return None
        file = self._open.file if self._open else None
        checkpoint, mark = self._checkpoint(), self.recorded.mark()
        return Snapshot(self.stream, self.abandoned, offset, checkpoint, file, losses, mark, time.monotonic())

    def watch(self) -> None:
        """See whether there is something to commit: how long it waits is watched. (To be called each second.)"""
        offset = self._offset_to_commit()
        length = self._open.file.length if self._open else 0
        self._uncommitted.see(there_is=offset is not None and self._saved != (offset, length))

    def _offset_to_commit(self) -> int | None:
        """Up to where all is recorded; None if that isn't known, or lies where nothing may be committed any more."""
        at = self._record.offset if self._record else self.incoming.next
        if at is None or not self.taken_up:
            return None
        offset = self.incoming.seen.safe_offset(at)
        return None if self._floor is not None and offset < self._floor else offset

    def saved(self, snapshot: Snapshot) -> None:
        """That snapshot is durable and committed."""
        partial = snapshot.checkpoint.partial
        self._saved = (snapshot.offset, partial.length if partial else 0)
        del self.incoming.losses.events[: len(snapshot.losses)]
        self.recorded.durable(snapshot.mark, _now())
        self._last_commit = snapshot.offset, snapshot.checkpoint
        self._uncommitted.committed(snapshot.taken)
        if self._syncs_fail:
            self._syncs_fail = False
            log.info("%s: the disk takes its file again", self.stream)

    def sync_failed(self, error: SyncError) -> None:
        """The disk failed to take what was written: go back to what it had taken before."""
        if self.failed:
            return
        if not self._syncs_fail:
            log.error(
                "%s: the disk didn't take its file: %s; going back to what was committed, until it does",
                self.stream,
                error,
            )
        self._syncs_fail = True
        if self._last_commit:
            offset, checkpoint = self._last_commit
            self._committed = Committed(self.stream, offset, checkpoints.encode(checkpoint))
            self._floor = offset
        self._taking_up.go_back(self._committed, self._give_up_file())

    def overtaken(self, earliest: int) -> None:
        """Records were deleted before they were read; reading goes on at `earliest`."""
        if self._floor is not None and earliest < self._floor:
            # Another topic of that name, or what is rebuilt can't be read again: what is recorded is all there is.
            self._floor = None
        self.incoming.overtaken(earliest)

    def abandon(self) -> None:
        """Let go of the open file as it is; whoever has the stream next goes on from what was committed."""
        if self.failed:
            return
        self.abandoned.set()
        left = self._give_up_file()
        if left and not self.held:
            left.close()  # at once, so that whoever has the stream next doesn't find it open
            left = None
        self._taking_up.abandon(left)

    def settle(self) -> bool:
        """Come to a state that can be committed, or in which there is nothing to commit; gives whether it is there,
        or another thread still finishes a file or takes the stream up. To be followed by `abandon`."""
        if self._finishing and not self._finishing.done.done():
            return False
        try:
            if self._finishing:
                self._take_over(self._finishing)
            if self._open:
                self._open.file.flush()
        except (OSError, KafkaException) as error:
            self.say_trouble(error)
        if not self.taken_up:
            self.abandoned.set()
        return not self._finishing and self._taking_up.at_rest

    # From message to file

    def _step(self, record: Record) -> None:
        label, time = record.label, record.time
        self._since = self._state.last or None
        self._why = closes(self._state, label, time)
        if self._why:
            return
        state, effect = step(self._state, label, time, self._next_settings)
        if effect is Effect.OPEN_AND_WRITE:
            self._open = self._open_file(state, record)
            self._next_settings = self._settings
        if effect is not Effect.NOTHING:
            self._write(state, record)
        elif label.kind is Kind.FRAME and label.type not in LEFT_OUT:
            self.recorded.repeated += 1
        self._state = state
        self.incoming.saw(record, self._since)
        self._record = None
        self._write_run(label)

    def _write_run(self, label: RecordHeaders) -> None:
        """Nearly always, what waits only goes on after the record of that label."""
        run = self.incoming.run(label, room(self._state, label))
        if run:
            assert self._open
            assert run.label.num is not None
            self._open.write_run(run)
            for time, value in zip(run.times, run.values, strict=True):
                self.recorded.wrote(time, len(value))
            self._state = went_on(self._state, run.label.num, run.times[-1])

    def _open_file(self, state: State, record: Record) -> GrowingFile:
        """Raises OSError, and then nothing has changed."""
        seen = self.incoming.seen
        base = Base(seen.safe_offset(record.offset), self._state, {}, self._carry.places(self._state.carry))
        with self._archive.private(self.stream) as private:
            opened = GrowingFile.begin(
                private, state, record, base, seen.epochs(), self._carry, md5=self._archive.md5
            )
        log.info("%s: opened %s", self.stream, opened.path)
        return opened

    def _write(self, state: State, record: Record) -> None:
        opened = self._open
        assert opened
        code = record.label.type
        if code is not None and is_carried(state, record.label):
            self._carry.keep(code, record, opened.path, opened.file.length)
        before = opened.file.length
        opened.write(record)
        self.recorded.wrote(record.time, opened.file.length - before)
        assert state.acquisition
        if state.acquisition.other_ids and self._state.acquisition and not self._state.acquisition.other_ids:
            log.warning("%s: frames in %s name another id than its own", self.stream, opened.path)

    # From open to finished

    def _see_to_finishing(self) -> None:
        """Begin to finish the open file if it is time; take over from a finishing that is done."""
        if self._finishing and self._finishing.done.done():
            self._take_over(self._finishing)
        if self._why and not self._finishing and not self.held:
            assert self._open
            assert self._record
            self._open.file.flush()
            closing = Closing(self._why, "0" * 64, id_of(self._record))
            offset = self.incoming.seen.safe_offset(self._record.offset)
            self._finish(offset, replace(self._checkpoint(), closing=closing), self._open.file)

    def _finish(self, offset: int, of: Checkpoint, file: SegmentFile | None) -> None:
        told = self.incoming.losses
        losses, told.events = together(told.events), []
        assert of.partial
        progress = FinishingProgress(of.partial.path)
        done = self._pools.finishers.submit(
            finish, self._archive, self._feed, offset, of, file, losses, self.abandoned, progress
        )
        self._finishing = _Finishing(offset, of, done, progress)

    def _take_over(self, finishing: _Finishing) -> None:
        """Go on from what a finishing came to; raises what it raised, but for what is wrong with the partial."""
        try:
            after = finishing.done.result()
        except PartialDamagedError as error:
            self._floor = finishing.offset  # its end may be committed already
            self._taking_up.rebuild(finishing.of, finishing.offset, str(error), self._give_up_file())
            return
        except SyncError as error:
            self.sync_failed(error)
            return
        self._finishing = self._why = None
        if self._open:
            self._open.file.close()
            self._open = None
        self._state = after.state
        self._files = after.files
        self._carry.moved(after.carry)
        self._last_commit = finishing.offset, after
        self._uncommitted.see(there_is=False)
        self._saved = finishing.offset, 0
        assert finishing.of.partial
        self._pools.foreign_sums.look_at(self.stream, finishing.of.partial.path)
        self.recorded.durable(self.recorded.mark(), _now())

    # From and to what is committed

    def _checkpoint(self) -> Checkpoint:
        epochs, forgotten = self.incoming.seen.epochs(), self.incoming.seen.forgotten
        partial = self._open.partial(epochs) if self._open else None
        return Checkpoint(
            self._state,
            epochs,
            self._files,
            self._carry.places(self._state.carry),
            partial,
            archive=self._archive.mark,
            forgotten=forgotten,
        )

    def _go_on(self, resumed: Resumed, carry: Carry) -> None:
        """Be as the checkpoint says."""
        found = resumed.checkpoint
        self._state = found.state
        self._files = found.files
        assert resumed.offset is not None
        self.incoming.begin(resumed.offset, found, known=resumed.known)
        self._carry = carry
        self._open = resumed.file
        self._next_settings = resumed.settings or self._settings
        if found.closing:
            self._finish(resumed.offset, found, None)

    def _give_up_file(self) -> SegmentFile | None:
        """Forget all that isn't committed; gives the open file, to be closed."""
        opened, self._open = self._open, None
        self._finishing = self._record = self._why = None
        if self.foreign:
            self.foreign = self.stopped = None  # it is met again
        self.recorded.undone()
        self._uncommitted.see(there_is=False)
        self.incoming.clear()
        return opened.file if opened else None


def _now() -> int:
    """Ms since the epoch, UTC."""
    return time.time_ns() // 1_000_000
