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

from archiver.archive.ownership import AnotherArchiveError, identified
from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import CheckpointError
from archiver.core.events import Event
from archiver.core.segmentation import Settings
from archiver.kafka.commit_errors import CommitErrors
from archiver.kafka.group_consumer import Committed, Feed
from archiver.kafka.offset_commits import EvictedError, FencedError
from archiver.kafka.topic_reader import BATCH_BYTES
from archiver.recording.commit_cycle import Answer, Committing
from archiver.recording.executors import Pools
from archiver.recording.snapshot import Snapshot
from archiver.recording.status import ArchiveStatus
from archiver.recording.stream_failures import StreamFailures
from archiver.recording.stream_recorder import Recording
from archiver.segments.segment_file import SyncError
from g3stream.contract.topics import stream_of_topic
from g3stream.host.activity import Activity
from g3stream.kafka.throttling import Throttling
from g3stream.service.timeouts import unless

log = logging.getLogger(__name__)

_COMMIT_SECONDS = 1.0
_POLL_SECONDS = 0.25
_BUSY_POLL_SECONDS = 0.01
_STOP_SECONDS = 4.0
_IDENTIFY_AGAIN_SECONDS = 0.5
_REVOKED_SECONDS = 0.5
"""How long streams that are let go of may take to finish their files, before these are left as they are. Whoever has
them next does it then; and while they go to another member, all that stay here wait."""
_POOLS_SECONDS = 1.0
"""At a stop, for what waits for Kafka: it may wait for a resolver that hangs, and has nothing to lose."""
_DISK_SECONDS = 15.0
"""How long, twice at most, their disks may take for a sync, before what that was for is left to be recorded again."""


