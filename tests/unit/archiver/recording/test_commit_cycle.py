"""The commit cycle: which snapshots become one request, and what becomes of those that can't be committed."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from archiver.core.checkpoint import Checkpoint
from archiver.core.events import RecordsLost
from archiver.core.segmentation import State
from archiver.kafka.group_consumer import GroupConsumer
from archiver.kafka.offset_commits import MemberEvicted, OffsetCommit
from archiver.recording.commit_cycle import CommitPipeline, NotCommittableError
from archiver.recording.commit_position import Snapshot
from archiver.recording.executors import Executors
from archiver.recording.stream_recorder import StreamRecorder
from archiver.segments.segment_file import SegmentClosedError, SegmentFile, SyncError
from g3stream.service.cancellation import CancellationToken

LOSS = RecordsLost("g", "a", 1, "a:1 to a:1", 7, None, 0, "here")


class Threads(Executor):
    """Runs nothing until `run`."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, act: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        self._waiting.append((done, lambda: act(*args, **kwargs)))
        return done

    def run(self, count: int = 1000) -> None:
        """Run the first ones that wait."""
        for done, act in self._waiting[:count]:
            try:
                done.set_result(act())
            except Exception as error:  # noqa: BLE001 - as a thread pool does
                done.set_exception(error)
        del self._waiting[:count]


class Cycle:
    """A pipeline on threads that a test runs. requests: of streams. refusals: Kafka's, by stream."""

    def __init__(self) -> None:
        self.syncers, self.publishers, self.committer = Threads(), Threads(), Threads()
        self.requests: list[list[str]] = []
        self.refusals: Mapping[str, Exception] = {}
        self.unpublished: KafkaException | None = None
        consumer = SimpleNamespace(
            commits=SimpleNamespace(commit_each=self._commit_each), events=SimpleNamespace(publish=self._publish)
        )
        self.pipeline = CommitPipeline(cast("GroupConsumer", consumer), cast("Executors", self))

    def _commit_each(self, commits: Sequence[OffsetCommit]) -> Mapping[str, Exception]:
        self.requests.append([commit.stream for commit in commits])
        return self.refusals

    def _publish(self, _: object) -> None:
        if self.unpublished:
            raise self.unpublished

    def submit(
        self, stream: str, sync: Callable[[], None] = lambda: None, *, age_s: float = 0, losses: int = 0
    ) -> None:
        """Submit a snapshot of that stream. sync: makes its file durable."""
        file = cast("SegmentFile", SimpleNamespace(make_durable=sync))
        checkpoint, taken_s = Checkpoint(State(stream)), time.monotonic() - age_s
        snapshot = Snapshot(stream, CancellationToken(), 5, checkpoint, file, (LOSS,) * losses, taken_s)
        self.pipeline.submit(cast("StreamRecorder", stream), snapshot)

    def outcomes(self) -> dict[object, BaseException | None]:
        """Poll it; return the outcomes by stream."""
        return {result.recorder: result.error for result in self.pipeline.poll()}


def raising(error: Exception) -> Callable[[], None]:
    def raises() -> None:
        raise error

    return raises


def test_what_is_submitted_together_is_committed_in_one_request() -> None:
    cycle = Cycle()
    cycle.submit("a", age_s=-60)
    cycle.submit("b", age_s=-60)
    cycle.syncers.run(1)
    assert cycle.outcomes() == {}
    cycle.committer.run()
    assert cycle.requests == [], "it waits for the other disk, for a moment"
    cycle.syncers.run()
    assert cycle.outcomes() == {}
    cycle.committer.run()
    assert cycle.requests == [["a", "b"]]
    assert cycle.outcomes() == {"a": None, "b": None}
    assert not cycle.pipeline


def test_a_disk_that_takes_longer_delays_no_other_stream() -> None:
    cycle = Cycle()
    cycle.submit("a", age_s=1)
    cycle.submit("slow", age_s=1)
    cycle.syncers.run(1)
    cycle.outcomes()
    cycle.committer.run()
    assert cycle.outcomes() == {"a": None}
    assert cycle.pipeline.syncing().keys() == {"slow"}
    cycle.syncers.run()
    cycle.outcomes()
    cycle.committer.run()
    assert cycle.outcomes() == {"slow": None}
    assert cycle.requests == [["a"], ["slow"]]


def test_what_is_durable_while_kafka_answers_is_in_the_next_request() -> None:
    cycle = Cycle()
    cycle.submit("a")
    cycle.syncers.run()
    cycle.outcomes()
    cycle.submit("b")
    cycle.syncers.run()
    assert cycle.outcomes() == {}
    cycle.committer.run()
    assert cycle.outcomes() == {"a": None}
    cycle.committer.run()
    assert cycle.outcomes() == {"b": None}


def test_a_failed_sync_and_a_refusal_are_of_their_streams_only() -> None:
    cycle = Cycle()
    failed, refused = SyncError(5, "Input/output error"), MemberEvicted("another has it")
    cycle.refusals = {"refused": refused}
    cycle.submit("failed", raising(failed))
    cycle.submit("refused")
    cycle.submit("good")
    cycle.syncers.run()
    assert cycle.outcomes() == {"failed": failed}
    cycle.committer.run()
    assert cycle.outcomes() == {"refused": refused, "good": None}
    assert cycle.requests == [["refused", "good"]]


def test_what_was_released_meanwhile_is_not_committed() -> None:
    cycle = Cycle()
    cycle.submit("a", raising(SegmentClosedError(9, "it has been closed")))
    cycle.syncers.run()
    assert isinstance(cycle.outcomes()["a"], NotCommittableError)
    assert not cycle.pipeline


@pytest.mark.parametrize("is_available", [True, False])
def test_losses_are_published_before_and_delay_no_other_stream(is_available: bool) -> None:
    cycle = Cycle()
    if not is_available:
        cycle.unpublished = KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
    cycle.submit("lossy", losses=2, age_s=1)
    cycle.submit("good")
    cycle.syncers.run()
    cycle.outcomes()
    cycle.committer.run()
    assert cycle.outcomes() == {"good": None}
    cycle.publishers.run()
    outcomes = cycle.outcomes()
    cycle.committer.run()
    outcomes |= cycle.outcomes()
    if is_available:
        assert outcomes == {"lossy": None}
    else:
        assert isinstance(outcomes["lossy"], NotCommittableError)
        assert cycle.requests == [["good"]]
