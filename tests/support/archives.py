"""Archives of one topic: an undisturbed one, and others by archivers with an injected fault."""

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
from g3stream.frame_format.layout import parse_header
from tests.support.injection.stepped_clock import HostClock
from tests.support.processes import PATIENT, SECONDS, Program, RawSender, Recorder, committed, flow, frame, scan

STOPPED_AT = str(Path(__file__).with_name("injection") / "stopped_at.py")

FULL = os.environ.get("FAULTS") == "all"
"""Whether to test every combination, not only the sample that `make test` has time for."""

ONLY_IN_FULL = pytest.mark.skipif(not FULL, reason="only with FAULTS=all")

SEED = int(os.environ.get("FAULTS_SEED") or secrets.randbelow(1 << 32))
"""The seed of random choices. A test that uses it prints it."""

SPLIT_AT = ("--time-per-file", "20")
"""The archiver's settings for `publish_night`."""


def publish_night(recorder: Recorder) -> list[str]:
    """Send a small night through a real ingest, and record it in an archive `undisturbed`.

    The night has three files of two acquisitions, a carried frame, and a record of three chunks. Returns the files'
    paths below the data directory.
    """
    recorder.create_topic()
    observation = frame(core.G3FrameType.Observation, stream_placement="start", frame_num=0)
    clock = HostClock(recorder.directory)
    with RawSender() as sender:
        recorder.ingest(sender.port, clock=clock)
        archiver = recorder.archiver(*SPLIT_AT, archive="undisturbed")
        with sender.accept() as connection:
            connection.sendall(flow(1) + observation + b"".join(scan(n) for n in range(1, 30)))
            recorder.await_frames(30)
            clock.step(21)  # the next record belongs to the next file
            connection.sendall(scan(30, 2_500_000) + b"".join(scan(n) for n in range(31, 60)) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
            connection.sendall(flow(1) + scan(60) + scan(61) + flow(2))
            archiver.await_line(r"finished .* \(end\)", count=2)
    assert archiver.stop() == 0
    return verified_files(recorder)


def verified_files(recorder: Recorder, archive: str = "undisturbed") -> list[str]:
    """Return an archive's files, after checking them against their SHA256SUMS."""
    root = recorder.data(archive)
    for directory in {file.parent for file in recorder.files(archive)}:
        lines = [line.split("  ") for line in (directory / "SHA256SUMS").read_text().splitlines()]
        found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.glob("*.g3")}
        assert {name: digest for digest, name in lines} == found
    return [str(file.relative_to(root)) for file in recorder.files(archive)]


def disturbed(recorder: Recorder, what: list[str], *arguments: str, archive: str) -> Program:
    """Start an archiver with an injected fault. what: arguments of injection/stopped_at.py."""
    group, data = ["--group", f"{recorder.stream}.{archive}"], ["--data-dir", str(recorder.data(archive))]
    return recorder.start(STOPPED_AT, *what, "--", *data, *group, "--stream", recorder.stream, *PATIENT, *arguments)


