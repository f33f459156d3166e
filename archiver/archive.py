"""The loop: records from the feed to the recordings, and once a second everything durable and committed.

One thread polls, and says what is written where. A few write, when it is much. Another makes durable and commits, for
all streams in one request; some more take streams up, tell losses, and finish files, each at its own pace, so that no
stream waits for another's disk, and none for g3.files that has nothing to tell.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from confluent_kafka import KafkaException

from archiver.commits import Commit, EvictedError
from archiver.event import Event
from archiver.feed import Committed, Feed
from archiver.finishing import ArchiveRoot
from archiver.history import BATCH_BYTES
from archiver.live import ArchiveStatus
from archiver.pools import Pools
from archiver.recording import Recording
from archiver.segment_file import LetGoError, SyncError
from archiver.segmentation import Settings
from archiver.snapshot import Snapshot
from ingest.latency import Latency
from ingest.topic import stream_of

log = logging.getLogger(__name__)

_COMMIT_SECONDS = 1.0
_POLL_SECONDS = 0.25
_BUSY_POLL_SECONDS = 0.01
_STOP_SECONDS = 4.0
_REVOKED_SECONDS = 0.5
"""How long streams that are let go of may take to finish their files, before these are left as they are. Whoever has
them next does it then; and while they go to another member, all that stay here wait."""


class Archive:
    """Records streams into one data directory. streams: which, None for all there are and will be.

    told: is given each event that is on g3.files now, in any thread. stopping: ends `run`. config: librdkafka
    settings. Raises KafkaException on a wrong one.
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
    ) -> None:
        self.stopping = stopping
        self._root = root
        self._settings = settings
        self._recordings: dict[str, Recording] = {}
        self._paused: set[str] = set()  # until `resume`, whatever the Feed does meanwhile
        self._feed = Feed(config, root.group, instance_id, streams, self, told)
        self._pools = Pools()
        self._committing: dict[Executor, tuple[list[Snapshot], Future[list[Snapshot]]]] = {}
        self._commit_at = 0.0
        self._turned = time.monotonic()
        self._commits, self._syncs = Latency(), Latency()

    def run(self) -> None:
        """Record until `stopping` is set; then leave every open file durable and committed. Raises FencedError."""
        try:
            self._feed.join(self.stopping)
            while not self.stopping.is_set():
                self._turned = time.monotonic()
                try:
                    self._once()
                except EvictedError as error:
                    self._abandon(list(self._recordings), f"the group has given them away ({error})")
                except KafkaException:
                    if not self.stopping.is_set():
                        raise
            log.info("stopping")
            committed = self._let_go(list(self._recordings), _STOP_SECONDS)
        finally:
            self._abandon(list(self._recordings), "this archiver stops")
            self._feed.refuse()
            self._pools.shutdown()
            self._feed.close()
        log.info("stopped; everything recorded is durable%s", " and committed" if committed else "")

    def status(self) -> ArchiveStatus:
        """How it is now; for any thread."""
        streams = [r.status(self._feed.reading.trouble(r.stream)) for r in list(self._recordings.values())]
        return ArchiveStatus(
            streams=tuple(streams),
            trouble=self._feed.trouble.now,
            untold=self._feed.untold,
            turning=time.monotonic() - self._turned,
            commits=self._commits.counts(),
            syncs=self._syncs.counts(),
        )

    @property
    def fenced_itself(self) -> bool:
        """Whether a FencedError may be of our own making: another Archive in our place would go on."""
        return self._feed.fenced_itself

    def _once(self) -> None:
        waits = bool(self._committing) or not self._feed.settled
        busy = waits or any(recording.busy for recording in self._recordings.values())
        touched = set()
        messages = self._feed.batch(_BUSY_POLL_SECONDS if busy else _POLL_SECONDS)
        size = 0
        for message in messages:
            length = len(message)
            size += length
            recording = self._recordings.get(stream_of(message.topic() or ""))
            if recording:
                recording.incoming.add(message, length)
                touched.add(recording)
        # Records that wait in Kafka come first: a digest takes the time that they would be written in.
        behind = size >= BATCH_BYTES
        now = time.monotonic()
        tick = now >= self._commit_at
        for recording in list(self._recordings.values()):
            if not recording.taken_up and not recording.stopped:
                recording.take_up(again=tick)
            if recording in touched or (recording.busy and (tick or not recording.trouble)):
                recording.work()
            if tick and not behind:
                recording.follow()
            if tick:
                recording.end = self._feed.end(recording.stream)
            self._pause_or_resume(recording)
        self._see_to_commits(self._recordings.values() if tick else ())
        if tick:
            self._commit_at = now + _COMMIT_SECONDS

    def _pause_or_resume(self, recording: Recording) -> None:
        stream = recording.stream
        if recording.crowded and stream not in self._paused:
            self._feed.reading.pause(stream)
            self._paused.add(stream)
        elif stream in self._paused and not recording.crowded and not recording.incoming:
            resumed = self._feed.reading.resume(stream, recording.incoming.next)
            if resumed:
                self._paused.remove(stream)

    # Durable and committed, once a second

    def _see_to_commits(self, due: Iterable[Recording]) -> None:
        for pool, (snapshots, committing) in list(self._committing.items()):
            if committing.done():
                del self._committing[pool]
                self._committed(snapshots, committing)
        found = [snapshot for recording in due if (snapshot := recording.snapshot())]
        self._begin_to_commit(self._pools.durable, [snapshot for snapshot in found if not snapshot.losses])
        self._begin_to_commit(self._pools.telling, [snapshot for snapshot in found if snapshot.losses])

    def _begin_to_commit(self, pool: Executor, snapshots: list[Snapshot]) -> None:
        if snapshots and pool not in self._committing:
            for snapshot in snapshots:
                snapshot.recording.held = True
            self._committing[pool] = snapshots, pool.submit(self._commit, snapshots)

    def _commit(self, snapshots: list[Snapshot]) -> list[Snapshot]:
        """Make durable, and commit; gives those for which that is done. Raises as Feed.commit."""
        commits, done = self._make_durable(snapshots)
        if commits:
            begun = time.monotonic()
            self._feed.commit(commits)
            self._commits.observe(time.monotonic() - begun)
        return done

    def _make_durable(self, snapshots: Sequence[Snapshot]) -> tuple[list[Commit], list[Snapshot]]:
        """Make durable, and tell losses; gives what to commit, and of which of them."""
        commits, done = [], []
        for snapshot in snapshots:
            try:
                begun = time.monotonic()
                commit = snapshot.make_durable()
                if snapshot.file:
                    self._syncs.observe(time.monotonic() - begun)
                for loss in snapshot.losses:
                    self._feed.tell(loss)
            except SyncError as error:
                snapshot.recording.unsynced = error
            except KafkaException as error:
                stream, why = snapshot.recording.stream, error.args[0].str()
                log.error("%s: its losses can't be told, so it isn't committed: %s; still trying", stream, why)
            except LetGoError:
                log.debug("%s: was let go of before this was durable", snapshot.recording.stream)
            else:
                commits.append(commit)
                done.append(snapshot)
        return commits, done

    def _committed(self, snapshots: list[Snapshot], committing: Future[list[Snapshot]]) -> None:
        for snapshot in snapshots:
            snapshot.recording.held = False
        try:
            for snapshot in committing.result():
                snapshot.recording.saved(snapshot)
        except KafkaException as error:
            log.debug("commit failed, will be made again: %s", error)
        except EvictedError as error:  # the answer may come late: what was assigned anew since isn't meant
            recordings = self._recordings
            meant = [s.recording.stream for s in snapshots if recordings.get(s.recording.stream) is s.recording]
            self._abandon(meant, f"the group has given them away ({error})")
        for snapshot in snapshots:
            snapshot.recording.see_to_sync()

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
            recording.incoming.overtaken(earliest)
        elif recording:  # its records would only gather; it is found again where reading begins
            self._feed.reading.pause(stream)

    def _let_go(self, streams: Sequence[str], seconds: float) -> bool:
        """Leave these durable and committed, as far as that can be done in the time; gives whether it was."""
        until = time.monotonic() + seconds
        recordings = [self._recordings[stream] for stream in streams]
        try:
            self._see_to_commits([recording for recording in recordings if recording.incoming.losses.events])
            while True:
                self._feed.serve_commits()
                self._see_to_commits(())
                settled = all([recording.settle() for recording in recordings])
                committed = settled and not any(recording.held for recording in recordings)
                if committed or self._feed.away or time.monotonic() >= until:
                    break
                time.sleep(0.005)  # for threads that may need this one to commit: there is no one event to wait for
            snapshots = [found for recording in recordings if (found := recording.snapshot())]
            commits, done = self._make_durable([snapshot for snapshot in snapshots if not snapshot.losses])
            self._feed.commit_now(commits)
            for snapshot in done:
                snapshot.recording.saved(snapshot)
            committed = committed and len(done) == len(snapshots)
        except (KafkaException, EvictedError) as error:
            log.warning("the last commit failed (%s): what came since the one before will be written again", error)
            committed = False
        for stream in streams:
            if recording := self._recordings.pop(stream, None):
                recording.abandon()
            else:  # the group had given it away: a commit's answer said so meanwhile
                committed = False
        return committed

    def _abandon(self, streams: Sequence[str], why: str) -> None:
        for stream in streams:
            log.warning("%s: let go of: %s", stream, why)
            self._recordings.pop(stream).abandon()
