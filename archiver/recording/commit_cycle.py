"""What is on its way to being committed: each stream made durable on a thread of its own, then committed together.

So a disk that takes long for one file, or hangs, holds up no other stream's commit: what is durable is committed. And
one request a second is for all streams, as a request for each would take Kafka too long (300 of them: 1.75 s).
"""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass

from confluent_kafka import KafkaException

from archiver.kafka.group_consumer import Feed
from archiver.kafka.offset_commits import Commit
from archiver.recording.executors import Pools
from archiver.recording.loss_reporter import together
from archiver.recording.snapshot import Snapshot
from archiver.segments.segment_file import LetGoError, SyncError
from g3stream.service.histogram import Latency

log = logging.getLogger(__name__)

_TOGETHER_SECONDS = 0.25
"""So long what is durable waits for what was begun with it, to be committed in one request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request: these snapshots are committed, and those aren't."""

    committed: Sequence[Snapshot]
    failed: Sequence[tuple[Snapshot, Exception]]


class Committing:
    """For the loop's thread. A stream's snapshots are here one at a time: while one is, its recording is `held`.

    commits: how long requests took; syncs: how long the disk took for each open file.
    """

    def __init__(self, feed: Feed, pools: Pools) -> None:
        self.commits, self.syncs = Latency(), Latency()
        self._feed = feed
        self._pools = pools
        self._syncing: list[tuple[float, Snapshot, Future[Commit | None]]] = []
        self._durable: list[tuple[Snapshot, Commit]] = []
        self._request: tuple[list[Snapshot], Future[Mapping[str, Exception]]] | None = None

    def __bool__(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._syncing or self._durable or self._request)

    def begin(self, snapshot: Snapshot) -> None:
        """Make it durable, tell its losses, then commit it."""
        snapshot.recording.held = True
        # Losses on threads of their own, as g3.files may be away while all else is well.
        pool = self._pools.telling if snapshot.losses else self._pools.syncers
        self._syncing.append((time.monotonic(), snapshot, pool.submit(self._make_durable, snapshot)))

    def proceed(self) -> Answer | None:
        """Go on with what other threads have come to; gives what a request has come to, if one has been answered."""
        answer = None
        if self._request and self._request[1].done():
            (snapshots, done), self._request = self._request, None
            for snapshot in snapshots:
                snapshot.recording.held = False
            errors = done.result()
            answer = Answer(
                [snapshot for snapshot in snapshots if snapshot.recording.stream not in errors],
                [(s, errors[s.recording.stream]) for s in snapshots if s.recording.stream in errors],
            )
        self._gather()
        now = time.monotonic()
        together = any(now - begun < _TOGETHER_SECONDS for begun, _, _ in self._syncing)
        if self._durable and not self._request and not together:
            commits = [commit for _, commit in self._durable]
            snapshots, self._durable = [snapshot for snapshot, _ in self._durable], []
            self._request = snapshots, self._pools.committer.submit(self._commit, commits)
        return answer

    def _gather(self) -> None:
        """What has been made durable since, and what can't be: that is free again."""
        waiting = []
        for begun, snapshot, made in self._syncing:
            if not made.done():
                waiting.append((begun, snapshot, made))
            elif (commit := made.result()) is not None:
                self._durable.append((snapshot, commit))
            else:
                snapshot.recording.held = False
                snapshot.recording.see_to_sync()
        self._syncing = waiting

    def syncing(self) -> Mapping[str, float]:
        """For how long streams have been made durable that have nothing else to wait for, s. For any thread."""
        now = time.monotonic()
        return {s.recording.stream: now - begun for begun, s, _ in list(self._syncing) if not s.losses}

    def last(self, snapshots: Sequence[Snapshot], seconds: float) -> tuple[list[Commit], list[Snapshot]]:
        """Make these durable, all at once, and wait for it, for so long at most: gives what to commit, and of which
        of them. Those whose disks took longer stay `held`."""
        made = {self._pools.syncers.submit(self._make_durable, snapshot): snapshot for snapshot in snapshots}
        hanging = wait(made, seconds).not_done
        for future in hanging:
            made[future].recording.held = True
            _say_that_it_hangs(made[future].recording.stream, seconds)
        done = [
            (commit, snapshot)
            for future, snapshot in made.items()
            if future not in hanging and (commit := future.result()) is not None
        ]
        return [commit for commit, _ in done], [snapshot for _, snapshot in done]

    def say_what_hangs(self, streams: Sequence[str]) -> None:
        """Of these streams, which are let go of."""
        for stream, seconds in self.syncing().items():
            if stream in streams:
                _say_that_it_hangs(stream, seconds)

    # On other threads

    def _commit(self, commits: Sequence[Commit]) -> Mapping[str, Exception]:
        begun = time.monotonic()
        errors = self._feed.commit_each(commits)
        if not errors:
            self.commits.observe(time.monotonic() - begun)
        return errors

    def _make_durable(self, snapshot: Snapshot) -> Commit | None:
        """None if that can't be done, or needn't any more."""
        recording = snapshot.recording
        try:
            begun = time.monotonic()
            commit = snapshot.make_durable()
            if snapshot.file:
                self.syncs.observe(time.monotonic() - begun)
            for loss in together(snapshot.losses):
                self._feed.tell(loss)
        except SyncError as error:
            recording.unsynced = error
        except KafkaException as error:
            why = error.args[0].str()
            log.error("%s: its losses can't be told, so it isn't committed: %s; still trying", recording.stream, why)
        except LetGoError:
            log.debug("%s: was let go of before this was durable", recording.stream)
        except Exception as error:  # noqa: BLE001 - of this stream only: the loop says it, and stops that
            recording.failure = error
        else:
            return commit
        return None


def _say_that_it_hangs(stream: str, seconds: float) -> None:
    log.error(
        "%s: its disk hasn't synced its file for %.0f s: what isn't committed will be recorded again. "
        "This program ends when that disk answers; kill -9 harms nothing",
        stream,
        seconds,
    )
