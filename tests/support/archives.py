"""Archives of one topic: one made in peace, and others, made by archivers to which something happens."""

import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from spt3g import core

from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.producer_epoch import RANDOM_BITS, new_epoch
from g3stream.contract.topics import FILES_TOPIC, frames_topic
from g3stream.frames.layout import frame_type
from tests.support.injection.stepped_clock import HostClock
from tests.support.processes import PATIENT, SECONDS, Program, RawSender, Recorder, committed, flow, frame, scan

STOPPED_AT = str(Path(__file__).with_name("injection") / "stopped_at.py")

FULL = os.environ.get("FAULTS") == "all"
"""Whether every combination is to be tried, not only the sample that `make test` has time for."""

ONLY_IN_FULL = pytest.mark.skipif(not FULL, reason="only with FAULTS=all")

SEED = int(os.environ.get("FAULTS_SEED") or secrets.randbelow(1 << 32))
"""Of what is left to chance. A test that uses it prints it."""

SPLIT_AT = ("--time-per-file", "20")
"""The archiver's settings for `publish_night`."""


def publish_night(recorder: Recorder) -> list[str]:
    """Send a small night through a real ingest: three files of two acquisitions, a frame to be carried, a record of
    three chunks. Records it in an archive `undisturbed`; gives its files' paths below the data directory."""
    recorder.create_topic()
    observation = frame(core.G3FrameType.Observation, stream_placement="start", frame_num=0)
    clock = HostClock(recorder.directory)
    with RawSender() as sender:
        recorder.ingest(sender.port, clock=clock)
        archiver = recorder.archiver(*SPLIT_AT, archive="undisturbed")
        with sender.accept() as connection:
            connection.sendall(flow(1) + observation + b"".join(scan(n) for n in range(1, 30)))
            recorder.await_frames(30)
            clock.step(21)  # the next record belongs into the next file
            connection.sendall(scan(30, 2_500_000) + b"".join(scan(n) for n in range(31, 60)) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
            connection.sendall(flow(1) + scan(60) + scan(61) + flow(2))
            archiver.await_line(r"finished .* \(end\)", count=2)
    assert archiver.stop() == 0
    return peaceful(recorder)


def peaceful(recorder: Recorder, archive: str = "undisturbed") -> list[str]:
    """Its files, after having seen that their SHA256SUMS is right."""
    root = recorder.data(archive)
    for directory in {file.parent for file in recorder.files(archive)}:
        lines = [line.split("  ") for line in (directory / "SHA256SUMS").read_text().splitlines()]
        found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.glob("*.g3")}
        assert {name: digest for digest, name in lines} == found
    return [str(file.relative_to(root)) for file in recorder.files(archive)]


def disturbed(recorder: Recorder, what: list[str], *arguments: str, archive: str) -> Program:
    """Start an archiver to which that happens (as injection/stopped_at.py takes it)."""
    group, data = ["--group", f"{recorder.stream}.{archive}"], ["--data-dir", str(recorder.data(archive))]
    return recorder.start(STOPPED_AT, *what, "--", *data, *group, "--stream", recorder.stream, *PATIENT, *arguments)


