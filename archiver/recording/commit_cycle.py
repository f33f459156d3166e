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

from archiver.core import checkpoint as checkpoints
from archiver.kafka.group_consumer import GroupConsumer
from archiver.kafka.offset_commits import OffsetCommit
from archiver.recording.commit_position import Snapshot
from archiver.recording.executors import Executors
from archiver.recording.loss_reporter import merge_losses
from archiver.recording.stream_recorder import StreamRecorder
from archiver.segments.segment_file import SegmentClosedError
from g3stream.service.histogram import LatencyHistogram

log = logging.getLogger(__name__)

_BATCH_SECONDS = 0.25
"""How long durable snapshots wait for those submitted with them, to be committed in one request."""


class NotCommittableError(Exception):
    """A snapshot can't be committed yet, or need not be any more."""


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The outcome of a snapshot that is no longer pending."""

    recorder: StreamRecorder
    snapshot: Snapshot
    error: BaseException | None
    """Why it isn't committed; None if it is. A KafkaException, FencedError or MemberEvicted is Kafka's answer; any
    other one prevented the request."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A snapshot that is being made durable on another thread."""

    recorder: StreamRecorder
    """Only for the loop's thread."""
    snapshot: Snapshot
    durable: Future[OffsetCommit]
    """What to commit."""


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
        self._syncing.append(self._start(recorder, snapshot))

    def _start(self, recorder: StreamRecorder, snapshot: Snapshot) -> _Pending:
        # Losses on threads of their own, as g3.files may be unavailable while all else works.
        pool = self._executors.publishers if snapshot.losses else self._executors.syncers
        return _Pending(recorder, snapshot, pool.submit(self._make_durable, snapshot))

    def poll(self) -> list[CommitResult]:
        """Commit what is durable; return the outcomes since the last call."""
        results: list[CommitResult] = []
        if self._request and self._request[1].done():
            (requested, answer), self._request = self._request, None
            results = _results(requested, answer.result())
        done: list[_Pending] = []
        syncing: list[_Pending] = []
        for pending in self._syncing:
            (done if pending.durable.done() else syncing).append(pending)
        self._syncing = syncing
        durable, failed = _split_durable(done)
        self._durable += durable
        now = time.monotonic()
        batching = any(now - pending.snapshot.taken_s < _BATCH_SECONDS for pending in self._syncing)
        if self._durable and not self._request and not batching:
            durable, self._durable = self._durable, []
            self._request = durable, self._executors.committer.submit(self._commit, durable)
        return results + failed

    def syncing(self) -> Mapping[str, float]:
        """Return by stream for how long its disk has been syncing, s. Thread-safe."""
        now = time.monotonic()
        return {p.snapshot.stream: now - p.snapshot.taken_s for p in list(self._syncing) if not p.snapshot.losses}

    def commit_now(self, snapshots: Sequence[tuple[StreamRecorder, Snapshot]], seconds: float) -> list[CommitResult]:
        """Make these durable in parallel, waiting for at most `seconds`, and commit them; return the outcomes.

        Those whose disks took longer have none.
        """
        started = [self._start(recorder, snapshot) for recorder, snapshot in snapshots]
        hanging = wait([pending.durable for pending in started], seconds).not_done
        for pending in started:
            if pending.durable in hanging:
                _log_hanging_sync(pending.snapshot.stream, seconds)
        durable, failed = _split_durable([pending for pending in started if pending.durable not in hanging])
        return failed + _results(durable, self._consumer.commit_sync([p.durable.result() for p in durable]))

    def log_hanging(self, streams: Sequence[str]) -> None:
        """Log the hanging syncs of these streams, which are being released."""
        for stream, seconds in self.syncing().items():
            if stream in streams:
                _log_hanging_sync(stream, seconds)

    # On other threads

    def _commit(self, durable: Sequence[_Pending]) -> Mapping[str, Exception]:
        started_s = time.monotonic()
        errors = self._consumer.commits.commit_each([pending.durable.result() for pending in durable])
        if not errors:
            self.commit_latency.observe(time.monotonic() - started_s)
        return errors

    def _make_durable(self, snapshot: Snapshot) -> OffsetCommit:
        """Return what to commit. Raises SyncError, NotCommittableError."""
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
            raise NotCommittableError from error
        except SegmentClosedError as error:
            log.debug("%s: released before its snapshot was durable", snapshot.stream)
            raise NotCommittableError from error
        return OffsetCommit(snapshot.stream, snapshot.offset, metadata, snapshot.cancellation)


def _split_durable(done: Sequence[_Pending]) -> tuple[list[_Pending], list[CommitResult]]:
    """Return those that can be committed, and the results of the others."""
    durable = [p for p in done if not p.durable.exception()]
    return durable, [CommitResult(p.recorder, p.snapshot, error) for p in done if (error := p.durable.exception())]


def _results(requested: Sequence[_Pending], errors: Mapping[str, Exception]) -> list[CommitResult]:
    """Return the outcomes of a commit request. errors: by stream."""
    return [CommitResult(p.recorder, p.snapshot, errors.get(p.snapshot.stream)) for p in requested]


def _log_hanging_sync(stream: str, seconds: float) -> None:
    log.error(
        "%s: its disk hasn't synced its file for %.0f s: what isn't committed will be recorded again. "
        "This program ends when that disk answers; kill -9 is safe",
        stream,
        seconds,
    )
