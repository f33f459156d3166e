"""Commits may be lost: offsets expire, topics are created again, clusters are replaced."""

import signal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from spt3g import core

from g3stream.contract.topics import frames_topic
from tests.support.archives import (
    Gate,
    Source,
    assert_same_tree,
    disturbed,
    left_behind,
    published_events,
    quick_session,
)
from tests.support.injection.proxy import FarBroker
from tests.support.processes import RawSender, Recorder, admin_client, delete_before, eventually, flow, scan


@pytest.fixture
def quick(tmp_path: Path) -> tuple[str, str]:
    """Flags for a short session: a group can be deleted when the session of its last archiver has expired."""
    return quick_session(tmp_path)


def forget_group(recorder: Recorder, archive: str = "archive") -> None:
    """Delete an archiver's commits, once its session has expired."""
    admin = admin_client(recorder.servers)
    group = f"{recorder.stream}.{archive}"

    def deleted() -> bool:
        try:
            admin.delete_consumer_groups([group])[group].result()
        except KafkaException:
            return False
        return True

    eventually(deleted, "an empty group")


def move_group(recorder: Recorder, offset: int, archive: str = "archive") -> None:
    """Commit an offset for an archiver's group by hand, once its session has expired."""
    admin = admin_client(recorder.servers)
    moved = [TopicPartition(frames_topic(recorder.stream), 0, offset)]
    request = ConsumerGroupTopicPartitions(f"{recorder.stream}.{archive}", moved)

    def done() -> bool:
        try:
            (future,) = admin.alter_consumer_group_offsets([request]).values()
            return not any(partition.error for partition in future.result().topic_partitions)
        except KafkaException:
            return False

    eventually(done, "an empty group")


def stopped_in_mid_file(recorder: Recorder, quick: tuple[str, str], files: int) -> tuple[Source, int]:
    """Stop an archiver when `files` files are finished and nine data frames of another are committed.

    Returns the sender, and how many records were sent before those nine.
    """
    source = Source(recorder.servers, recorder.stream)
    archiver = recorder.archiver(*quick)
    for _ in range(files):
        source.start()
        source.scans(2)
        source.end()
    source.start()
    begun = source.sent
    source.scans(9)
    eventually(lambda: recorder.committed() == source.sent, "all committed")
    assert archiver.stop() == 0
    return source, begun


def events(recorder: Recorder, archive: str = "archive") -> list[dict[str, Any]]:
    """Return the events that an archive has published on g3.files."""
    return [value for _, value in published_events(recorder, archive)]


def recorded(recorder: Recorder) -> list[bytes]:
    return [file.read_bytes() for file in recorder.files()]


