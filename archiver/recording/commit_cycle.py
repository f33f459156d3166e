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
from archiver.recording.stream_recorder import Recording
from archiver.segments.segment_file import LetGoError
from g3stream.service.histogram import LatencyHistogram

log = logging.getLogger(__name__)

_TOGETHER_SECONDS = 0.25
"""So long what is durable waits for what was begun with it, to be committed in one request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of snapshots whose recorders are held no more: those of `committed` are committed; those of `failed`
    aren't, as Kafka refused it; those of `not_durable` couldn't be made durable, by an error of the disk, or one that
    nobody expected."""

    committed: Sequence[tuple[Recording, Snapshot]]
    failed: Sequence[tuple[Recording, Exception]]
    not_durable: Sequence[tuple[Recording, BaseException]]


@dataclass(frozen=True, slots=True)
class _Pending:
    """A snapshot that is made durable on another thread, since `begun` (s, monotonic), and whose it is. That thread
    has the snapshot only; the recorder is for the loop's.

    made: what to commit; None if it can't be committed yet, or needn't be any more.
    """

    recording: Recording
    snapshot: Snapshot
    begun: float
    made: Future[Commit | None]


class Committing:
    """For the loop's thread. A recorder's snapshots are here one at a time: while one is, the recorder is `held`.

    commits: how long requests took; syncs: how long the disk took for each open file.
    """

    def __init__(self, feed: Feed, pools: Pools) -> None:
        self.commits, self.syncs = LatencyHistogram(), LatencyHistogram()
        self._feed = feed
        self._pools = pools
        self._syncing: list[_Pending] = []
        self._durable: list[tuple[_Pending, Commit]] = []
        self._request: tuple[list[_Pending], Future[Mapping[str, Exception]]] | None = None

    def __bool__(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._syncing or self._durable or self._request)

    def begin(self, recording: Recording, snapshot: Snapshot) -> None:
        """Make a snapshot of that recorder durable, publish its losses, then commit it."""
        recording.held = True
        # Losses on threads of their own, as g3.files may be away while all else is well.
        pool = self._pools.telling if snapshot.losses else self._pools.syncers
        made = pool.submit(self._make_durable, snapshot)
        self._syncing.append(_Pending(recording, snapshot, time.monotonic(), made))

    def proceed(self) -> Answer:
        """Go on with what other threads have come to; returns what is over since the last time."""
        committed, failed = self._take_answer()
        not_durable = self._gather()
        now = time.monotonic()
        together = any(now - pending.begun < _TOGETHER_SECONDS for pending in self._syncing)
        if self._durable and not self._request and not together:
            commits = [commit for _, commit in self._durable]
            durable, self._durable = [pending for pending, _ in self._durable], []
            self._request = durable, self._pools.committer.submit(self._commit, commits)
        return Answer(committed, failed, not_durable)

    def _take_answer(self) -> tuple[list[tuple[Recording, Snapshot]], list[tuple[Recording, Exception]]]:
        """What Kafka has answered: which are committed, and which aren't."""
        if not self._request or not self._request[1].done():
            return [], []
        (requested, done), self._request = self._request, None
        for pending in requested:
            pending.recording.held = False
        errors = done.result()
        return (
            [(p.recording, p.snapshot) for p in requested if p.snapshot.stream not in errors],
            [(p.recording, errors[p.snapshot.stream]) for p in requested if p.snapshot.stream in errors],
        )

    def _gather(self) -> list[tuple[Recording, BaseException]]:
        """See what has been made durable since; returns what can't be, and why."""
        waiting, errors = [], []
        for pending in self._syncing:
            if not pending.made.done():
                waiting.append(pending)
            elif commit := _made(pending.made):
                self._durable.append((pending, commit))
            else:
                pending.recording.held = False
                if error := pending.made.exception():
                    errors.append((pending.recording, error))
        self._syncing = waiting
        return errors

    def syncing(self) -> Mapping[str, float]:
        """For how long streams have been made durable that have nothing else to wait for, s. For any thread."""
        now = time.monotonic()
        return {p.snapshot.stream: now - p.begun for p in list(self._syncing) if not p.snapshot.losses}

    def last(
        self, snapshots: Sequence[tuple[Recording, Snapshot]], seconds: float
    ) -> tuple[list[Commit], list[tuple[Recording, Snapshot]]]:
        """Make these durable, all at once, and wait for it, for so long at most; returns what to commit, and of which
        of them. The recorders of those whose disks took longer stay `held`."""
        made = {self._pools.syncers.submit(self._make_durable, snapshot): (r, snapshot) for r, snapshot in snapshots}
        hanging = wait(made, seconds).not_done
        for future in hanging:
            recording, snapshot = made[future]
            recording.held = True
            _say_that_it_hangs(snapshot.stream, seconds)
        done = [(commit, of) for future, of in made.items() if future not in hanging and (commit := _made(future))]
        return [commit for commit, _ in done], [of for _, of in done]

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
        """Returns what to commit; None if it can't be committed yet, or needn't be any more. Raises SyncError."""
        try:
            begun = time.monotonic()
            commit = snapshot.make_durable()
            if snapshot.file:
                self.syncs.observe(time.monotonic() - begun)
            for loss in together(snapshot.losses):
                self._feed.tell(loss)
        except KafkaException as error:
            why = error.args[0].str()
            log.error("%s: its losses can't be told, so it isn't committed: %s; still trying", snapshot.stream, why)
        except LetGoError:
            log.debug("%s: was let go of before this was durable", snapshot.stream)
        else:
            return commit
        return None


def _made(done: Future[Commit | None]) -> Commit | None:
    """What to commit, if that has been made durable."""
    return None if done.exception() else done.result()


def _say_that_it_hangs(stream: str, seconds: float) -> None:
    log.error(
        "%s: its disk hasn't synced its file for %.0f s: what isn't committed will be recorded again. "
        "This program ends when that disk answers; kill -9 harms nothing",
        stream,
        seconds,
    )
