"""The commit cycle: snapshots of streams are made durable on threads of their own, then committed in one request.

A slow or hanging disk delays no other stream's commit. One request a second commits all streams, as a request for
each takes Kafka too long (300 of them: 1.75 s).
"""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from enum import Enum

from confluent_kafka import KafkaException

from archiver.core import checkpoint as checkpoints
from archiver.kafka.group_consumer import GroupConsumer
from archiver.kafka.offset_commits import MemberEvicted, OffsetCommit
from archiver.recording.commit_position import Snapshot
from archiver.recording.executors import Executors
from archiver.recording.loss_reporter import merge_losses
from archiver.recording.stream_recorder import StreamRecorder
from archiver.segments.segment_file import SegmentClosedError
from g3stream.service.histogram import LatencyHistogram

log = logging.getLogger(__name__)

_BATCH_SECONDS = 0.25
"""How long durable snapshots wait for those submitted with them, to be committed in one request."""


class Outcome(Enum):
    """What became of a snapshot."""

    COMMITTED = 0
    REFUSED = 1
    """Kafka refused the commit, with an error."""
    NOT_DURABLE = 2
    """A disk failed, or an error was unexpected; without an error, it can't be committed yet, or need not be."""


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The outcome of a snapshot that is no longer pending."""

    recorder: StreamRecorder
    snapshot: Snapshot
    outcome: Outcome
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Pending:
    """A snapshot that is being made durable on another thread."""

    recorder: StreamRecorder
    """Only for the loop's thread."""
    snapshot: Snapshot
    started_s: float
    """Monotonic."""
    durable: Future[OffsetCommit | None]
    """What to commit; None if it can't be committed yet, or is no longer needed."""


class CommitPipeline:
    """Makes snapshots durable and commits them; it has one of a recorder at a time. For the loop's thread."""

    def __init__(self, consumer: GroupConsumer, executors: Executors) -> None:
        self.commit_latency = LatencyHistogram()
        """Of commit requests."""
        self.sync_latency = LatencyHistogram()
        """Of syncs of open files."""
        self._consumer = consumer
        self._executors = executors
        self._syncing: list[_Pending] = []
        self._durable: list[_Pending] = []
        self._request: tuple[list[_Pending], Future[Mapping[str, Exception]]] | None = None

    def __bool__(self) -> bool:
        """Whether any snapshot is pending."""
        return bool(self._syncing or self._durable or self._request)

    def submit(self, recorder: StreamRecorder, snapshot: Snapshot) -> None:
        """Make a snapshot of that recorder durable, publish its losses, then commit it."""
        # Losses on threads of their own, as g3.files may be unavailable while all else works.
        pool = self._executors.publishers if snapshot.losses else self._executors.syncers
        self._syncing.append(self._start(recorder, snapshot, pool))

    def _start(self, recorder: StreamRecorder, snapshot: Snapshot, pool: Executor) -> _Pending:
        return _Pending(recorder, snapshot, time.monotonic(), pool.submit(self._make_durable, snapshot))

    def poll(self) -> list[CommitResult]:
        """Commit what is durable; return the outcomes since the last call."""
        results = self._collect_committed()
        done: list[_Pending] = []
        syncing: list[_Pending] = []
        for pending in self._syncing:
            (done if pending.durable.done() else syncing).append(pending)
        self._syncing = syncing
        durable, failed = _split_durable(done)
        self._durable += durable
        now = time.monotonic()
        batching = any(now - pending.started_s < _BATCH_SECONDS for pending in self._syncing)
        if self._durable and not self._request and not batching:
            durable, self._durable = self._durable, []
            self._request = durable, self._executors.committer.submit(self._commit, _commits(durable))
        return results + failed

    def _collect_committed(self) -> list[CommitResult]:
        if not self._request or not self._request[1].done():
            return []
        (requested, done), self._request = self._request, None
        errors = done.result()
        return [
            CommitResult(p.recorder, p.snapshot, Outcome.REFUSED if error else Outcome.COMMITTED, error)
            for p in requested
            for error in [errors.get(p.snapshot.stream)]
        ]

    def syncing(self) -> Mapping[str, float]:
        """Return by stream for how long its disk has been syncing, s. Thread-safe."""
        now = time.monotonic()
        return {p.snapshot.stream: now - p.started_s for p in list(self._syncing) if not p.snapshot.losses}

    def commit_now(self, snapshots: Sequence[tuple[StreamRecorder, Snapshot]], seconds: float) -> list[CommitResult]:
        """Make these durable in parallel, waiting for at most `seconds`, and commit them; return the outcomes.

        Those whose disks took longer have none.
        """
        started = [self._start(recorder, snapshot, self._executors.syncers) for recorder, snapshot in snapshots]
        hanging = wait([pending.durable for pending in started], seconds).not_done
        for pending in started:
            if pending.durable in hanging:
                _log_hanging_sync(pending.snapshot.stream, seconds)
        durable, failed = _split_durable([pending for pending in started if pending.durable not in hanging])
        outcome, refusal = Outcome.COMMITTED, None
        try:
            self._consumer.commit_sync(_commits(durable))
        except (KafkaException, MemberEvicted) as error:
            outcome, refusal = Outcome.REFUSED, error
        return failed + [CommitResult(p.recorder, p.snapshot, outcome, refusal) for p in durable]

    def log_hanging(self, streams: Sequence[str]) -> None:
        """Log the hanging syncs of these streams, which are being released."""
        for stream, seconds in self.syncing().items():
            if stream in streams:
                _log_hanging_sync(stream, seconds)

    # On other threads

    def _commit(self, commits: Sequence[OffsetCommit]) -> Mapping[str, Exception]:
        started_s = time.monotonic()
        errors = self._consumer.commits.commit_each(commits)
        if not errors:
            self.commit_latency.observe(time.monotonic() - started_s)
        return errors

    def _make_durable(self, snapshot: Snapshot) -> OffsetCommit | None:
        """Return what to commit; None if it can't be committed yet, or is no longer needed. Raises SyncError."""
        try:
            if snapshot.file:
                started_s = time.monotonic()
                snapshot.file.make_durable()
                self.sync_latency.observe(time.monotonic() - started_s)
            metadata = checkpoints.encode(snapshot.checkpoint)
            for loss in merge_losses(snapshot.losses):
                self._consumer.events.publish(loss)
        except KafkaException as error:
            why = error.args[0].str()
            log.error(
                "%s: its losses can't be published, so it isn't committed: %s; still trying", snapshot.stream, why
            )
        except SegmentClosedError:
            log.debug("%s: released before its snapshot was durable", snapshot.stream)
        else:
            return OffsetCommit(snapshot.stream, snapshot.offset, metadata, snapshot.cancellation)
        return None


def _split_durable(done: Sequence[_Pending]) -> tuple[list[_Pending], list[CommitResult]]:
    """Return those that can be committed, and the results of the others."""
    durable, failed = [], []
    for pending in done:
        error = pending.durable.exception()
        if error is None and pending.durable.result():
            durable.append(pending)
        else:
            failed.append(CommitResult(pending.recorder, pending.snapshot, Outcome.NOT_DURABLE, error))
    return durable, failed


def _commits(durable: Sequence[_Pending]) -> list[OffsetCommit]:
    return [commit for pending in durable if (commit := pending.durable.result())]


def _log_hanging_sync(stream: str, seconds: float) -> None:
    log.error(
        "%s: its disk hasn't synced its file for %.0f s: what isn't committed will be recorded again. "
        "This program ends when that disk answers; kill -9 is safe",
        stream,
        seconds,
    )