class Gate:
    """A gate that holds a thread of an archiver at a call until it is opened."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "gate"
        os.mkfifo(self._path)

    def at(self, call: str, *, nth: int = 1) -> list[str]:
        """Return the fault, as `disturbed` takes it."""
        return ["hold", "before", call, "--nth", str(nth), "--gate", str(self._path)]

    def open(self) -> None:
        """Let the thread continue."""
        self._path.write_bytes(b"")


def quick_session(directory: Path) -> tuple[str, str]:
    """Return the flags of archivers with the shortest session that a broker allows by default.

    Their group soon notices a dead member, and they soon notice each other.
    """
    path = directory / "client.properties"
    path.write_text("session.timeout.ms=6000\nheartbeat.interval.ms=500\n")
    return "--kafka-config", str(path)


def assert_same_tree(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    """Assert that two trees are equal; fail with the first difference, without printing megabytes."""
    assert sorted(found) == sorted(expected)
    for name, data in expected.items():
        assert found[name] == data, f"{name}: {len(found[name])} bytes, not the expected {len(data)}"


def left_behind(recorder: Recorder, archive: str) -> list[str]:
    """Return the files in an archive's private directory, except locks and its identity."""
    private = recorder.data(archive) / ".archiver"
    files = [path for path in private.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return [str(path.relative_to(private)) for path in files if path != private / "archive.identity"]


EPOCHS_BEFORE, RECORDS_BEFORE = 40, 50
"""The history of a topic before a test: more starts of ingest than an archiver remembers, and the number of records
of each, none of them in a file."""


class Source:
    """A fast publisher of a stream's records, like ingest's, with a clock of its own: `now`, ms.

    Before its first record it publishes those of `epochs` starts of ingest without frames.
    """

    def __init__(self, servers: str, stream: str, epochs: int = EPOCHS_BEFORE) -> None:
        self.stream = stream
        self.now = int(time.time() * 1000)
        ours = {"enable.idempotence": True, "linger.ms": 1, "allow.auto.create.topics": False}
        self._producer = Producer({"bootstrap.servers": servers, **ours})
        self._epoch, self._seq = new_epoch(None, self.now, secrets.randbits(RANDOM_BITS)), 0
        self._frames = self._before = self._lost = 0
        self._epochs_before = epochs
        self.session: int | None = None
        """The session_id of its frames; they have none if it is None."""

    @property
    def sent(self) -> int:
        """Number of published records."""
        return self._before + self._seq - self._lost

    @property
    def frames(self) -> int:
        """Number of data frames, which are numbered from 0."""
        return self._frames

    def restart(self) -> None:
        """Continue as another ingest with the same spool."""
        prev = (self._epoch, self._seq - 1) if self._seq else None
        self._before += self._seq
        self._epoch, self._seq = new_epoch(self._epoch, self.now, secrets.randbits(RANDOM_BITS)), 0
        self._publish(Kind.LOST, b"", prev)
        self._publish(Kind.CONNECTED, b"")

    def start(self) -> None:
        """Publish START and an Observation frame."""
        self._publish(Kind.START, flow(1))
        self._publish(Kind.FRAME, frame(core.G3FrameType.Observation, stream_placement="start", frame_num=self._seq))
        self._flush()

    def scans(self, count: int, size: int = 1000, every: int = 1) -> None:
        """Publish `count` data frames of `size` bytes, one every `every` ms."""
        for _ in range(count):
            self.now += every
            self._publish(Kind.FRAME, scan(self._frames, size))
            self._frames += 1
        self._flush()

    def not_recorded(self, count: int) -> None:
        """Publish frames of a type that files don't contain."""
        for _ in range(count):
            self._publish(Kind.FRAME, frame(core.G3FrameType.EndProcessing))
        self._flush()

    def skip(self, count: int) -> None:
        """Skip `count` data frames, as if the sender had dropped them."""
        self._frames += count

    def lose(self, count: int) -> None:
        """Skip `count` records, as if they had never reached Kafka."""
        self._seq += count
        self._lost += count

    def end(self) -> None:
        """Publish END."""
        self._publish(Kind.END, flow(2))
        self._flush()

    def lost(self) -> None:
        """Publish a disconnection, a record of kind `lost`."""
        self._publish(Kind.LOST, b"")
        self._flush()

    def _publish(self, kind: Kind, value: bytes, prev: tuple[str, int] | None = None) -> None:
        epochs, self._epochs_before = self._epochs_before, 0
        for _ in range(epochs):
            for _ in range(RECORDS_BEFORE):
                self._publish(Kind.QUIET, b"")
            self.restart()
        session, number = (self.session, self._frames) if kind is Kind.FRAME and self.session else (None, None)
        headers = RecordHeaders(
            kind,
            self._epoch,
            self._seq,
            type=parse_header(value, 0)[2] if value else None,
            prev=prev,
            session=session,
            num=number,
        )
        topic = frames_topic(self.stream)
        encoded: list[tuple[str, str | bytes | None]] = [*headers.to_kafka()]
        self._producer.produce(topic, value, headers=encoded, timestamp=self.now, partition=0)
        self._seq += 1

    def _flush(self) -> None:
        assert self._producer.flush(SECONDS) == 0


@contextmanager
def continuous_acquisitions(source: Source) -> Iterator[None]:
    """Publish acquisitions, each of two files if files take 10 s, until the end of the block."""
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
    """Return whether all records of these sources are recorded in the archive and committed."""
    streams = [source.stream for source in sources]
    found = committed(recorder.servers, f"{recorder.stream}.{archive}", *streams)
    return all(offset >= source.sent for offset, source in zip(found, sources, strict=True))


def published_events(recorder: Recorder, archive: str = "archive") -> list[tuple[str, dict[str, Any]]]:
    """Return all events of an archive on g3.files, as keys and values."""
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
    """A reader of the events on g3.files from now on."""

    def __init__(self, servers: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": "unused", "enable.auto.commit": False})
        partition = TopicPartition(FILES_TOPIC, 0)
        _, end = self._consumer.get_watermark_offsets(partition, SECONDS)
        self._consumer.assign([TopicPartition(FILES_TOPIC, 0, end)])
        self._next = end
        self._found: list[tuple[str, bytes]] = []

    def of(self, group: str) -> list[tuple[str, dict[str, Any]]]:
        """Return a group's events so far, as keys and values."""
        return self.with_key(f"{group}/")

    def with_key(self, prefix: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the events so far whose key begins with `prefix`."""
        _, end = self._consumer.get_watermark_offsets(TopicPartition(FILES_TOPIC, 0), SECONDS)
        while self._next < end:
            message = self._consumer.poll(SECONDS)
            assert message is not None
            assert message.error() is None
            self._next = (message.offset() or 0) + 1
            self._found.append(((message.key() or b"").decode(errors="replace"), message.value() or b""))
        # Other tests publish there at the same time, not only events.
        return [(key, json.loads(value)) for key, value in self._found if key.startswith(prefix)]

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()