class Archive:
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
        self._root = root
        self._settings = settings
        self._recordings: dict[str, Recording] = {}
        self._paused: set[str] = set()  # until `resume`, whatever the Feed does meanwhile
        self._feed = Feed(config, root.group, instance_id, streams, self, told, stopping)
        self._pools = Pools(root.location)
        self._committing = Committing(self._feed, self._pools)
        self._commit_errors = CommitErrors(root.group)
        self._activity = Activity()
        self._failures = StreamFailures(self._feed, self._pools)
        self._unidentified: str | None = None  # why nothing is recorded yet
        self._commit_at = 0.0
        self._turned = time.monotonic()

    def run(self) -> None:
        """Record until `stopping` is set, or Kafka throttles for longer than the clients' timeouts allow; then leave
        every open file durable and committed.

        Raises FencedError, AnotherArchiveError if the group records to another one, OSError.
        """
        try:
            ours = self._identify()
            if ours:
                self._feed.join()
            while ours and not (self.stopping.is_set() or self._throttling.needs_long_timeout):
                self._turned = time.monotonic()
                try:
                    self._once()
                except EvictedError as error:
                    self._abandon(list(self._recordings), f"the group has given them away ({error})")
                except KafkaException:
                    if not self.stopping.is_set():
                        raise
            if self.stopping.is_set():
                log.info("stopping")
            committed = self._let_go(list(self._recordings), _STOP_SECONDS)
        finally:
            self._abandon(list(self._recordings), "this archiver stops")
            self._feed.refuse()
            self._pools.shutdown(_POOLS_SECONDS if self.stopping.is_set() else None)
            self._feed.close()
        if self.stopping.is_set():
            log.info("stopped; everything recorded is durable%s", " and committed" if committed else "")

    def status(self) -> ArchiveStatus:
        """How it is now; for any thread."""
        syncing = self._committing.syncing()
        streams = [
            replace(
                r.status(self._feed.reading.trouble(r.stream)),
                syncing=syncing.get(r.stream, 0.0),
                commit_error=self._commit_errors.why(r.stream),
            )
            for r in list(self._recordings.values())
        ]
        return ArchiveStatus(
            streams=tuple(streams),
            trouble=self._feed.trouble.now,
            untold=self._feed.untold,
            topics=self._feed.topics.all(),
            turning=time.monotonic() - self._turned,
            commits=self._committing.commits.counts(),
            syncs=self._committing.syncs.counts(),
            throttled_seconds=self._throttling.total_s,
            refused=self._commit_errors.refused(),
            writing=self._activity.hang(),
            throttled=self._throttling.problem(time.monotonic()),
            unidentified=self._unidentified,
        )

    @property
    def fenced_itself(self) -> bool:
        """Whether a FencedError may be of our own making: another Archive in our place would go on."""
        return self._feed.fenced_itself

    @property
    def ids(self) -> tuple[str, ...]:
        """The archive's ids, its own first; none until the data directory is known to be the group's archive."""
        return self._root.ids

    def _identify(self) -> bool:
        """Wait for Kafka, and see that the data directory is the group's archive, before anything is written there;
        gives whether it is known to be, which it isn't if `run` is to end first.

        Raises AnotherArchiveError, OSError.
        """
        while not (self.stopping.is_set() or self._throttling.needs_long_timeout):
            try:
                ask = partial(identified, self._root, self._feed.history)
                self._root = unless(self.stopping, "identifying", ask)
                self._unidentified = None
                return True
            except TimeoutError:
                if not self.stopping.is_set():
                    raise
            except KafkaException as error:
                self._unidentified = None  # that is said as Kafka's
                self._feed.trouble.met(error.args[0])
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                why = f"{self._root.root}: can't note which archive it is: {error}"
                if not self._unidentified:
                    log.error("%s; still trying", why)
                self._unidentified = why
            self.stopping.wait(_IDENTIFY_AGAIN_SECONDS)
        return False

    def _once(self) -> None:
        waits = bool(self._committing) or not self._feed.settled
        busy = waits or any(recording.busy for recording in self._recordings.values())
        touched = set()
        messages = self._feed.batch(_BUSY_POLL_SECONDS if busy else _POLL_SECONDS)
        size = 0
        for message in messages:
            length = len(message)
            size += length
            recording = self._recordings.get(stream_of_topic(message.topic() or ""))
            if recording and not recording.failed:
                recording.incoming.add(message, length)
                touched.add(recording)
        # Records that wait in Kafka come first: a digest takes the time that they would be written in.
        behind = size >= BATCH_BYTES
        now = time.monotonic()
        tick = now >= self._commit_at
        for recording in list(self._recordings.values()):
            with self._contained(recording):
                self._proceed(recording, recording in touched, tick=tick, behind=behind)
        self._see_to_commits(self._recordings.values() if tick else ())
        if tick:
            self._commit_at = now + _COMMIT_SECONDS

    def _proceed(self, recording: Recording, touched: bool, *, tick: bool, behind: bool) -> None:
        """One turn of the loop, for one stream."""
        if not recording.taken_up and not recording.stopped:
            recording.take_up(again=tick)
        passed = recording.foreign is not None and recording.passes(recording.foreign)
        if touched or passed or (recording.busy and (tick or not recording.trouble)):
            with self._activity.track(f"a write to the file of {recording.stream}"):
                recording.work()
        if tick and not behind:
            recording.follow()
        if tick:
            recording.end = self._feed.end(recording.stream)
            recording.watch()
        self._pause_or_resume(recording)
        if recording.failed and tick:
            self._try_again(recording)

    @contextmanager
    def _contained(self, recording: Recording) -> Iterator[None]:
        """An error of one stream that nobody expected stops that stream, and no other.

        It ends the archiver if it is none of that stream's own: another archiver has taken over, the group has given
        the streams away or records to another archive, or there is no more memory.
        """
        try:
            yield
        except (FencedError, EvictedError, AnotherArchiveError, MemoryError):
            raise
        except (KafkaException, OSError) as error:
            recording.say_trouble(error)
        except CheckpointError as error:  # its state would be refused when it is read back: so it will be again
            log.exception("%s: its state can't be committed", recording.stream)
            recording.fail(f"{error}; nothing more is recorded")
        except Exception as error:
            log.exception("%s: failed", recording.stream)
            seconds = self._failures.failed(recording.stream, time.monotonic())
            what = f"{type(error).__name__}: {error}"
            recording.fail(f"by an error of this program, see the log: {what}; trying again in {seconds:g} s")

    def _try_again(self, recording: Recording) -> None:
        if recording.at_rest and (committed := self._failures.due(recording.stream, time.monotonic())):
            log.info("%s: trying again", recording.stream)
            self.assigned([committed])

    def _pause_or_resume(self, recording: Recording) -> None:
        stream = recording.stream
        if recording.crowded and stream not in self._paused:
            self._feed.reading.pause(stream)
            self._paused.add(stream)
            return
        deliveries = recording.incoming.deliveries
        if stream not in self._paused:
            if deliveries.seek_to is not None and self._feed.reading.seek(stream, deliveries.seek_to):
                deliveries.sought()
        elif not recording.crowded and not recording.incoming:
            at = deliveries.next_offset
            if at is not None and self._feed.reading.resume(stream, at):
                deliveries.sought()
                self._paused.remove(stream)

    # Durable and committed, once a second

    def _see_to_commits(self, due: Iterable[Recording]) -> None:
        self._answered(self._committing.proceed())
        for recording in due:
            if snapshot := self._snapshot(recording):
                self._committing.begin(recording, snapshot)

    def _snapshot(self, recording: Recording) -> Snapshot | None:
        with self._contained(recording), self._activity.track(f"a write to the file of {recording.stream}"):
            return recording.snapshot()
        return None  # it has failed

    def _answered(self, answer: Answer) -> None:
        for recording, failure in answer.not_durable:
            with self._contained(recording):
                if isinstance(failure, SyncError):
                    recording.sync_failed(failure)
                elif self._records(recording) and not recording.failed:
                    raise failure
        for recording, snapshot in answer.committed:
            with self._contained(recording):
                recording.saved(snapshot)
            self._commit_errors.succeeded(recording.stream)
        for recording, error in answer.failed:
            if isinstance(error, KafkaException):
                self._commit_errors.failed(recording.stream, error)
            elif not isinstance(error, EvictedError):
                raise error
            elif self._records(recording):
                self._abandon([recording.stream], f"the group has given them away ({error})")

    def _records(self, recording: Recording) -> bool:
        """Whether its stream is still recorded by that one: what is said of it may come late, and mean one before."""
        return self._recordings.get(recording.stream) is recording

    # Streams come and go: the Feed's Streams

    def assigned(self, committed: Sequence[Committed]) -> None:
        """Record these from now on."""
        for found in committed:
            self._recordings[found.stream] = Recording(found, self._settings, self._root, self._feed, self._pools)
            self._paused.add(found.stream)
        if committed:
            log.info("recording %s", ", ".join(sorted(found.stream for found in committed)))

    def revoked(self, streams: Sequence[str]) -> None:
        """Another member records these from now on."""
        self._let_go([stream for stream in streams if stream in self._recordings], _REVOKED_SECONDS)

    def lost(self, streams: Sequence[str]) -> None:
        """Another member records these already."""
        self._abandon([stream for stream in streams if stream in self._recordings], "the group has given them away")

    def overtaken(self, stream: str, earliest: int) -> None:
        """Retention was faster than we."""
        recording = self._recordings.get(stream)
        if recording and recording.taken_up:
            self._paused.discard(stream)  # the Feed has resumed it
            with self._contained(recording):
                recording.overtaken(earliest)
        elif recording:  # its records would only gather; it is found again where reading begins
            self._feed.reading.pause(stream)

    def _let_go(self, streams: Sequence[str], seconds: float) -> bool:
        """Leave these durable and committed, as far as that can be done in the time; gives whether it was."""
        if not streams:  # as when the consumer is closed, after the pools
            return True
        until = time.monotonic() + seconds
        recordings = [self._recordings[stream] for stream in streams]
        try:
            self._see_to_commits([recording for recording in recordings if recording.incoming.losses.events])
            while True:
                self._feed.serve_commits()
                self._see_to_commits(())
                settled = all([self._settles(recording) for recording in recordings])
                held = any(recording.held for recording in recordings)
                late = time.monotonic() - until
                if (settled and not held) or self._feed.away or late >= (_DISK_SECONDS if held else 0):
                    break
                time.sleep(0.005)  # for threads that may need this one to commit: there is no one event to wait for
            self._committing.say_what_hangs(streams)
            snapshots = [(r, snapshot) for r in recordings if (snapshot := self._snapshot(r))]
            without_losses = [(r, snapshot) for r, snapshot in snapshots if not snapshot.losses]
            commits, done = self._committing.last(without_losses, _DISK_SECONDS)
            self._feed.commit_now(commits)
            for recording, snapshot in done:
                recording.saved(snapshot)
            committed = settled and not held and len(done) == len(snapshots)
        except (KafkaException, EvictedError) as error:
            log.warning("the last commit failed (%s): what came since the one before will be written again", error)
            committed = False
        for stream in streams:
            self._commit_errors.forget(stream)
            if leaving := self._recordings.pop(stream, None):
                with self._contained(leaving):
                    leaving.abandon()
            else:  # the group had given it away: a commit's answer said so meanwhile
                committed = False
        return committed

    def _settles(self, recording: Recording) -> bool:
        with self._contained(recording):
            return recording.settle()
        return True  # it has failed

    def _abandon(self, streams: Sequence[str], why: str) -> None:
        for stream in streams:
            log.warning("%s: let go of: %s", stream, why)
            self._commit_errors.forget(stream)
            recording = self._recordings.pop(stream)
            with self._contained(recording):
                recording.abandon()
