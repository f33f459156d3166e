"""The recorder as an operator runs it: real `ingest` and `archiver` processes, and helpers to test them."""

import fcntl
import http.client
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import google_crc32c
import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from spt3g import core

from g3stream.contract.headers import Kind, RecordHeaders, headers_of
from g3stream.contract.topics import FRAMES_TOPIC_CONFIG, frames_topic
from testbed.child_process import start_child_process
from tests.support.injection import stepped_clock
from tests.support.injection.stepped_clock import HostClock

SECONDS = 60.0
"""The timeout of events that take well under a second on an idle machine."""

PATIENT = ("--gap", "60")
"""Archiver flags: no acquisition may end because a busy machine is slow with a test's next step."""

OUT_OF_ORDER = r"Kafka's client (delivered|had skipped)|the topic has no records at the offsets"
"""Log lines of an archiver about a record that wasn't the next one; no fault may cause any."""

_NOT_YET = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)


THIS_PYTHON = (sys.executable,)
"""The interpreter of the tests, whose environment has the version under test."""


class Program:
    """A running `ingest` or `archiver`, with its log as it is written.

    module: a module, or the path of a script. python: the interpreter, whose environment has the version to run.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], servers: str, python: Sequence[str] = THIS_PYTHON
    ) -> None:
        self.name = module
        self.may_fail = False
        """Whether the test expects a traceback in its log."""
        self.lines: list[tuple[float, str]] = []
        """Its log: each line with the time.time() at which it was read."""
        self._more = threading.Condition()
        self._reads = threading.Event()
        self._reads.set()
        self._ended = False
        self._process = start_child_process(
            [*python, *([module] if module.endswith(".py") else ["-m", module]), *arguments],
            stderr=subprocess.PIPE,
            env={**_environment(), "KAFKA_BOOTSTRAP_SERVERS": servers},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def log(self) -> str:
        """All log lines so far."""
        return "\n".join(line for _, line in self.lines)

    def await_line(self, pattern: str, seconds: float = SECONDS, count: int = 1) -> re.Match[str]:
        """Return the count-th match of the pattern in its log, one per line; fail if there is none in time."""

        def found() -> re.Match[str] | None:
            matches = [match for _, line in self.lines if (match := re.search(pattern, line))]
            return matches[count - 1] if len(matches) >= count else None

        with self._more:
            self._more.wait_for(lambda: self._ended or found() is not None, seconds)
            match = found()
        assert match is not None, f"{self.name} did not log {pattern!r} ({count} times):\n{self.log}"
        return match

    def times_of(self, pattern: str) -> list[float]:
        """Return the times of the log lines that match the pattern, s since 1970."""
        return [at for at, line in self.lines if re.search(pattern, line)]

    def leave_log_unread(self, pipe_bytes: int) -> None:
        """Stop reading its log, as a pager that waits for a key. pipe_bytes: the capacity of the pipe."""
        assert self._process.stderr is not None
        fcntl.fcntl(self._process.stderr, fcntl.F_SETPIPE_SZ, pipe_bytes)
        self._reads.clear()

    def read_log(self) -> None:
        """Continue reading its log."""
        self._reads.set()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self._process.send_signal(number)

    def exit_code(self, seconds: float = SECONDS) -> int:
        """Return the exit code; fail if the process doesn't end in time."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs:\n{self.log}") from None
        self.read_log()
        self._reader.join()
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to the process; return its exit code."""
        self.send(number)
        return self.exit_code()

    def kill(self) -> None:
        """Kill the process with SIGKILL, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self.read_log()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as log:
            for line in log:
                self._reads.wait()
                with self._more:
                    self.lines.append((time.time(), line.decode(errors="replace").rstrip()))
                    self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()


