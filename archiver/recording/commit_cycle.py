"""The commit cycle: snapshots of streams are made durable on threads of their own, then committed in one request.

A slow or hanging disk delays no other stream's commit. One request a second commits all streams, as a request for
each takes Kafka too long (300 of them: 1.75 s).
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
"""How long durable snapshots wait for those submitted with them, to be committed in one request."""


@dataclass(frozen=True, slots=True)
class CommitResults:
    """The outcomes of snapshots that are no longer pending."""

    committed: Sequence[tuple[StreamRecorder, Snapshot]]
    failed: Sequence[tuple[StreamRecorder, Exception]]
    """Kafka refused the commit."""
    not_durable: Sequence[tuple[StreamRecorder, BaseException]]
    """A disk failed, or an error was unexpected."""


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
    """Makes snapshots durable and commits them. For the loop's thread.

    It has one snapshot of a recorder at a time; meanwhile that recorder's `snapshot_pending` is set.
    """

    def __init__(self, consumer: GroupConsumer, executors: Executors) -> None:
        self.commit_latency = LatencyHistogram()
        """Of commit requests."""
        self.sync_latency = LatencyHistogram()
        """Of syncs of open files."""
        self._consumer = consumer
        self._executors = executors
        self._syncing: list[_Pending] = []
        self._durable: list[tuple[_Pending, OffsetCommit]] = []
        self._request: tuple[list[_Pending], Future[Mapping[str, Exception]]] | None = None

    def __bool__(self) -> bool:
        """Whether any snapshot is pending."""
        return bool(self._syncing or self._durable or self._request)

    def submit(self, recorder: StreamRecorder, snapshot: Snapshot) -> None:
        """Make a snapshot of that recorder durable, publish its losses, then commit it."""
        recorder.snapshot_pending = True
        # Losses on threads of their own, as g3.files may be unavailable while all else works.
        pool = self._executors.publishers if snapshot.losses else self._executors.syncers
        durable = pool.submit(self._make_durable, snapshot)
        self._syncing.append(_Pending(recorder, snapshot, time.monotonic(), durable))

    def poll(self) -> CommitResults:
        """Commit what is durable; return the outcomes since the last call."""
        committed, failed = self._collect_committed()
        not_durable = self._collect_durable()
        now = time.monotonic()
        batching = any(now - pending.started_s < _BATCH_SECONDS for pending in self._syncing)
        if self._durable and not self._request and not batching:
            commits = [commit for _, commit in self._durable]
            durable, self._durable = [pending for pending, _ in self._durable], []
            self._request = durable, self._executors.committer.submit(self._commit, commits)
        return CommitResults(committed, failed, not_durable)

    def _collect_committed(
        self,
    ) -> tuple[list[tuple[StreamRecorder, Snapshot]], list[tuple[StreamRecorder, Exception]]]:
        """Return which snapshots of the request are committed, and which aren't."""
        if not self._request or not self._request[1].done():
            return [], []
        (requested, done), self._request = self._request, None
        for pending in requested:
            pending.recorder.snapshot_pending = False
        errors = done.result()
        return (
            [(p.recorder, p.snapshot) for p in requested if p.snapshot.stream not in errors],
            [(p.recorder, errors[p.snapshot.stream]) for p in requested if p.snapshot.stream in errors],
        )

    def _collect_durable(self) -> list[tuple[StreamRecorder, BaseException]]:
        """Collect what is durable now; return what can't be made durable, and why."""
        waiting, errors = [], []
        for pending in self._syncing:
            if not pending.durable.done():
                waiting.append(pending)
            elif commit := _commit_of(pending.durable):
                self._durable.append((pending, commit))
            else:
                pending.recorder.snapshot_pending = False
                if error := pending.durable.exception():
                    errors.append((pending.recorder, error))
        self._syncing = waiting
        return errors

    def syncing(self) -> Mapping[str, float]:
        """Return by stream for how long its disk has been syncing, s. Thread-safe."""
        now = time.monotonic()
        return {p.snapshot.stream: now - p.started_s for p in list(self._syncing) if not p.snapshot.losses}

    def make_durable_now(
        self, snapshots: Sequence[tuple[StreamRecorder, Snapshot]], seconds: float
    ) -> tuple[list[OffsetCommit], list[tuple[StreamRecorder, Snapshot]]]:
        """Make these durable in parallel, waiting for at most `seconds`; return what to commit, and for which.

        The recorders of those whose disks took longer keep their snapshot pending.
        """
        durable = {
            self._executors.syncers.submit(self._make_durable, snapshot): (r, snapshot) for r, snapshot in snapshots
        }
        hanging = wait(durable, seconds).not_done
        for future in hanging:
            recorder, snapshot = durable[future]
            recorder.snapshot_pending = True
            _log_hanging_sync(snapshot.stream, seconds)
        done = [
            (commit, of) for future, of in durable.items() if future not in hanging and (commit := _commit_of(future))
        ]
        return [commit for commit, _ in done], [of for _, of in done]

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
            started_s = time.monotonic()
            commit = snapshot.make_durable()
            if snapshot.file:
                self.sync_latency.observe(time.monotonic() - started_s)
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
            return commit
        return None


def _commit_of(done: Future[OffsetCommit | None]) -> OffsetCommit | None:
    """Return what to commit, if it was made durable."""
    return None if done.exception() else done.result()


def _log_hanging_sync(stream: str, seconds: float) -> None:
    log.error(
        "%s: its disk hasn't synced its file for %.0f s: what isn't committed will be recorded again. "
        "This program ends when that disk answers; kill -9 is safe",
        stream,
        seconds,
    )
