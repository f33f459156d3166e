"""The recording loop: hands messages to the stream recorders, and commits everything durable once a second.

One thread polls and decides what is written where; a few more write large amounts. Syncs, recovery, events of losses
and finishing files have threads of their own: no stream waits for another's disk, and only a stream with an event to
publish waits for g3.files. What is durable is committed for all streams in one request.
"""

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from confluent_kafka import KafkaException

from archiver.archive.ownership import AnotherArchiveError, identify
from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import CheckpointError
from archiver.core.events import Event
from archiver.core.segmentation import Settings
from archiver.kafka.commit_errors import CommitErrors
from archiver.kafka.group_consumer import CommittedOffset, GroupConsumer
from archiver.kafka.new_owners import NewOwners
from archiver.kafka.offset_commits import FencedError, MemberEvicted
from archiver.kafka.topic_reader import BATCH_BYTES, TopicReader
from archiver.recording.commit_cycle import CommitPipeline, NotCommittableError
from archiver.recording.commit_position import Snapshot
from archiver.recording.executors import Executors
from archiver.recording.status import ArchiveStatus
from archiver.recording.stream_failures import StreamFailures
from archiver.recording.stream_recorder import StreamRecorder
from archiver.segments.segment_file import SyncError
from g3stream.contract.topics import stream_of_topic
from g3stream.host.activity import Activity
from g3stream.kafka.throttling import Throttling
from g3stream.service.timeouts import call_unless_stopped

log = logging.getLogger(__name__)

_COMMIT_SECONDS = 1.0
_POLL_SECONDS = 0.25
_BUSY_POLL_SECONDS = 0.01
_STOP_SECONDS = 4.0
_IDENTIFY_AGAIN_SECONDS = 0.5
_REVOKE_SECONDS = 0.5
"""How long revoked streams may take to finish their files. After that the next member finishes them: during a
rebalance, all streams that stay here wait."""
_EXECUTORS_SECONDS = 1.0
"""Timeout at a stop for threads that wait for Kafka: a resolver may hang, and nothing is lost without them."""
_DISK_SECONDS = 15.0
"""How long, twice at most, a sync may take at a revocation; without it, the records are recorded again."""
_ASSIGNED_ELSEWHERE = "the group has assigned it to another member, unless its topic was deleted"