class Recorder:
    """One stream's recorder: its programs, which are killed at the end.

    At the end it checks that no program logged a traceback, and that Kafka's client delivered all records in order.
    An archive is a consumer group and a data directory of the same name. python: as Program takes it.
    """

    def __init__(self, servers: str, stream: str, directory: Path, python: Sequence[str] = THIS_PYTHON) -> None:
        self._python = python
        self.servers = servers
        self.stream = stream
        self.directory = directory
        self._programs: list[Program] = []

    def create_topic(
        self, stream: str | None = None, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        """Create the stream's topic before ingest does, so that an archiver started at the same time finds it."""
        admin = admin_client(self.servers)
        topic = frames_topic(stream or self.stream)
        new = NewTopic(topic, partitions, -1, config={**FRAMES_TOPIC_CONFIG, **(config or {})})
        admin.create_topics([new])[topic].result(SECONDS)

    def recreate_topic(self) -> None:
        """Delete the stream's topic with all its records, and create it again."""
        admin = admin_client(self.servers)
        topic = frames_topic(self.stream)
        admin.delete_topics([topic])[topic].result(SECONDS)
        eventually(lambda: topic not in admin.list_topics(timeout=SECONDS).topics, "the topic is deleted")
        self.create_topic()

    def ingest(self, port: int | None, *arguments: str, clock: HostClock | None = None) -> Program:
        """Start an ingest that connects to a port of this host.

        port: None if `arguments` have the source. clock: the clock of its host, if the test steps it. The timeout of
        silent senders is longer than the default, because a test's sender is slow on a busy machine.
        """
        spool = ["--stream", self.stream, "--spool-dir", str(self.directory / "spool"), "--spool-size", "1GiB"]
        source = [] if port is None else ["--address", "127.0.0.1", "--port", str(port)]
        module = ("ingest",) if clock is None else (stepped_clock.__file__, str(clock.file), "ingest")
        return self.start(*module, *spool, *source, "--timeout", str(SECONDS), *arguments)

    def archiver(self, *arguments: str, archive: str = "archive") -> Program:
        """Start an archiver of the stream, with a longer --gap than the default (PATIENT)."""
        group, data = ["--group", f"{self.stream}.{archive}"], ["--data-dir", str(self.data(archive))]
        return self.start("archiver", *data, *group, "--stream", self.stream, *PATIENT, *arguments)

    def start(self, module: str, *arguments: str) -> Program:
        """Start a program with only these arguments."""
        program = Program(module, arguments, self.servers, self._python)
        self._programs.append(program)
        return program

    def command(
        self, name: str, *arguments: str, archive: str = "archive", into: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run one of archiver's commands on an archive to its end; return its result.

        into: a data directory other than the archive's own.
        """
        where = ("--data-dir", str(into or self.data(archive)))
        whose = ("--group", f"{self.stream}.{archive}", "--stream", self.stream)
        return run_archiver(self.servers, name, *where, *whose, *arguments, seconds=4 * SECONDS, python=self._python)

    def kill(self) -> None:
        """Kill all programs that still run, with SIGKILL."""
        for program in self._programs:
            program.kill()

    def data(self, archive: str = "archive") -> Path:
        """Return an archive's data directory."""
        return self.directory / archive

    def files(self, archive: str = "archive") -> list[Path]:
        """Return an archive's finished files, in order."""
        return sorted(self.data(archive).glob("[0-9]*/*/*.g3"))

    def tree(self, archive: str = "archive") -> dict[str, bytes]:
        """Return the names and bytes of all public files of an archive."""
        root = self.data(archive)
        paths = [path for path in root.rglob("*") if path.is_file()]
        names = {path.relative_to(root): path for path in paths}
        return {str(name): path.read_bytes() for name, path in names.items() if name.parts[0] != ".archiver"}

    def committed(self, archive: str = "archive") -> int:
        """Return the offset that an archive has committed; -1 if none."""
        [offset] = committed(self.servers, f"{self.stream}.{archive}", self.stream)
        return offset

    def await_frames(self, count: int) -> None:
        """Wait until `count` records with frames, or chunks of them, are in the stream's topic."""

        def found() -> int:
            return sum(headers.kind is Kind.FRAME for headers, _, _ in self.records())

        eventually(lambda: found() >= count, f"{count} frames in Kafka")

    def records(self, topic: str | None = None) -> list[tuple[RecordHeaders, int, bytes]]:
        """Return the records in the stream's topic, or another, as headers, time in ms, and bytes; chunks apart."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "unused", "enable.auto.commit": False})
        found: list[tuple[RecordHeaders, int, bytes]] = []
        try:
            partition = TopicPartition(topic or frames_topic(self.stream), 0, 0)
            end = _end_of(consumer, partition)
            consumer.assign([partition])
            while len(found) < end:
                # `consume` waits for the requested number: it may not exceed the number of records.
                for message in consumer.consume(min(1000, end - len(found)), SECONDS):
                    assert message.error() is None
                    headers = RecordHeaders.from_kafka(headers_of(message))
                    found.append((headers, message.timestamp()[1], message.value() or b""))
        finally:
            consumer.close()
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for program in self._programs:
            print(f"--- log of {program.name}, {program.pid}\n{program.log}")
        if error is None:
            for program in self._programs:
                assert program.may_fail or "Traceback" not in program.log
                assert not program.times_of(OUT_OF_ORDER)


def _end_of(consumer: Consumer, partition: TopicPartition) -> int:
    """Return the offset after the last record, also of a topic so new that it has no leader yet."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return consumer.get_watermark_offsets(partition, SECONDS)[1]
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def committed(servers: str, group: str, *streams: str) -> list[int]:
    """Return the offset that a group has committed for each stream; -1 if none."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group})
    partitions = [TopicPartition(frames_topic(stream), 0) for stream in streams]
    deadline = time.monotonic() + SECONDS
    try:
        while True:
            try:
                return [max(-1, partition.offset) for partition in consumer.committed(partitions, SECONDS)]
            except KafkaException as error:
                # While a broker that was just started loads its groups.
                if error.args[0].code() not in _NOT_YET or time.monotonic() > deadline:
                    raise
            time.sleep(0.02)
    finally:
        consumer.close()


def run_archiver(
    servers: str,
    *arguments: str,
    seconds: float = SECONDS,
    stdin: str | None = None,
    python: Sequence[str] = THIS_PYTHON,
) -> "subprocess.CompletedProcess[str]":
    """Run `archiver` with these arguments to its end; print and return its result.

    stdin: its standard input. python: as Program takes it.
    """
    done = subprocess.run(
        [*python, "-m", "archiver", *arguments],
        env={**_environment(), "KAFKA_BOOTSTRAP_SERVERS": servers},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        input=stdin,
    )
    print(f"$ archiver {' '.join(arguments)}\n{done.stdout}{done.stderr}exit code {done.returncode}")
    assert "Traceback" not in done.stderr, done.stderr[done.stderr.index("Traceback") :][-2000:]
    return done


def _environment() -> dict[str, str]:
    """Return the environment without variables that would set options of these commands."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("INGEST_", "ARCHIVER_", "LOGLEVEL"))}


class RawSender:
    """A sender of exactly the given bytes, which listens on `port` of this host (0: a free one)."""

    def __init__(self, port: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(SECONDS)
        self.port: int = self._listener.getsockname()[1]

    def accept(self) -> socket.socket:
        """Accept ingest's next connection."""
        connection, _ = self._listener.accept()
        connection.settimeout(SECONDS)
        return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def closed_by_peer(connection: socket.socket, seconds: float = SECONDS) -> bool:
    """Return whether the other side closes or resets the connection in time."""
    if not select.select([connection], [], [], seconds)[0]:
        return False
    try:
        return not connection.recv(1)
    except ConnectionError:
        return True


def get(port: int, path: str) -> tuple[int, str]:
    """Return status and text of an HTTP response from that port of this host. Raises OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def eventually(condition: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    """Poll a condition that can't be awaited, such as an offset in Kafka; fail after the timeout."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {what}"
        time.sleep(0.02)


def delete_before(servers: str, topic: str, offset: int) -> None:
    """Delete the topic's records before `offset`, as retention does."""
    admin, partition = admin_client(servers), TopicPartition(topic, 0, offset)
    admin.delete_records([partition])[partition].result(SECONDS)


def admin_client(servers: str) -> AdminClient:
    """Return an admin client that creates no topic by a request. It must live until its response has arrived."""
    return AdminClient({"bootstrap.servers": servers, "log_level": 0, "allow.auto.create.topics": False})


def settings_of(servers: str, topic: str) -> dict[str, str]:
    """Return all settings of a topic. Raises KafkaException if it doesn't exist."""
    resource, admin = ConfigResource(ResourceType.TOPIC, topic), admin_client(servers)
    found = admin.describe_configs([resource])[resource].result(SECONDS)
    return {name: entry.value or "" for name, entry in found.items()}


def alter_topic(servers: str, topic: str, settings: Mapping[str, str]) -> None:
    """Change settings of a topic, as kafka-configs.sh does."""
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in settings.items()
    ]
    resource, admin = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries), admin_client(servers)
    admin.incremental_alter_configs([resource])[resource].result(SECONDS)


def bytes_in(directory: Path, pattern: str = "*") -> int:
    """Return the total size of the files in a directory; files that a program renames meanwhile may be left out."""
    found = 0
    for path in directory.rglob(pattern):
        with suppress(FileNotFoundError):
            found += path.stat().st_size if path.is_file() else 0
    return found


def frame(kind: Any, **values: Any) -> bytes:
    """Return a frame of that core.G3FrameType, serialized by spt3g."""
    made = core.G3Frame(kind)
    for key, value in values.items():
        made[key] = value
    data: bytes = made.__getstate__()[1]
    return data


def flow(value: int) -> bytes:
    """Return a flow control frame: 1 START, 2 END."""
    return frame(core.G3FrameType.none, sostream_flowcontrol=value)


def scan(number: int, size: int = 1000, **values: Any) -> bytes:
    """Return a data frame with that frame_num and `size` bytes of data."""
    data = core.G3VectorDouble(np.full(size // 8, number / 7))
    return frame(core.G3FrameType.Scan, frame_num=number, data=data, **values)


def numbers(data: bytes, path: Path) -> list[int]:
    """Return the frame_num of each frame in these bytes, read by spt3g, which checks CRCs. path: a scratch file."""
    path.write_bytes(data)
    return [found["frame_num"] for found in core.G3File(str(path))]


def frame_by_hand(blobs: Sequence[tuple[str, bytes]], code: int, order: str = "<") -> bytes:
    """Return a frame assembled by hand: keys in that order, any type code, byte order < or >."""
    out = bytearray(struct.pack(f"{order}BIiI", order == "<", 1, len(blobs), code))
    crc = 0
    for key, blob in blobs:
        name = key.encode()
        out += struct.pack(f"{order}Q", len(name)) + name + struct.pack(f"{order}Q", len(blob)) + blob
        for part in (name, blob):
            # G3's CRC32C starts from 0 and isn't inverted at the end, unlike the usual one.
            crc = google_crc32c.extend(crc ^ 0xFFFFFFFF, part) ^ 0xFFFFFFFF
    return bytes(out + struct.pack(f"{order}I", crc))
