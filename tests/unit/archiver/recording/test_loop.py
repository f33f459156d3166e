"""The loop, when Kafka's callbacks and other threads act in an unlucky order.

The broker and the group are real; at moments that a test chooses its consumer does what librdkafka may do then.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from archiver.archive.location import Location
from archiver.archive.root import ArchiveRoot
from archiver.core.segmentation import Settings
from archiver.kafka.assignment import AssignedPartitions
from archiver.kafka.group_consumer import CommittedOffset
from archiver.kafka.offset_commits import FencedError, OffsetCommit, OffsetCommits
from archiver.loop import RecordingLoop
from g3stream.contract.topics import frames_topic
from g3stream.kafka.throttling import Throttling
from tests.support.archives import Source
from tests.support.processes import SECONDS, Recorder, eventually


class Interrupted(Consumer):
    """The archive's consumer. asked: what it was asked for that tests look at. commits: what it was to commit.
    withholds: whether that goes nowhere, as while a broker doesn't answer. refuses_to_seek: as librdkafka may."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.on_commit: Callable[[KafkaError, list[TopicPartition]], None] = config["on_commit"]
        self.callbacks: dict[str, Callable[[Consumer, list[TopicPartition]], None]] = {}
        self.asked: list[str] = []
        self.commits: list[TopicPartition] = []
        self.withholds = self.refuses_to_seek = False
        self.at_close: Callable[[], None] = lambda: None
        self._script: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] = queue.SimpleQueue()

    def in_poll(self, act: Callable[[], None]) -> None:
        """Have that done in its next poll, and wait for it. What it raises, `poll` does."""
        done: Future[None] = Future()
        self._script.put((act, done))
        done.result(SECONDS)

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:  # type: ignore[override]  # its stub says less
        self.callbacks = callbacks
        super().subscribe(topics, **callbacks)

    def poll(self, timeout: float = -1) -> Any:
        while not self._script.empty():
            act, done = self._script.get()
            try:
                act()
            finally:
                done.set_result(None)
        return super().poll(timeout)

    def commit(self, *arguments: Any, **named: Any) -> Any:
        self.asked.append("commit" if named["asynchronous"] else "commit at once")
        self.commits += named["offsets"]
        return None if self.withholds else super().commit(*arguments, **named)

    def seek(self, partition: TopicPartition) -> None:
        if self.refuses_to_seek:
            raise KafkaException(KafkaError(KafkaError.INVALID_PARTITIONS, "not now"))
        super().seek(partition)

    def committed(self, partitions: list[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        self.asked.append("committed")
        return super().committed(partitions, timeout)

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.asked.append("assign")
        super().incremental_assign(partitions)

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.asked.append("pause")
        super().pause(partitions)

    @property
    def metadata(self) -> list[str]:
        """Of all that it was to commit."""
        return [str(partition.metadata) for partition in self.commits]

    def close(self) -> None:
        self.at_close()
        super().close()


class Running:
    """An archive that records what `source` publishes, in a thread. consumer: its own. failure: what ended it."""

    def __init__(self, recorder: Recorder, consumers: list[Interrupted], source: Source) -> None:
        self.source = source
        self.stopping = threading.Event()
        self.stream = recorder.stream
        self.partition = TopicPartition(frames_topic(self.stream), 0)
        self.archive = archive(recorder.directory, recorder.servers, self.stream, self.stopping)
        (self.consumer,) = consumers
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.archive.run()
        except Exception as error:  # noqa: BLE001 - the test checks it
            self.failure = error

    @property
    def frames(self) -> int:
        """Return how many are recorded and committed."""
        return sum(recording.recorded.frames for recording in self.archive.status().streams)

    @property
    def problems(self) -> list[str]:
        """Return the problems."""
        return list(self.archive.status().problems(0))

    def callback(self, name: str) -> None:
        """Return what librdkafka calls when the stream is assigned or revoked."""
        self.consumer.callbacks[name](self.consumer, [self.partition])

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def __enter__(self) -> "Running":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.join()


def archive(directory: Path, servers: str, stream: str, stopping: threading.Event) -> RecordingLoop:
    """One of that stream."""
    (directory / ".archiver").mkdir()
    config = {"bootstrap.servers": servers, "log_level": 0}
    root = ArchiveRoot(Location(directory), f"{stream}.archive", "host")
    return RecordingLoop(
        root, Settings(), config, "me", [stream], lambda _: None, stopping, Throttling("quota", config)
    )


@pytest.fixture
def running(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Starts an archive that has recorded and committed two frames of its stream."""
    consumers: list[Interrupted] = []

    def consumer(config: dict[str, Any]) -> Interrupted:
        consumers.append(Interrupted(config))
        return consumers[-1]

    monkeypatch.setattr("archiver.kafka.group_consumer.Consumer", consumer)

    @contextmanager
    def started() -> Iterator[Running]:
        recorder.create_topic()
        source = Source(recorder.servers, recorder.stream, epochs=0)
        source.start()
        source.scans(1)
        with Running(recorder, consumers, source) as running:
            eventually(lambda: running.frames == 2, "an Observation and a Scan are recorded")
            yield running

    return started


def test_evicted_while_the_stream_goes_to_another_nothing_more_is_committed(running: Callable[..., Any]) -> None:
    with running() as it:
        it.consumer.withholds = True
        before = len(it.consumer.commits)
        it.source.scans(1)
        eventually(lambda: len(it.consumer.commits) == before + 1, "it commits")

        def evicted_and_revoked() -> None:
            it.consumer.on_commit(KafkaError(KafkaError.UNKNOWN_MEMBER_ID), [])
            it.callback("on_revoke")

        it.consumer.in_poll(evicted_and_revoked)
        assert it.archive.status().streams == ()
        assert len(it.consumer.commits) == before + 1, "no more, as another member may have gone beyond"
    assert it.failure is None


def test_a_commit_from_before_the_stream_was_released_is_not_made_once_it_is_back(
    running: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    errors: list[Any] = []
    commit_each = OffsetCommits.commit_each

    with running() as it:

        def lost_and_assigned() -> None:
            it.callback("on_lost")
            it.consumer.incremental_unassign([it.partition])
            it.callback("on_assign")

        def asks(its: OffsetCommits, commits: Sequence[OffsetCommit]) -> Any:
            asked.append(commits[0].metadata)
            if len(asked) == 1:
                it.consumer.in_poll(lost_and_assigned)
            errors.append(commit_each(its, commits))
            return errors[-1]

        monkeypatch.setattr(OffsetCommits, "commit_each", asks)
        it.source.scans(1)
        eventually(lambda: len(errors) == 1, "a commit is asked for, and answered")
        it.source.scans(1)
        eventually(lambda: asked[-1] in it.consumer.metadata, "what is recorded since is committed")
        assert asked[0] not in it.consumer.metadata
        assert "given away" in str(errors[0][it.stream])


def test_a_consumer_that_leaves_is_asked_nothing_about_a_stream_that_still_comes(running: Callable[..., Any]) -> None:
    with running() as it:

        def fenced() -> None:
            raise FencedError("by another")

        def assigned() -> None:
            del it.consumer.asked[:]
            it.consumer.incremental_unassign([it.partition])
            it.callback("on_assign")

        it.consumer.at_close = assigned
        it.consumer.in_poll(fenced)
        it.join()
        assert isinstance(it.failure, FencedError)
        assert it.consumer.asked == ["assign", "pause"]
        assert it.archive.status().streams == ()


def test_a_stream_that_kafka_does_not_deliver_is_reported_and_no_other(
    running: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.kafka.assignment._REPORT_AFTER_SECONDS", 0.0)
    with running() as it:
        assert it.problems == []

        def lost_and_assigned() -> None:
            it.callback("on_lost")
            it.consumer.incremental_unassign([it.partition])
            it.callback("on_assign")

        it.consumer.refuses_to_seek = True
        it.consumer.in_poll(lost_and_assigned)
        problem = f"{it.stream}: Kafka doesn't deliver it: not now"
        eventually(lambda: it.problems == [problem], "it is reported")
        it.consumer.refuses_to_seek = False
        eventually(lambda: it.problems == [], "it is over")


def test_a_released_stream_is_no_longer_reported_as_not_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.kafka.assignment._REPORT_AFTER_SECONDS", 0.0)
    reading = AssignedPartitions(Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "unused", "log_level": 0}))
    for stream in ("a", "b"):
        assert not reading.resume(stream, 0), "librdkafka doesn't, as it isn't assigned"
        assert reading.resume_error(stream)
    reading.discard(["a"])
    assert reading.resume_error("a") is None
    assert reading.resume_error("b")


def test_what_is_overtaken_while_it_is_recovered_stays_paused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[str] = []
    monkeypatch.setattr(AssignedPartitions, "pause", lambda _, stream: paused.append(stream))
    stopping = threading.Event()
    unable = archive(tmp_path, "127.0.0.1:1", "crate1slot2", stopping)  # to ask g3.files
    unable.on_assigned([CommittedOffset("crate1slot2", None, "")])
    unable.on_offset_out_of_range("crate1slot2", 7)
    assert paused == ["crate1slot2"]
    stopping.set()
    unable.run()
