"""The loop: records from the feed to the recordings, and once a second everything durable and committed.

One thread polls, and says what is written where. A few write, when it is much. Others make durable, take streams up,
tell losses, and finish files, each at its own pace, so that no stream waits for another's disk, and none for g3.files
that has nothing to tell. What is durable is committed for all streams in one request.
"""

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
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
from archiver.kafka.offset_commits import FencedError, MemberEvicted
from archiver.kafka.topic_reader import BATCH_BYTES
from archiver.recording.commit_cycle import CommitPipeline, CommitResults
from archiver.recording.executors import Executors
from archiver.recording.snapshot import Snapshot
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
"""How long streams that are let go of may take to finish their files, before these are left as they are. Whoever has
them next does it then; and while they go to another member, all that stay here wait."""
_EXECUTORS_SECONDS = 1.0
"""At a stop, for what waits for Kafka: it may wait for a resolver that hangs, and has nothing to lose."""
_DISK_SECONDS = 15.0
"""How long, twice at most, their disks may take for a sync, before what that was for is left to be recorded again."""


class RecordingLoop:
    """Records streams into one data directory. streams: which, None for all there are and will be.

    told: is given each event that is on g3.files now, in any thread. stopping: ends `run`. config: librdkafka
    settings. throttling: of the clients made with those. Raises KafkaException on a wrong one.
    """

    def __init__(
        self,
        root: ArchiveRoot,
        settings: Settings,
        config: Mapping[str, Any],
        instance_id: str,
        streams: Sequence[str] | None,
        told: Callable[[Event], None],
        stopping: threading.Event,
        throttling: Throttling,
    ) -> None:
        self.stopping = stopping
        self._throttling = throttling
        self._archive = root
        self._settings = settings
        self._recorders: dict[str, StreamRecorder] = {}
        self._paused: set[str] = set()  # until `resume`, whatever the Feed does meanwhile
        self._consumer = GroupConsumer(config, root.group, instance_id, streams, self, told, stopping)
        self._executors = Executors(root.location)
        self._commits = CommitPipeline(self._consumer, self._executors)
        self._commit_errors = CommitErrors(root.group)
        self._activity = Activity()
        self._failures = StreamFailures(self._consumer, self._executors)
        self._identify_error: str | None = None  # why nothing is recorded yet
        self._next_commit_s = 0.0
        self._turn_started_s = time.monotonic()

    def run(self) -> None:
        """Record until `stopping` is set, or Kafka throttles for longer than the clients' timeouts allow; then leave
        every open file durable and committed.

        Raises FencedError, AnotherArchiveError if the group records to another one, OSError.
        """
        try:
            ours = self._identify()
            if ours:
                self._consumer.join()
            while ours and not (self.stopping.is_set() or self._throttling.needs_long_timeout):
                self._turn_started_s = time.monotonic()
                try:
                    self._run_once()
                except MemberEvicted as error:
                    self._release(list(self._recorders), f"the group has given them away ({error})")
                except KafkaException:
                    if not self.stopping.is_set():
                        raise
            if self.stopping.is_set():
                log.info("stopping")
            committed = self._revoke(list(self._recorders), _STOP_SECONDS)
        finally:
            self._release(list(self._recorders), "this archiver stops")
            self._consumer.shut_down()
            self._executors.shutdown(_EXECUTORS_SECONDS if self.stopping.is_set() else None)
            self._consumer.close()
        if self.stopping.is_set():
            log.info("stopped; everything recorded is durable%s", " and committed" if committed else "")

    def status(self) -> ArchiveStatus:
        """How it is now; for any thread."""
        syncing = self._commits.syncing()
        streams = [
            replace(
                r.status(self._consumer.assignment.resume_error(r.stream)),
                syncing_s=syncing.get(r.stream, 0.0),
                commit_error=self._commit_errors.error_of(r.stream),
            )
            for r in list(self._recorders.values())
        ]
        return ArchiveStatus(
            streams=tuple(streams),
            kafka_error=self._consumer.broker_health.error,
            unpublished=self._consumer.unpublished,
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
        """Whether a FencedError may be of our own making: another Archive in our place would go on."""
        return self._consumer.fenced_by_own_commit

    @property
    def ids(self) -> tuple[str, ...]:
        """The archive's ids, its own first; none until the data directory is known to be the group's archive."""
        return self._archive.ids

    def _identify(self) -> bool:
        """Wait for Kafka, and see that the data directory is the group's archive, before anything is written there;
        gives whether it is known to be, which it isn't if `run` is to end first.

        Raises AnotherArchiveError, OSError.
        """
        while not (self.stopping.is_set() or self._throttling.needs_long_timeout):
            try:
                ask = partial(identify, self._archive, self._consumer.topic_reader)
                self._archive = call_unless_stopped(self.stopping, "identifying", ask)
                self._identify_error = None
                return True
            except TimeoutError:
                if not self.stopping.is_set():
                    raise
            except KafkaException as error:
                self._identify_error = None  # that is said as Kafka's
                self._consumer.broker_health.on_error(error.args[0])
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                why = f"{self._archive.root}: can't note which archive it is: {error}"
                if not self._identify_error:
                    log.error("%s; still trying", why)
                self._identify_error = why
            self.stopping.wait(_IDENTIFY_AGAIN_SECONDS)
        return False

    def _run_once(self) -> None:
        waits = bool(self._commits) or not self._consumer.has_assignment
        busy = waits or any(recording.is_waiting for recording in self._recorders.values())
        touched = set()
        messages = self._consumer.poll(_BUSY_POLL_SECONDS if busy else _POLL_SECONDS)
        size = 0
        for message in messages:
            length = len(message)
            size += length
            recording = self._recorders.get(stream_of_topic(message.topic() or ""))
            if recording and not recording.failed:
                recording.inbox.append(message, length)
                touched.add(recording)
        # Records that wait in Kafka come first: a digest takes the time that they would be written in.
        behind = size >= BATCH_BYTES
        now = time.monotonic()
        tick = now >= self._next_commit_s
        for recording in list(self._recorders.values()):
            with self._isolated(recording):
                self._advance(recording, recording in touched, tick=tick, behind=behind)
        self._drive_commits(self._recorders.values() if tick else ())
        if tick:
            self._next_commit_s = now + _COMMIT_SECONDS

    def _advance(self, recording: StreamRecorder, touched: bool, *, tick: bool, behind: bool) -> None:
        """One turn of the loop, for one stream."""
        if not recording.recovered and not recording.halted:
            recording.poll_recovery(again=tick)
        passed = recording.invalid_record is not None and recording.skip_if_quarantined(recording.invalid_record)
        if touched or passed or (recording.is_waiting and (tick or not recording.errors.current)):
            with self._activity.track(f"a write to the file of {recording.stream}"):
                recording.poll()
        if tick and not behind:
            recording.advance_digest()
        if tick:
            recording.end_offset = self._consumer.end_offset(recording.stream)
            recording.track_uncommitted()
        self._pause_or_resume(recording)
        if recording.failed and tick:
            self._retry_failed(recording)

    @contextmanager
    def _isolated(self, recording: StreamRecorder) -> Iterator[None]:
        """An error of one stream that nobody expected stops that stream, and no other.

        It ends the archiver if it is none of that stream's own: another archiver has taken over, the group has given
        the streams away or records to another archive, or there is no more memory.
        """
        try:
            yield
        except (FencedError, MemberEvicted, AnotherArchiveError, MemoryError):
            raise
        except (KafkaException, OSError) as error:
            recording.errors.on_error(error)
        except CheckpointError as error:  # its state would be refused when it is read back: so it will be again
            log.exception("%s: its state can't be committed", recording.stream)
            recording.fail(f"{error}; nothing more is recorded")
        except Exception as error:
            log.exception("%s: failed", recording.stream)
            seconds = self._failures.failed(recording.stream, time.monotonic())
            what = f"{type(error).__name__}: {error}"
            recording.fail(f"by an error of this program, see the log: {what}; trying again in {seconds:g} s")

    def _retry_failed(self, recording: StreamRecorder) -> None:
        if recording.is_idle and (committed := self._failures.due(recording.stream, time.monotonic())):
            log.info("%s: trying again", recording.stream)
            self.on_assigned([committed])

    def _pause_or_resume(self, recording: StreamRecorder) -> None:
        stream = recording.stream
        if recording.backpressured and stream not in self._paused:
            self._consumer.assignment.pause(stream)
            self._paused.add(stream)
            return
        deliveries = recording.inbox.deliveries
        if stream not in self._paused:
            if deliveries.seek_to is not None and self._consumer.assignment.seek(stream, deliveries.seek_to):
                deliveries.on_seek_done()
        elif not recording.backpressured and not recording.inbox:
            at = deliveries.next_offset
            if at is not None and self._consumer.assignment.resume(stream, at):
                deliveries.on_seek_done()
                self._paused.remove(stream)

    # Durable and committed, once a second

    def _drive_commits(self, due: Iterable[StreamRecorder]) -> None:
        self._on_commit_results(self._commits.poll())
        for recording in due:
            if snapshot := self._snapshot(recording):
                self._commits.submit(recording, snapshot)

    def _snapshot(self, recording: StreamRecorder) -> Snapshot | None:
        with self._isolated(recording), self._activity.track(f"a write to the file of {recording.stream}"):
            return recording.snapshot()
        return None  # it has failed

    def _on_commit_results(self, answer: CommitResults) -> None:
        for recording, failure in answer.not_durable:
            with self._isolated(recording):
                if isinstance(failure, SyncError):
                    recording.handle_sync_error(failure)
                elif self._records(recording) and not recording.failed:
                    raise failure
        for recording, snapshot in answer.committed:
            with self._isolated(recording):
                recording.on_committed(snapshot)
            self._commit_errors.on_success(recording.stream)
        for recording, error in answer.failed:
            if isinstance(error, KafkaException):
                self._commit_errors.on_failure(recording.stream, error)
            elif not isinstance(error, MemberEvicted):
                raise error
            elif self._records(recording):
                self._release([recording.stream], f"the group has given them away ({error})")

    def _records(self, recording: StreamRecorder) -> bool:
        """Whether its stream is still recorded by that one: what is said of it may come late, and mean one before."""
        return self._recorders.get(recording.stream) is recording

    # Streams come and go: the Feed's Streams

    def on_assigned(self, committed: Sequence[CommittedOffset]) -> None:
        """Record these from now on."""
        for found in committed:
            self._recorders[found.stream] = StreamRecorder(
                found, self._settings, self._archive, self._consumer, self._executors
            )
            self._paused.add(found.stream)
        if committed:
            log.info("recording %s", ", ".join(sorted(found.stream for found in committed)))

    def on_revoked(self, streams: Sequence[str]) -> None:
        """Another member records these from now on."""
        self._revoke([stream for stream in streams if stream in self._recorders], _REVOKE_SECONDS)

    def on_lost(self, streams: Sequence[str]) -> None:
        """Another member records these already."""
        self._release([stream for stream in streams if stream in self._recorders], "the group has given them away")

    def on_offset_out_of_range(self, stream: str, earliest: int) -> None:
        """Retention was faster than we."""
        recording = self._recorders.get(stream)
        if recording and recording.recovered:
            self._paused.discard(stream)  # the Feed has resumed it
            with self._isolated(recording):
                recording.on_offset_reset(earliest)
        elif recording:  # its records would only gather; it is found again where reading begins
            self._consumer.assignment.pause(stream)

    def _revoke(self, streams: Sequence[str], seconds: float) -> bool:
        """Leave these durable and committed, as far as that can be done in the time; gives whether it was."""
        if not streams:  # as when the consumer is closed, after the pools
            return True
        until = time.monotonic() + seconds
        recordings = [self._recorders[stream] for stream in streams]
        try:
            self._drive_commits([recording for recording in recordings if recording.inbox.losses.unpublished])
            while True:
                self._consumer.serve_commits()
                self._drive_commits(())
                settled = all([self._drained(recording) for recording in recordings])
                held = any(recording.snapshot_pending for recording in recordings)
                late = time.monotonic() - until
                if (settled and not held) or self._consumer.unavailable or late >= (_DISK_SECONDS if held else 0):
                    break
                time.sleep(0.005)  # for threads that may need this one to commit: there is no one event to wait for
            self._commits.log_hanging(streams)
            snapshots = [(r, snapshot) for r in recordings if (snapshot := self._snapshot(r))]
            without_losses = [(r, snapshot) for r, snapshot in snapshots if not snapshot.losses]
            commits, done = self._commits.make_durable_now(without_losses, _DISK_SECONDS)
            self._consumer.commit_sync(commits)
            for recording, snapshot in done:
                recording.on_committed(snapshot)
            committed = settled and not held and len(done) == len(snapshots)
        except (KafkaException, MemberEvicted) as error:
            log.warning("the last commit failed (%s): what came since the one before will be written again", error)
            committed = False
        for stream in streams:
            self._commit_errors.discard(stream)
            if leaving := self._recorders.pop(stream, None):
                with self._isolated(leaving):
                    leaving.release()
            else:  # the group had given it away: a commit's answer said so meanwhile
                committed = False
        return committed

    def _drained(self, recording: StreamRecorder) -> bool:
        with self._isolated(recording):
            return recording.drain()
        return True  # it has failed

    def _release(self, streams: Sequence[str], why: str) -> None:
        for stream in streams:
            log.warning("%s: let go of: %s", stream, why)
            self._commit_errors.discard(stream)
            recording = self._recorders.pop(stream)
            with self._isolated(recording):
                recording.release()