@pytest.mark.slow
@pytest.mark.parametrize("files", [0, 2], ids=["before the first file's end", "after two files"])
def test_without_a_commit_it_continues_after_the_last_file(
    recorder: Recorder, quick: tuple[str, str], files: int
) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        untouched = recorder.archiver(archive="untouched")
        archiver = recorder.archiver(*quick)
        with sender.accept() as connection:
            connection.sendall(b"".join(flow(1) + scan(n) + flow(2) for n in range(files)) + flow(1) + scan(10))
            archiver.await_line("opened", count=files + 1)
            eventually(lambda: recorder.committed() == len(recorder.records()), "all committed")
            archiver.stop(signal.SIGKILL)
            connection.sendall(scan(11))
            forget_group(recorder)
            archiver = recorder.archiver(*quick)
            if files:
                archiver.await_line("no state is committed; continuing after its last file")
            archiver.await_line("opened")
            connection.sendall(scan(12) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
            untouched.await_line(r"finished .* \(end\)", count=files + 1)
    assert recorder.tree() == recorder.tree("untouched")
    assert len(recorder.files()) == files + 1
    assert not list((recorder.data() / ".archiver" / recorder.stream).glob("*_*"))
    assert [event["number"] for event in events(recorder) if event["event"] == "file"] == list(range(1, files + 2))


@pytest.mark.slow
@pytest.mark.parametrize("to", ["first", "middle", "end"])
@pytest.mark.parametrize("files", [0, 2], ids=["before the first file's end", "after two files"])
def test_a_group_whose_offset_was_moved_by_hand_records_every_frame_once(
    recorder: Recorder, quick: tuple[str, str], files: int, to: str
) -> None:
    """As by `kafka-consumer-groups.sh --reset-offsets`: an offset without the state that belongs to it."""
    recorder.create_topic()
    untouched = recorder.archiver(archive="untouched")
    source, begun = stopped_in_mid_file(recorder, quick, files)
    move_group(recorder, {"first": 0, "middle": begun + 4, "end": source.sent}[to])
    archiver = recorder.archiver(*quick)
    source.scans(1)
    source.end()
    for each in (archiver, untouched):
        each.await_line(r"finished .* \(end\)", count=1 if each is archiver else files + 1)
    assert_same_tree(recorder.tree(), recorder.tree("untouched"))
    assert not left_behind(recorder, "archive")
    assert "LOST" not in archiver.log
    assert recorder.command("verify").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("gone", [4, 9, 11], ids=["half of the file", "all of it", "and what was sent after"])
@pytest.mark.parametrize("files", [0, 2], ids=["before the first file's end", "after two files"])
def test_of_a_group_that_was_moved_what_retention_deleted_is_reported_and_nothing_is_recorded_twice(
    recorder: Recorder, quick: tuple[str, str], files: int, gone: int
) -> None:
    """Two more frames are sent while the archiver is stopped. gone: how many of the 11 frames retention deletes."""
    recorder.create_topic()
    source, begun = stopped_in_mid_file(recorder, quick, files)
    source.scans(2)
    delete_before(recorder.servers, frames_topic(recorder.stream), begun + gone)
    move_group(recorder, source.sent)
    archiver = recorder.archiver(*quick)
    source.scans(1)
    source.end()
    archiver.await_line(r"finished .* \(end\)")
    assert archiver.stop() == 0
    found = [number for path in recorder.files() for number in scans_in(path)]
    last_there = 2 * files + 9 + max(0, gone - 9)
    assert found == [*range(2 * files + 9), *range(last_there, source.frames)]
    losses = [event for event in events(recorder) if event["event"] == "loss"]
    assert bool(losses) == (gone >= 9)
    assert recorder.command("verify").returncode == 0


def scans_in(path: Path) -> list[int]:
    """Return the numbers of the data frames in a file."""
    return [frame["frame_num"] for frame in core.G3File(str(path)) if frame.type == core.G3FrameType.Scan]


@pytest.mark.slow
@pytest.mark.parametrize("files", [0, 2], ids=["before the first file's end", "after two files"])
def test_what_a_topic_created_again_does_not_have_any_longer_is_published(
    recorder: Recorder, quick: tuple[str, str], files: int
) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port)
        archiver = recorder.archiver(*quick)
        with sender.accept() as connection:
            connection.sendall(b"".join(flow(1) + scan(n) + flow(2) for n in range(files)))
            connection.sendall(flow(1) + scan(10) + scan(11))
            opened = archiver.await_line(r"opened (\S+)", count=files + 1)[1]
            eventually(lambda: recorder.committed() == len(recorder.records()), "all committed")
            archiver.stop(signal.SIGKILL)
            ingest.stop()
        before = recorder.tree()
        (partial,) = (recorder.data() / ".archiver" / recorder.stream).glob("*_*")
        torn = scan(12)[:100]
        with partial.open("ab") as file:
            file.write(torn)  # as a kill in mid-write leaves it
        recorder.recreate_topic()
        recorder.ingest(sender.port)
        archiver = recorder.archiver(*quick)
        archiver.await_line(rf"published the 2 frames that could be salvaged, as {opened}")
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(20) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
    assert before.items() <= {**recorder.tree(), **{k: v for k, v in before.items() if k.endswith("SUMS")}}.items()
    assert recorded(recorder) == [*(scan(n) for n in range(files)), scan(10) + scan(11), scan(20)]
    salvaged = [event for event in events(recorder) if event["event"] == "salvaged"]
    assert [(event["path"], event["frames"]) for event in salvaged] == [(opened, 2)]
    (kept,) = (recorder.data() / ".archiver" / recorder.stream).glob("*_*")
    assert (kept.name, kept.read_bytes()) == (f"{partial.name}.damaged", torn)


@pytest.mark.slow
def test_with_a_new_cluster_the_same_archive_is_continued(stream: str, tmp_path: Path) -> None:
    with FarBroker(tmp_path / "one") as one, Recorder(one.bootstrap_servers, stream, tmp_path) as recorder:
        recorder.create_topic()
        with RawSender() as sender:
            ingest, archiver = recorder.ingest(sender.port), recorder.archiver()
            with sender.accept() as connection:
                connection.sendall(flow(1) + scan(0) + flow(2) + flow(1) + scan(1))
                archiver.await_line("opened", count=2)
                eventually(lambda: recorder.committed() == len(recorder.records()), "all committed")
                archiver.kill()
                ingest.stop()
    before = recorder.tree()
    with FarBroker(tmp_path / "two") as two, Recorder(two.bootstrap_servers, stream, tmp_path) as recorder:
        recorder.create_topic()
        with RawSender() as sender:
            archiver = recorder.archiver()
            archiver.await_line("published the 1 frames that could be salvaged,")
            recorder.ingest(sender.port)
            with sender.accept() as connection:
                connection.sendall(flow(1) + scan(2) + flow(2))
                archiver.await_line(r"finished .* \(end\)")
    assert recorded(recorder) == [scan(0), scan(1), scan(2)]
    assert all(recorder.tree()[name] == data for name, data in before.items() if name.endswith(".g3"))


