"""A record that isn't ours stops its stream; an operator quarantines it, and all is as if it had never been there."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from g3stream.contract.headers import Kind, RecordHeaders, headers_of
from g3stream.contract.topics import frames_topic, quarantine_topic
from testbed.child_process import free_port
from tests.support.archives import Source
from tests.support.commands import archiver, close
from tests.support.processes import SECONDS, Recorder, eventually, get, settings_of

ROTATING = ("--time-per-file", "10", "--gap", "5")


@dataclass(frozen=True, slots=True)
class Foreign:
    """A record that isn't ours."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()

    def publish(self, recorder: Recorder, at: int, partition: int = 0) -> None:
        """at: ms, its time."""
        producer = Producer({"bootstrap.servers": recorder.servers, "message.max.bytes": 2_000_000})
        headers: list[tuple[str, str | bytes | None]] = [*self.headers]
        topic = frames_topic(recorder.stream)
        producer.produce(topic, self.value, self.key, headers=headers, timestamp=at, partition=partition)
        assert producer.flush(SECONDS) == 0


TOMBSTONE = Foreign(None, b"some key")
BARE = Foreign(b"from the console\x00\xff")
OTHER_KIND = Foreign(b"x" * 1_048_000, None, (("v", b"1"), ("kind", b"heartbeat"), ("kind-of", b"\xff")))


class Night:
    """Acquisitions with foreign records among them: `offsets`."""

    def __init__(self, recorder: Recorder) -> None:
        recorder.create_topic()
        self.source = source = Source(recorder.servers, recorder.stream)
        self.offsets: list[int] = []
        source.start()
        source.scans(150, every=100)
        self._foreign(recorder, TOMBSTONE)
        source.scans(150, every=100)
        source.end()
        self._foreign(recorder, OTHER_KIND)
        self._foreign(recorder, BARE)
        source.start()
        source.scans(50, every=100)

    def _foreign(self, recorder: Recorder, foreign: Foreign) -> None:
        self.offsets.append(self.source.sent + len(self.offsets))
        foreign.publish(recorder, self.source.now)

    @property
    def end(self) -> int:
        """The offset after its last record."""
        return self.source.sent + len(self.offsets)


def without_foreign(recorder: Recorder, clean: str) -> None:
    """Copy the stream's records to another's topic, as they are, but for those that aren't ours."""
    recorder.create_topic(clean)
    producer = Producer({"bootstrap.servers": recorder.servers, "enable.idempotence": True})
    for message in messages(recorder.servers, frames_topic(recorder.stream)):
        headers: list[tuple[str, str | bytes | None]] = [*headers_of(message)]
        if "epoch" in dict(headers):
            at = message.timestamp()[1]
            producer.produce(frames_topic(clean), message.value(), headers=headers, timestamp=at, partition=0)
    assert producer.flush(SECONDS) == 0


def messages(servers: str, topic: str) -> list[Message]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "unused", "enable.auto.commit": False})
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), SECONDS)
        consumer.assign([TopicPartition(topic, 0, 0)])
        found: list[Message] = []
        while len(found) < end:
            found += consumer.consume(min(1000, end - len(found)), SECONDS)
        return found
    finally:
        consumer.close()


def named(tree: dict[str, bytes], stream: str) -> dict[str, bytes]:
    return {path.replace(f"/{stream}/", "/STREAM/"): data for path, data in tree.items()}


def test_a_stream_goes_on_as_if_the_record_had_never_been_there(recorder: Recorder, tmp_path: Path) -> None:
    night = Night(recorder)
    port = free_port()
    recording = recorder.archiver(*ROTATING, "--http", str(port))
    for offset in night.offsets:
        command = recording.await_line(rf"STOPPED at offset {offset}: .*`archiver (quarantine .*)` skips it")[1]
        assert f"`archiver {command}`" in get(port, "/healthz")[1]
        done = archiver(recorder, *shlex.split(command), "--why", "a test's")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"the record at offset {offset}, of " in done.stdout
        recording.await_line(rf"left out the record at offset {offset}, in quarantine: a record of ")
    eventually(lambda: recorder.committed() == night.end, "all recorded")
    assert get(port, "/healthz")[0] == 200
    assert f'quarantined_records_total{{stream="{recorder.stream}"}} 3' in get(port, "/metrics")[1]
    night.source.end()
    eventually(lambda: recorder.committed() == night.end, "the last file finished")
    assert recording.stop() == 0
    assert "LOST" not in recording.log

    clean = f"{recorder.stream}-c"
    without_foreign(recorder, clean)
    with Recorder(recorder.servers, clean, tmp_path / "clean") as other:
        undisturbed = other.archiver(*ROTATING)
        eventually(lambda: other.committed() == night.source.sent, "all of the copy recorded")
        assert undisturbed.stop() == 0
        assert named(recorder.tree(), recorder.stream) == named(other.tree(), clean)
    assert len(recorder.files()) == 5

    second = recorder.archiver(*ROTATING, archive="second")
    eventually(lambda: recorder.committed("second") == night.end, "all recorded a second time")
    assert second.stop() == 0
    assert "STOPPED" not in second.log
    assert recorder.tree("second") == recorder.tree()
    checked = recorder.command("verify", "--against-topic")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "in quarantine, and so in no file: 3 records" in checked.stdout
    replayed = recorder.command("replay", into=recorder.data("rebuilt"))
    assert replayed.returncode == 0
    assert "left out 3 quarantined records" in replayed.stderr
    assert recorder.tree("rebuilt") == recorder.tree()


