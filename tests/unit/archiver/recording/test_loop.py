"""The loop, when what comes from Kafka and what threads do meet in an unlucky order. There is no broker here."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from archiver.archive.root import ArchiveRoot
from archiver.core import checkpoint as checkpoints
from archiver.core.checkpoint import Checkpoint
from archiver.core.segmentation import Settings, State
from archiver.kafka.assignment import Reading
from archiver.kafka.group_consumer import Committed, Feed
from archiver.kafka.offset_commits import Commit, EvictedError
from archiver.loop import Archive
from archiver.recording.stream_recorder import Recording
from g3stream.contract.headers import Kind, Label
from g3stream.frames.decoder import FRAME_TYPES
from g3stream.kafka.throttling import Throttling
from tests.support.processes import eventually

STREAM = "crate1slot2"
NOON = 1_546_344_000_000
EMPTY = Committed(STREAM, 0, checkpoints.encode(Checkpoint(State(STREAM))))


def frame(offset: int) -> Message:
    """A frame as it comes from Kafka."""
    label = Label(Kind.FRAME, "a" * 16, offset, FRAME_TYPES["Scan"], STREAM, 1, offset)
    headers: list[tuple[str, str | bytes | None]] = [*label.headers()]
    return Message(f"g3.frames.{STREAM}", 0, offset, None, b"frame", headers, None, (1, NOON + offset))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """One whose Kafka is away."""
    (tmp_path / ".archiver").mkdir()
    root, config = ArchiveRoot(tmp_path, "group", "host"), {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    archive = Archive(
        root, Settings(), config, "me", None, lambda _: None, threading.Event(), Throttling("quota", config)
    )
    yield archive
    archive._feed.trouble.now = "away"  # so that the last commit isn't waited for
    archive._feed.refuse()
    archive.stopping.set()
    archive.run()


def recording_of(archive: Archive) -> Recording:
    """The stream's, once it is taken up."""
    archive.assigned([EMPTY])
    recording = archive._recordings[STREAM]

    def taken_up() -> bool:
        recording.take_up(again=False)
        return recording.taken_up

    eventually(taken_up, "it is taken up", 10)
    return recording


def record(recording: Recording, offset: int) -> None:
    """Record a frame."""
    message = frame(offset)
    recording.incoming.add(message, len(message))
    recording.work()


def test_evicted_while_the_stream_goes_to_another_nothing_more_is_committed(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed: list[Commit] = []

    def evicted(_: Feed, commits: Sequence[Commit]) -> dict[str, Exception]:
        return {commit.stream: EvictedError("unknown member") for commit in commits}

    monkeypatch.setattr(Feed, "commit_each", evicted)
    monkeypatch.setattr(Feed, "commit_now", lambda _, commits: committed.extend(commits))
    record(recording_of(archive), 0)
    archive._see_to_commits(archive._recordings.values())
    assert archive._committing
    archive.revoked([STREAM])
    for commit in committed:  # what would stop the stream for good, if Kafka took it
        checkpoints.decode(commit.metadata, STREAM)
    assert committed == []
    assert archive._recordings == {}


def test_a_commit_from_before_the_stream_was_let_go_of_is_not_made_once_it_is_back(archive: Archive) -> None:
    asked: list[str] = []

    class Asked:
        def commit(self, offsets: Sequence[TopicPartition], asynchronous: bool) -> None:
            asked.extend(str(partition.metadata) for partition in offsets)
            assert asynchronous

    before = recording_of(archive)
    snapshot = before.snapshot()
    assert snapshot
    commits = archive._feed._commits
    commits.ours.add(STREAM)
    commit = snapshot.make_durable()
    archive.lost([STREAM])
    now = recording_of(archive).snapshot()
    assert now
    with ThreadPoolExecutor() as pool, ExitStack() as at_last:
        at_last.callback(commits.refuse)  # nobody waits if this fails
        late = pool.submit(commits.commit, [commit])
        eventually(lambda: not commits._requests.empty(), "the commit is asked for", 10)
        commits.begin(cast(Consumer, Asked()))
        assert asked == []
        with pytest.raises(KafkaException, match="given away"):
            late.result(10)
        good = pool.submit(commits.commit, [now.make_durable()])
        eventually(lambda: not commits._requests.empty(), "the commit is asked for", 10)
        commits.begin(cast(Consumer, Asked()))
        commits.answered(None, [])
        good.result(10)
    assert len(asked) == 1


def test_a_consumer_that_leaves_is_asked_nothing_about_a_stream_that_still_comes(archive: Archive) -> None:
    asked: list[str] = []

    class Leaving:
        def incremental_assign(self, partitions: list[TopicPartition]) -> None:
            asked.append(f"assign {partitions[0].topic}")

        def pause(self, partitions: list[TopicPartition]) -> None:
            asked.append(f"pause {partitions[0].topic}")

    topic = f"g3.frames.{STREAM}"
    archive._feed._leaving = True
    archive._feed._on_assign(cast(Consumer, Leaving()), [TopicPartition(topic, 0)])
    assert asked == [f"assign {topic}", f"pause {topic}"]
    assert archive._recordings == {}


def test_a_stream_that_kafka_does_not_give_on_is_said_to_be_so_and_no_other(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.kafka.assignment._SAY_SECONDS", 0.0)
    archive._feed._stopping = archive.stopping
    recording = recording_of(archive)
    assert list(archive.status().problems(0)) == []
    archive._pause_or_resume(recording)  # which librdkafka refuses: to it, the stream isn't ours
    (problem,) = archive.status().problems(0)
    assert problem.startswith(f"{STREAM}: Kafka doesn't give it on: ")
    assert archive._feed.away is None
    archive._feed._on_lost(archive._feed._consumer, [TopicPartition(f"g3.frames.{STREAM}", 0)])
    archive.assigned([EMPTY])
    assert list(archive.status().problems(0)) == []


def test_what_is_overtaken_while_it_is_taken_up_stays_paused(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[str] = []
    monkeypatch.setattr(Reading, "pause", lambda _, stream: paused.append(stream))
    archive.assigned([Committed(STREAM, None, "")])  # g3.files can't be asked
    archive.overtaken(STREAM, 7)
    assert paused == [STREAM]
