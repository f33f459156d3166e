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

from archiver.kafka.group_consumer import GroupConsumer
from archiver.kafka.offset_commits import OffsetCommit
from archiver.recording.executors import Executors
from archiver.recording.loss_reporter import merge_losses
from archiver.recording.snapshot import Snapshot
from archiver.recording.stream_recorder import StreamRecorder
from archiver.segments.segment_file import SegmentClosedError
from g3stream.service.histogram import LatencyHistogram

log = logging.getLogger(__name__)

_BATCH_SECONDS = 0.25
"""So long what is durable waits for what was begun with it, to be committed in one request."""


@dataclass(frozen=True, slots=True)
class CommitResults:
    """What came of snapshots whose recorders are held no more: those of `committed` are committed; those of `failed`
    aren't, as Kafka refused it; those of `not_durable` couldn't be made durable, by an error of the disk, or one that
    nobody expected."""

    committed: Sequence[tuple[StreamRecorder, Snapshot]]
    failed: Sequence[tuple[StreamRecorder, Exception]]
    not_durable: Sequence[tuple[StreamRecorder, BaseException]]


@dataclass(frozen=True, slots=True)
class _Pending:
    """A snapshot that is made durable on another thread, since `started_s` (s, monotonic), and whose it is. That
    thread has the snapshot only; the recorder is for the loop's.

    durable: what to commit; None if it can't be committed yet, or needn't be any more.
    """

    recording: StreamRecorder
    snapshot: Snapshot
    begun: float
    made: Future[OffsetCommit | None]


class CommitPipeline:
    """For the loop's thread. A recorder's snapshots are here one at a time: while one is, the recorder is `held`.

    commit_latency: how long requests took; sync_latency: how long the disk took for each open file.
    """

    def __init__(self, consumer: GroupConsumer, executors: Executors) -> None:
        self.commit_latency, self.sync_latency = LatencyHistogram(), LatencyHistogram()
        self._consumer = consumer
        self._executors = executors
        self._syncing: list[_Pending] = []
        self._durable: list[tuple[_Pending, OffsetCommit]] = []
        self._request: tuple[list[_Pending], Future[Mapping[str, Exception]]] | None = None

    def __bool__(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._syncing or self._durable or self._request)

    def submit(self, recorder: StreamRecorder, snapshot: Snapshot) -> None:
        """Make a snapshot of that recorder durable, publish its losses, then commit it."""
        recorder.snapshot_pending = True
        # Losses on threads of their own, as g3.files may be away while all else is well.
        pool = self._executors.publishers if snapshot.losses else self._executors.syncers
        durable = pool.submit(self._make_durable, snapshot)
        self._syncing.append(_Pending(recorder, snapshot, time.monotonic(), durable))

    def poll(self) -> CommitResults:
        """Go on with what other threads have come to; returns what is over since the last time."""
        committed, failed = self._take_answer()
        not_durable = self._collect_durable()
        now = time.monotonic()
        batching = any(now - pending.begun < _BATCH_SECONDS for pending in self._syncing)
        if self._durable and not self._request and not batching:
            commits = [commit for _, commit in self._durable]
            durable, self._durable = [pending for pending, _ in self._durable], []
            self._request = durable, self._executors.committer.submit(self._commit, commits)
        return CommitResults(committed, failed, not_durable)

    def _take_answer(self) -> tuple[list[tuple[StreamRecorder, Snapshot]], list[tuple[StreamRecorder, Exception]]]:
        """What Kafka has answered: which are committed, and which aren't."""
        if not self._request or not self._request[1].done():
            return [], []
        (requested, done), self._request = self._request, None
        for pending in requested:
            pending.recording.snapshot_pending = False
        errors = done.result()
        return (
            [(p.recording, p.snapshot) for p in requested if p.snapshot.stream not in errors],
            [(p.recording, errors[p.snapshot.stream]) for p in requested if p.snapshot.stream in errors],
        )

    def _collect_durable(self) -> list[tuple[StreamRecorder, BaseException]]:
        """See what has been made durable since; returns what can't be, and why."""
        waiting, errors = [], []
        for pending in self._syncing:
            if not pending.made.done():
                waiting.append(pending)
            elif commit := _made(pending.made):
                self._durable.append((pending, commit))
            else:
                pending.recording.snapshot_pending = False
                if error := pending.made.exception():
                    errors.append((pending.recording, error))
        self._syncing = waiting
        return errors

    def syncing(self) -> Mapping[str, float]:
        """For how long streams have been made durable that have nothing else to wait for, s. For any thread."""
        now = time.monotonic()
        return {p.snapshot.stream: now - p.begun for p in list(self._syncing) if not p.snapshot.losses}

    def make_durable_now(
        self, snapshots: Sequence[tuple[StreamRecorder, Snapshot]], seconds: float
    ) -> tuple[list[OffsetCommit], list[tuple[StreamRecorder, Snapshot]]]:
        """Make these durable, all at once, and wait for it, for so long at most; returns what to commit, and of which
        of them. The recorders of those whose disks took longer stay `held`."""
        durable = {
            self._executors.syncers.submit(self._make_durable, snapshot): (r, snapshot) for r, snapshot in snapshots
        }
        hanging = wait(durable, seconds).not_done
        for future in hanging:
            recorder, snapshot = durable[future]
            recorder.snapshot_pending = True
            _log_hanging_sync(snapshot.stream, seconds)
        done = [(commit, of) for future, of in durable.items() if future not in hanging and (commit := _made(future))]
        return [commit for commit, _ in done], [of for _, of in done]

    def log_hanging(self, streams: Sequence[str]) -> None:
        """Of these streams, which are let go of."""
        for stream, seconds in self.syncing().items():
            if stream in streams:
                _log_hanging_sync(stream, seconds)

    # On other threads

    def _commit(self, commits: Sequence[OffsetCommit]) -> Mapping[str, Exception]:
        started_s = time.monotonic()
        errors = self._consumer.commit_each(commits)
        if not errors:
            self.commit_latency.observe(time.monotonic() - started_s)
        return errors

    def _make_durable(self, snapshot: Snapshot) -> OffsetCommit | None:
        """Returns what to commit; None if it can't be committed yet, or needn't be any more. Raises SyncError."""
        try:
            started_s = time.monotonic()
            commit = snapshot.make_durable()
            if snapshot.file:
                self.sync_latency.observe(time.monotonic() - started_s)
            for loss in merge_losses(snapshot.losses):
                self._consumer.publish(loss)
        except KafkaException as error:
            why = error.args[0].str()
            log.error("%s: its losses can't be told, so it isn't committed: %s; still trying", snapshot.stream, why)
        except SegmentClosedError:
            log.debug("%s: was let go of before this was durable", snapshot.stream)
        else:
            return commit
        return None


def _made(done: Future[OffsetCommit | None]) -> OffsetCommit | None:
    """What to commit, if that has been made durable."""
    return None if done.exception() else done.result()


def _log_hanging_sync(stream: str, seconds: float) -> None:
    log.error(
        "%s: its disk hasn't synced its file for %.0f s: what isn't committed will be recorded again. "
        "This program ends when that disk answers; kill -9 harms nothing",
        stream,
        seconds,
    )