def test_what_is_in_another_partition_is_moved_and_all_is_well_again(recorder: Recorder) -> None:
    recorder.create_topic(partitions=3)
    port = free_port()
    recording = recorder.archiver("--http", str(port))
    others = [Foreign(b"a" * 1000, b"key"), TOMBSTONE, BARE]
    for foreign in others:
        foreign.publish(recorder, 1_546_344_000_000, partition=2)
    problem = recording.await_line(
        r"records in partition 2 \(offsets 0 to 2\).*; to fix it: archiver (quarantine .*)$"
    )
    eventually(lambda: problem[1] in get(port, "/healthz")[1], "health says the command")
    of_none = archiver(recorder, "quarantine", "--stream", recorder.stream, "--partition", "2", "--offset", "3")
    assert of_none.returncode == 1
    assert "which has offsets 0 to 2" in of_none.stderr
    done = archiver(recorder, *shlex.split(problem[1]))
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 records of partition 2, up to offset 2, are in quarantine now" in done.stdout
    eventually(lambda: get(port, "/healthz") == (200, "ok\n"), "all is well")
    kept = messages(recorder.servers, quarantine_topic(recorder.stream))
    for message, foreign in zip(kept, others, strict=True):
        headers = dict(headers_of(message))
        assert (headers["partition"], headers.get("record-key")) == (b"2", foreign.key)
        assert message.value() == (foreign.value or b"")
    Foreign(b"ours", None, (("epoch", b"0123456789abcdef"),)).publish(recorder, 1_546_344_000_000, partition=1)
    where = ("--stream", recorder.stream, "--partition", "1", "--offset", "0")
    assert archiver(recorder, "quarantine", *where).returncode == 1
    assert archiver(recorder, "quarantine", *where, "--force").returncode == 0
    assert recording.stop() == 0


def test_nothing_of_the_record_is_lost(recorder: Recorder) -> None:
    night = Night(recorder)
    for offset in night.offsets:
        done = archiver(recorder, "quarantine", "--stream", recorder.stream, "--offset", str(offset))
        assert (done.returncode, done.stderr) == (0, "")
        again = archiver(recorder, "quarantine", "--stream", recorder.stream, "--offset", str(offset))
        assert again.returncode == 0
        assert "already" in again.stdout
    topic = quarantine_topic(recorder.stream)
    kept = messages(recorder.servers, topic)
    for message, foreign, offset in zip(kept, (TOMBSTONE, OTHER_KIND, BARE), night.offsets, strict=True):
        headers = dict(headers_of(message))
        assert headers["offset"] == str(offset).encode()
        assert message.value() == (foreign.value or b"")
        assert headers.get("no-value") == (b"1" if foreign.value is None else None)
        assert headers.get("record-key") == foreign.key
        theirs = [(name.removeprefix("record."), text) for name, text in headers_of(message) if "record." in name]
        assert theirs == [*foreign.headers]
    assert settings_of(recorder.servers, topic)["cleanup.policy"] == "compact"


def test_what_is_recorded_or_may_be_ours_is_refused(recorder: Recorder) -> None:
    recorder.create_topic()
    source = Source(recorder.servers, recorder.stream)
    source.start()
    later = [
        (name, b"2" if name == "v" else text) for name, text in RecordHeaders(Kind.FRAME, "b" * 16, 0).to_kafka()
    ]
    at = source.sent
    Foreign(b"?", None, tuple(later)).publish(recorder, source.now)
    where = ("quarantine", "--stream", recorder.stream)
    for offset, why in (
        (at - 1, "is one of ours"),
        (at + 1, "there is no record at offset"),
        (at, "a later version of ingest"),
    ):
        done = archiver(recorder, *where, "--offset", str(offset))
        assert done.returncode == 1
        assert why in done.stderr
    assert archiver(recorder, *where, "--offset", str(at), "--force").returncode == 0
    assert archiver(recorder, "quarantine", "--stream", "nobody", "--offset", "0").returncode == 1
    assert archiver(recorder, *where, "--offset", "-1").returncode == 2


def test_close_does_not_count_it(recorder: Recorder) -> None:
    recorder.create_topic()
    source = Source(recorder.servers, recorder.stream)
    source.now -= 60_000
    source.start()
    source.scans(5)
    at = source.sent
    BARE.publish(recorder, source.now)
    refused = close(recorder)
    assert refused.returncode == 1
    assert f"the record at offset {at} can't be understood" in refused.stderr
    assert archiver(recorder, "quarantine", "--stream", recorder.stream, "--offset", str(at)).returncode == 0
    done = close(recorder)
    assert (done.returncode, done.stderr) == (0, "")
    recording = recorder.archiver("--gap", "100")
    recording.await_line(r"finished .* \(disconnected: closed by .*\): 6 frames")
    assert recording.stop() == 0