def test_a_damaged_partial_that_cannot_be_rebuilt_is_published_up_to_the_damage(recorder: Recorder) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        archiver = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(0) + scan(1) + scan(2))
            opened = archiver.await_line(r"opened (\S+)")[1]
            eventually(lambda: recorder.committed() == len(recorder.records()), "all committed")
            archiver.kill()
            (partial,) = (recorder.data() / ".archiver" / recorder.stream).glob("*_*")
            data = bytearray(partial.read_bytes())
            data[len(scan(0)) + len(scan(1)) // 2] ^= 1
            partial.write_bytes(data)
            connection.sendall(scan(3))
            eventually(lambda: scan(3) in [value for _, _, value in recorder.records()], "the last frame published")
            delete_before(recorder.servers, frames_topic(recorder.stream), recorder.committed() - 1)
            archiver = recorder.archiver()
            connection.sendall(flow(2))
            # scan(3) was sent after them, but counts as recorded with the frames before it in its file.
            archiver.await_line(rf"LOST 3 frames of {opened}")
            connection.sendall(flow(1) + scan(4) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
    assert recorded(recorder) == [scan(0), scan(4)]
    (kept,) = (recorder.data() / ".archiver" / recorder.stream).glob("*_*")
    assert kept.read_bytes().startswith(data[len(scan(0)) :]), "what follows is kept"
    assert [event["records"] for event in events(recorder) if event["event"] == "loss"] == [3]


def killed_in_mid_file(recorder: Recorder) -> tuple[Source, Path]:
    """Kill an archiver when five data frames are committed. Returns the sender and the partial."""
    recorder.create_topic()
    source, archiver = Source(recorder.servers, recorder.stream), recorder.archiver()
    source.start()
    source.scans(5)
    eventually(lambda: recorder.committed() == source.sent, "all committed")
    archiver.kill()
    (partial,) = (recorder.data() / ".archiver" / recorder.stream).glob("*_*")
    return source, partial


def test_a_loss_is_reported_although_the_file_that_it_shows_in_is_damaged(recorder: Recorder) -> None:
    source, partial = killed_in_mid_file(recorder)
    sent = source.sent
    data = bytearray(partial.read_bytes())
    data[-100] ^= 1
    partial.write_bytes(data)
    source.lose(3)
    source.scans(1)
    source.end()
    delete_before(recorder.servers, frames_topic(recorder.stream), sent)
    archiver = recorder.archiver()
    archiver.await_line(r"LOST \d+ frames of ")
    assert 3 in [event["records"] for event in events(recorder) if event["event"] == "loss"]


@pytest.mark.parametrize("action", ["kill", "EIO"])
def test_what_was_salvaged_already_is_not_reported_as_lost(recorder: Recorder, action: str) -> None:
    """The archiver is killed, or Kafka is down for a moment, between a salvage and the commit after it."""
    source, partial = killed_in_mid_file(recorder)
    with partial.open("r+b") as file:
        file.truncate(partial.stat().st_size - 1)
    source.scans(1)
    delete_before(recorder.servers, frames_topic(recorder.stream), source.sent - 1)
    archiver = disturbed(recorder, [action, "before", r"produce g3\.files .*/loss/"], archive="archive")
    archiver.await_line("published the 5 frames that could be salvaged,")
    archiver.await_line(f"^stopped_at: {action}")
    if action == "kill":
        assert archiver.exit_code() == -9
        archiver = recorder.archiver()
    source.end()
    archiver.await_line(r"finished .* \(end\)")
    assert [event["frames"] for event in events(recorder) if event["event"] == "salvaged"] == [5]
    assert [event["records"] for event in events(recorder) if event["event"] == "loss"] == [1]


def test_what_retention_deleted_is_reported_as_that_although_records_from_before_it_wait(recorder: Recorder) -> None:
    """They wait for a file to be finished. Nothing is missing before them, and ingest has lost nothing."""
    recorder.create_topic()
    source, gate = Source(recorder.servers, recorder.stream), Gate(recorder.directory)
    source.start()
    source.scans(5)
    archiver = disturbed(recorder, gate.at(r"link .*\.g3$"), archive="archive")
    source.end()
    archiver.await_line("^stopped_at: hold")
    archiver.send(signal.SIGSTOP)
    source.start()  # this much is on its way, as the answer to a fetch
    source.scans(10)
    source.scans(10)
    delete_before(recorder.servers, frames_topic(recorder.stream), source.sent - 2)
    archiver.send(signal.SIGCONT)
    archiver.await_line("were deleted from the topic")
    gate.open()
    source.end()
    archiver.await_line(r"finished .* \(end\)", count=2)
    losses = [event for event in events(recorder) if event["event"] == "loss"]
    assert losses
    assert [event["cause"] for event in losses] == ["deleted"] * len(losses)
    assert all("were deleted from the topic" in event["what"] for event in losses)