class RecordingLoop:
    """Records streams into one data directory.

    It has more attributes than other classes, as it makes the parts of the recording and connects them.
    config: librdkafka settings; a wrong one raises KafkaException.
    streams: which to record; None for all, including new ones.
    on_published: called with each event once it is on g3.files, on any thread.
    stopping: ends `run`.
    throttling: of the clients made with `config`.
    away_since_s: when an outage of Kafka began whose end the loop before this one did not log; monotonic.
    """

    def __init__(
        self,
        root: ArchiveRoot,
        settings: Settings,
        config: Mapping[str, Any],
        instance_id: str,
        streams: Sequence[str] | None,
        on_published: Callable[[Event], None],
        stopping: threading.Event,
        throttling: Throttling,
        away_since_s: float | None = None,
    ) -> None:
        self.stopping = stopping
        self._throttling = throttling
        self._archive = root
        self._settings = settings
        self._recorders: dict[str, StreamRecorder] = {}
        self._paused: set[str] = set()  # until `resume`, whatever the consumer does meanwhile
        self._consumer = GroupConsumer(
            config, root.group, instance_id, streams, self, on_published, stopping, away_since_s
        )
        self._new_owners = NewOwners(TopicReader(config, root.group), instance_id)
        self._executors = Executors(root.location)
        self._commits = CommitPipeline(self._consumer, self._executors)
        self._commit_errors = CommitErrors(root.group)
        self._activity = Activity()
        self._failures = StreamFailures(self._consumer, self._executors)
        self._identify_error: str | None = None  # why nothing is recorded yet
        self._next_commit_s = 0.0
        self._turn_started_s = time.monotonic()

    @property
    def away_since_s(self) -> float | None:
        """When an outage of Kafka began that was logged, and whose end wasn't; of the monotonic clock."""
        return self._consumer.broker_health.away_since_s

    def run(self) -> None:
        """Record until `stopping` is set, then leave every open file durable and committed.

        Also returns when Kafka throttles for longer than the clients' timeouts allow.
        Raises FencedError, AnotherArchiveError if the group records into another archive, OSError.
        """
        try:
            identified = self._identify()
            if identified:
                self._consumer.join()
            while identified and not (self.stopping.is_set() or self._throttling.needs_long_timeout):
                self._turn_started_s = time.monotonic()
                try:
                    self._run_once()
                except MemberEvicted as error:
                    self._evict(list(self._recorders), error)
                except KafkaException:
                    if not self.stopping.is_set():
                        raise
            if self.stopping.is_set():
                log.info("stopping")
                if self._recorders:
                    log.info("released %s: this archiver stops", ", ".join(sorted(self._recorders)))
            committed = self._revoke(list(self._recorders), _STOP_SECONDS)
        finally:
            self._new_owners.close()
            self._release(list(self._recorders), "this archiver stops")
            self._consumer.shut_down()
            self._executors.shutdown(_EXECUTORS_SECONDS if self.stopping.is_set() else None)
            self._consumer.close()
        if self.stopping.is_set():
            log.info("stopped; everything recorded is durable%s", " and committed" if committed else "")

    def status(self) -> ArchiveStatus:
        """Return the present status. Thread-safe."""
        syncing = self._commits.syncing()
        streams = [
            r.status(
                syncing.get(r.stream, 0.0),
                self._commit_errors.error_of(r.stream),
                self._consumer.assignment.resume_error(r.stream),
            )
            for r in list(self._recorders.values())
        ]
        return ArchiveStatus(
            streams=tuple(streams),
            kafka_error=self._consumer.broker_health.error,
            unpublished=self._consumer.events.error,
            topic_differences=self._consumer.topic_watch.all(),
            turn_s=time.monotonic() - self._turn_started_s,
            commit_latency=self._commits.commit_latency.counts(),
            sync_latency=self._commits.sync_latency.counts(),
            throttled_s=self._throttling.total_s,
            commit_error=self._commit_errors.operator_error(),
            hanging_write=self._activity.hang(),
            throttled=self._throttling.problem(time.monotonic()),
            identify_error=self._identify_error,
        )

    @property
    def fenced_by_own_commit(self) -> bool:
        """Whether a FencedError may come from our own late commit: then a new loop may join the group."""
        return self._consumer.commits.fenced_by_own_commit

    @property
    def ids(self) -> tuple[str, ...]:
        """The archive's ids, its own first; none until the data directory is known to be the group's archive."""
        return self._archive.ids

    def _identify(self) -> bool:
        """Wait for Kafka, and check that the data directory is the group's archive before anything is written there.

        Returns False if `run` has to end first. Raises AnotherArchiveError, OSError.
        """
        while not (self.stopping.is_set() or self._throttling.needs_long_timeout):
            try:
                act = partial(identify, self._archive, self._consumer.topic_reader)
                self._archive = call_unless_stopped(self.stopping, "identifying", act)
                self._identify_error = None
                return True
            except TimeoutError:
                if not self.stopping.is_set():
                    raise
            except KafkaException as error:
                self._identify_error = None  # reported as Kafka's error instead
                self._consumer.broker_health.on_error(error.args[0])
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                why = f"{self._archive.location.data_dir}: can't store the archive's identity: {error}"
                if not self._identify_error:
                    log.error("%s; records wait in Kafka; still trying", why)
                self._identify_error = why
            self.stopping.wait(_IDENTIFY_AGAIN_SECONDS)
        return False

    def _run_once(self) -> None:
        waiting = {recorder for recorder in self._recorders.values() if recorder.is_waiting}
        is_committing = bool(self._commits)
        busy = is_committing or waiting or not self._consumer.has_assignment
        touched = set()
        messages = self._consumer.poll(_BUSY_POLL_SECONDS if busy else _POLL_SECONDS)
        size = 0
        for message in messages:
            length = len(message)
            size += length
            recorder = self._recorders.get(stream_of_topic(message.topic() or ""))
            if recorder:
                recorder.inbox.append(message, length)
                touched.add(recorder)
        # Records that wait in Kafka come first: a digest would take the time in which they could be written.
        behind = size >= BATCH_BYTES
        now = time.monotonic()
        tick = now >= self._next_commit_s
        for recorder in list(self._recorders.values()):
            is_moved = recorder.stream in self._paused or recorder.inbox.deliveries.seek_to is not None
            if tick or is_moved or recorder in touched or recorder in waiting:
                with self._isolated(recorder):
                    self._advance(recorder, recorder in touched, tick=tick, behind=behind)
        if is_committing:
            self._handle_commit_results()
        if tick:
            self._commit(self._recorders.values())
            self._next_commit_s = now + _COMMIT_SECONDS

    def _advance(self, recorder: StreamRecorder, touched: bool, *, tick: bool, behind: bool) -> None:
        """Run one turn of the loop for one stream."""
        with self._activity.track(f"a write to the file of {recorder.stream}"):
            recorder.poll(has_messages=touched, tick=tick)
        if tick:
            recorder.on_tick(self._consumer.end_offset(recorder.stream), digests=not behind)
        self._pause_or_resume(recorder)
        if tick and recorder.has_failed and recorder.is_idle:
            committed = self._failures.due(recorder.stream, time.monotonic())
            if committed:
                log.info("%s: trying again", recorder.stream)
                self.on_assigned([committed])

    @contextmanager
    def _isolated(self, recorder: StreamRecorder) -> Iterator[None]:
        """Let an unexpected error of one stream stop that stream only.

        Errors that concern all streams end the archiver: another archiver has taken over, the group has evicted this
        member or records into another archive, or memory is exhausted.
        """
        try:
            yield
        except (FencedError, MemberEvicted, AnotherArchiveError, MemoryError):
            raise
        except (KafkaException, OSError) as error:
            recorder.errors.on_error(error)
        except CheckpointError as error:  # its state could not be read back, and that would not change
            log.exception("%s: its state can't be committed; its records wait in Kafka", recorder.stream)
            recorder.release(f"{error}; nothing more is recorded")
        except Exception as error:
            log.exception("%s: failed; its records wait in Kafka", recorder.stream)
            seconds = self._failures.failed(recorder.stream, time.monotonic())
            what = f"{type(error).__name__}: {error}"
            recorder.release(f"by an error of this program, see the log: {what}; trying again in {seconds:g} s")

    def _pause_or_resume(self, recorder: StreamRecorder) -> None:
        stream = recorder.stream
        if recorder.backpressured and stream not in self._paused:
            self._consumer.assignment.pause(stream)
            self._paused.add(stream)
            return
        deliveries = recorder.inbox.deliveries
        if stream not in self._paused:
            if deliveries.seek_to is not None and self._consumer.assignment.seek(stream, deliveries.seek_to):
                deliveries.on_seek_done()
        elif not recorder.backpressured and not recorder.inbox:
            at = deliveries.next_offset
            if at is not None and self._consumer.assignment.resume(stream, at):
                deliveries.on_seek_done()
                self._paused.remove(stream)

    # Durable and committed, once a second

    def _commit(self, recorders: Iterable[StreamRecorder]) -> None:
        """Begin to commit what these have recorded."""
        for recorder in recorders:
            if snapshot := self._snapshot(recorder):
                self._commits.submit(recorder, snapshot)

    def _snapshot(self, recorder: StreamRecorder) -> Snapshot | None:
        with self._isolated(recorder), self._activity.track(f"a write to the file of {recorder.stream}"):
            return recorder.snapshot()
        return None  # it failed

    def _handle_commit_results(self) -> None:
        for result in self._commits.poll():
            recorder, error = result.recorder, result.error
            with self._isolated(recorder):
                recorder.on_snapshot_done(result.snapshot, committed=error is None)
            if error is None:
                self._commit_errors.on_success(recorder.stream)
            elif isinstance(error, KafkaException):
                self._commit_errors.on_failure(recorder.stream, error)
            elif isinstance(error, FencedError):
                raise error
            elif isinstance(error, NotCommittableError) or self._recorders.get(recorder.stream) is not recorder:
                continue  # or it came late: the stream has been released since
            elif isinstance(error, MemberEvicted):
                self._evict([recorder.stream], error)
            elif not recorder.has_failed:
                with self._isolated(recorder):
                    if not isinstance(error, SyncError):
                        raise error
                    recorder.handle_sync_error(error)

    # Rebalances: the consumer's listener

    def on_assigned(self, committed: Sequence[CommittedOffset]) -> None:
        """Start recording these streams."""
        for found in committed:
            self._recorders[found.stream] = StreamRecorder(
                found, self._settings, self._archive, self._consumer, self._executors
            )
            self._paused.add(found.stream)
        self._new_owners.discard(found.stream for found in committed)
        if committed:
            log.info("recording %s", ", ".join(sorted(found.stream for found in committed)))

    def on_revoked(self, streams: Sequence[str]) -> None:
        """Drain and release these streams: they go to another member."""
        if ours := [stream for stream in streams if stream in self._recorders]:
            text = "released %s: another member of the group has joined, or a topic was deleted"
            log.info(text, ", ".join(sorted(ours)))
            self._revoke(ours, _REVOKE_SECONDS)
            self._new_owners.find(ours)

    def on_lost(self, streams: Sequence[str]) -> None:
        """Release these streams at once: another member records them already, or may do so."""
        is_away = self._consumer.broker_health.error
        self._release(streams, "Kafka was away for longer than a session lasts" if is_away else _ASSIGNED_ELSEWHERE)
        self._new_owners.find(streams)

    def _evict(self, streams: Sequence[str], error: MemberEvicted) -> None:
        self._release(streams, f"{_ASSIGNED_ELSEWHERE}: this archiver was evicted ({error})")
        self._new_owners.find(streams)

    def on_offset_out_of_range(self, stream: str, earliest: int) -> None:
        """Continue at the earliest offset: retention has deleted records that weren't recorded yet."""
        recorder = self._recorders.get(stream)
        if recorder and recorder.is_recording:
            self._paused.discard(stream)  # the consumer has resumed it
            with self._isolated(recorder):
                recorder.on_offset_reset(earliest)
        elif recorder:  # its records would only pile up; recovery finds the offset again
            self._consumer.assignment.pause(stream)

    def _revoke(self, streams: Sequence[str], seconds: float) -> bool:
        """Leave these streams durable and committed within that time; return whether all of it was."""
        if not streams:  # as when the consumer is closed, after the executors
            return True
        until = time.monotonic() + seconds
        recorders = [self._recorders[stream] for stream in streams]
        try:
            self._handle_commit_results()
            self._commit(recorder for recorder in recorders if recorder.inbox.losses.unpublished)
            while True:
                self._consumer.commit_sync()
                self._handle_commit_results()
                settled = all([self._drained(recorder) for recorder in recorders])
                held = any(recorder.is_committing for recorder in recorders)
                late = time.monotonic() - until
                if (settled and not held) or self._consumer.unavailable or late >= (_DISK_SECONDS if held else 0):
                    break
                time.sleep(0.005)  # threads may need this one to commit: there is no single event to wait for
            self._commits.log_hanging(streams)
            # Losses that couldn't be published by now are noticed again.
            unpublished = [r.stream for r in recorders if r.inbox.losses.unpublished]
            ready = [recorder for recorder in recorders if recorder.stream not in unpublished]
            snapshots = [(recorder, snapshot) for recorder in ready if (snapshot := self._snapshot(recorder))]
            results = self._commits.commit_now(snapshots, _DISK_SECONDS)
            for result in results:
                result.recorder.on_snapshot_done(result.snapshot, committed=result.error is None)
            for result in results:
                if isinstance(result.error, KafkaException | FencedError | MemberEvicted):
                    raise result.error
            done = [result for result in results if result.error is None]
            committed = settled and not held and not unpublished and len(done) == len(snapshots)
        except (KafkaException, MemberEvicted) as error:
            log.warning("the last commit failed (%s); records since the one before are recorded again", error)
            committed = False
        for stream in streams:
            self._commit_errors.discard(stream)
            if leaving := self._recorders.pop(stream, None):
                with self._isolated(leaving):
                    leaving.release()
            else:  # released meanwhile: a commit showed that the group had assigned it to another member
                committed = False
        return committed

    def _drained(self, recorder: StreamRecorder) -> bool:
        with self._isolated(recorder):
            return recorder.drain()
        return True  # it failed

    def _release(self, streams: Sequence[str], why: str) -> None:
        for stream in streams:
            if recorder := self._recorders.pop(stream, None):
                log.warning("%s: released: %s; its next archiver continues from the last commit", stream, why)
                self._commit_errors.discard(stream)
                with self._isolated(recorder):
                    recorder.release()