class Gate:
    """Holds a thread of an archiver at a call, until it is opened."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "gate"
        os.mkfifo(self._path)

    def at(self, call: str, *, nth: int = 1) -> list[str]:
        """What is to happen, as `disturbed` takes it."""
        return ["hold", "before", call, "--nth", str(nth), "--gate", str(self._path)]

    def open(self) -> None:
        """Let it go on."""
        self._path.write_bytes(b"")


def quick_session(directory: Path) -> tuple[str, str]:
    """Flags of archivers with the shortest session that a broker allows, unless told otherwise: their group soon
    knows that one is dead; and that hear of each other soon."""
    path = directory / "client.properties"
    path.write_text("session.timeout.ms=6000\nheartbeat.interval.ms=500\n")
    return "--kafka-config", str(path)


def assert_same_tree(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    """Fails if they differ, and says where, without printing megabytes."""
    assert sorted(found) == sorted(expected)
    for name, data in expected.items():
        assert found[name] == data, f"{name}: {len(found[name])} bytes, not the {len(data)} that are expected"


def left_behind(recorder: Recorder, archive: str) -> list[str]:
    """What lies in its private directory, but for locks and its identity."""
    private = recorder.data(archive) / ".archiver"
    files = [path for path in private.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return [str(path.relative_to(private)) for path in files if path != private / "archive.identity"]


EPOCHS_BEFORE, RECORDS_BEFORE = 40, 50
"""What a topic has seen before a test: more starts of ingest than an archiver remembers, and that many records of
each, none of them in a file."""


class Source:
    """Publishes a stream's records as an ingest does, but fast, and at times of its own: `now`, ms. Before the first
    of them the topic gets those of so many starts of ingest (`epochs`) in which no frames came."""

    def __init__(self, servers: str, stream: str, epochs: int = EPOCHS_BEFORE) -> None:
        self.stream = stream
        self.now = int(time.time() * 1000)
        ours = {"enable.idempotence": True, "linger.ms": 1, "allow.auto.create.topics": False}
        self._producer = Producer({"bootstrap.servers": servers, **ours})
        self._epoch, self._seq = new_epoch(None, self.now, secrets.randbits(RANDOM_BITS)), 0
        self._frames = self._before = self._lost = 0
        self._epochs_before = epochs

    @property
    def sent(self) -> int:
        """How many records."""
        return self._before + self._seq - self._lost

    @property
    def frames(self) -> int:
        """How many data frames, numbered from 0 on."""
        return self._frames

    def restart(self) -> None:
        """Another ingest goes on with the same spool."""
        prev = (self._epoch, self._seq - 1) if self._seq else None
        self._before += self._seq
        self._epoch, self._seq = new_epoch(self._epoch, self.now, secrets.randbits(RANDOM_BITS)), 0
        self._publish(Kind.LOST, b"", prev)
        self._publish(Kind.CONNECTED, b"")

    def start(self) -> None:
        """START, and an Observation frame."""
        self._publish(Kind.START, flow(1))
        self._publish(Kind.FRAME, frame(core.G3FrameType.Observation, stream_placement="start", frame_num=self._seq))
        self._flush()

    def scans(self, count: int, size: int = 1000, every: int = 1) -> None:
        """So many data frames of `size` bytes, `every` ms."""
        for _ in range(count):
            self.now += every
            self._publish(Kind.FRAME, scan(self._frames, size))
            self._frames += 1
        self._flush()

    def lose(self, count: int) -> None:
        """So many records never come to Kafka."""
        self._seq += count
        self._lost += count

    def end(self) -> None:
        """END."""
        self._publish(Kind.END, flow(2))
        self._flush()

    def lost(self) -> None:
        """The connection was lost."""
        self._publish(Kind.LOST, b"")
        self._flush()

    def _publish(self, kind: Kind, value: bytes, prev: tuple[str, int] | None = None) -> None:
        epochs, self._epochs_before = self._epochs_before, 0
        for _ in range(epochs):
            for _ in range(RECORDS_BEFORE):
                self._publish(Kind.QUIET, b"")
            self.restart()
        label = RecordHeaders(kind, self._epoch, self._seq, type=frame_type(value) if value else None, prev=prev)
        topic = frames_topic(self.stream)
        headers: list[tuple[str, str | bytes | None]] = [*label.to_kafka()]
        self._producer.produce(topic, value, headers=headers, timestamp=self.now, partition=0)
        self._seq += 1

    def _flush(self) -> None:
        assert self._producer.flush(SECONDS) == 0


@contextmanager
def acquisitions_all_the_time(source: Source) -> Iterator[None]:
    """One after the other, of two files each if files take 10 s, until the end of the block."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.05):
            source.start()
            source.scans(150, every=100)
            source.end()

    sending = threading.Thread(target=send)
    sending.start()
    try:
        yield
    finally:
        over.set()
        sending.join()


def all_committed(recorder: Recorder, sources: Sequence[Source], archive: str = "archive") -> bool:
    """Whether all that these have sent is recorded there, and committed."""
    streams = [source.stream for source in sources]
    found = committed(recorder.servers, f"{recorder.stream}.{archive}", *streams)
    return all(offset >= source.sent for offset, source in zip(found, sources, strict=True))


def told(recorder: Recorder, archive: str = "archive") -> list[tuple[str, dict[str, Any]]]:
    """All that an archive has told on g3.files: keys and values."""
    consumer = Consumer({"bootstrap.servers": recorder.servers, "group.id": "unused", "enable.auto.commit": False})
    try:
        partition = TopicPartition(FILES_TOPIC, 0, 0)
        _, end = consumer.get_watermark_offsets(partition, SECONDS)
        consumer.assign([partition])
        found = [message for _ in range(end) if (message := consumer.poll(SECONDS))]
    finally:
        consumer.close()
    pairs = [((message.key() or b"").decode(errors="replace"), message.value() or b"") for message in found]
    group = f"{recorder.stream}.{archive}"
    return [(key, json.loads(value)) for key, value in pairs if key.startswith(f"{group}/")]


class FileEvents:
    """What comes on g3.files from now on."""

    def __init__(self, servers: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": "unused", "enable.auto.commit": False})
        partition = TopicPartition(FILES_TOPIC, 0)
        _, end = self._consumer.get_watermark_offsets(partition, SECONDS)
        self._consumer.assign([TopicPartition(FILES_TOPIC, 0, end)])
        self._next = end
        self._found: list[tuple[str, bytes]] = []

    def of(self, group: str) -> list[tuple[str, dict[str, Any]]]:
        """Those of a group so far: key and value."""
        return self.with_key(f"{group}/")

    def with_key(self, prefix: str) -> list[tuple[str, dict[str, Any]]]:
        """Those so far whose key begins with that."""
        _, end = self._consumer.get_watermark_offsets(TopicPartition(FILES_TOPIC, 0), SECONDS)
        while self._next < end:
            message = self._consumer.poll(SECONDS)
            assert message is not None
            assert message.error() is None
            self._next = (message.offset() or 0) + 1
            self._found.append(((message.key() or b"").decode(errors="replace"), message.value() or b""))
        # Other tests write there, too, at the same time, and not only what is an event.
        return [(key, json.loads(value)) for key, value in self._found if key.startswith(prefix)]

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()
