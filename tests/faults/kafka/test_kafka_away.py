"""Kafka is down while a stream runs at full speed: ingest keeps reading in little memory, and all is recorded."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from g3stream.contract.headers import Kind, RecordHeaders, headers_of
from g3stream.contract.topics import frames_topic
from testbed.child_process import free_port
from tests.support.archives import Gate, Source, assert_same_tree, disturbed
from tests.support.injection.proxy import FarBroker
from tests.support.injection.stepped_clock import HostClock
from tests.support.processes import SECONDS, Program, RawSender, Recorder, eventually, flow, get, scan

FRAMES = 500
FRAME_BYTES = 2_000_000
ANONYMOUS_BYTES = 150e6
STEP_SECONDS = 60.0
STOP_SECONDS = 8.0
"""It takes 4 s on an idle machine; it once took 10 to 20 s, or never ended."""


class Memory(threading.Thread):
    """Samples the maximum of a process's anonymous memory, bytes."""

    def __init__(self, program: Program) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self._status = Path(f"/proc/{program.pid}/status")
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.02):
            try:
                match = re.search(r"RssAnon:\s+(\d+) kB", self._status.read_text())
            except OSError:
                return  # it has ended
            self.most = max(self.most, int(match[1]) * 1024 if match else 0)

    def stop(self) -> None:
        self._over.set()
        self.join()


def received(http: int) -> float:
    """Return the number of frames that ingest has read, from its metrics."""
    (frames,) = re.findall(r"^g3_ingest_frames_total\{.*\} (\S+)$", get(http, "/metrics")[1], re.MULTILINE)
    return float(frames)


def frames_to_end(servers: str, stream: str) -> Iterator[tuple[int, bytes]]:
    """Yield all whole frames up to END, in order: time in ms, and bytes."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "unused", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(frames_topic(stream), 0, 0)])
        parts: list[bytes] = []
        while True:
            message = consumer.poll(SECONDS)
            assert message is not None
            assert message.error() is None
            headers = RecordHeaders.from_kafka(headers_of(message))
            if headers.kind is Kind.END:
                return
            if headers.kind is Kind.FRAME:
                parts.append(message.value() or b"")
                assert headers.chunk[0] == len(parts), "each chunk once, in order"
                if headers.chunk[0] == headers.chunk[1]:
                    yield message.timestamp()[1], b"".join(parts)
                    parts = []
    finally:
        consumer.close()


@pytest.mark.slow
def test_a_gigabyte_that_came_while_kafka_was_away_arrives_with_its_own_timestamps(
    stream: str, tmp_path: Path
) -> None:
    broker = FarBroker(tmp_path / "kafka")  # which isn't running yet
    frames = [scan(number, FRAME_BYTES) for number in range(FRAMES)]
    sent: list[float] = []
    clock, http = HostClock(tmp_path), free_port()
    with Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder, RawSender() as sender:
        ingest = recorder.ingest(sender.port, "--spool-size", "2GiB", "--http", str(http), clock=clock)
        memory = Memory(ingest)
        with sender.accept() as connection:
            for number, frame in enumerate(frames):
                if number == FRAMES // 2:  # makes the times of receipt recognizable
                    eventually(lambda number=number: received(http) == number, "all of these are read")  # type: ignore[misc]  # mypy infers no lambda with a default
                    clock.step(STEP_SECONDS)
                sent.append(clock.time())
                connection.sendall(frame)
            connection.sendall(flow(2))
            ingest.await_line("END")
            read_at = clock.time()
            took = read_at - sent[0] - STEP_SECONDS
            print(f"read {FRAMES * FRAME_BYTES / took / 1e6:.0f} MB/s with Kafka down")
            with broker:
                ingest.await_line("created the topic")
                times = []
                for number, (at, data) in enumerate(frames_to_end(broker.bootstrap_servers, stream)):
                    assert data == frames[number]
                    times.append(at / 1000)
                assert ingest.stop() == 0
                memory.stop()
                ingest.await_line("everything received is published")
    assert len(times) == FRAMES
    assert times == sorted(times)
    assert all(begun - 0.01 < at < read_at for begun, at in zip(sent, times, strict=True))
    assert times[FRAMES // 2] - times[FRAMES // 2 - 1] > STEP_SECONDS - 1, "the step in the times is where it was"
    print(f"at most {memory.most / 1e6:.0f} MB of anonymous memory")
    assert memory.most < ANONYMOUS_BYTES


@pytest.mark.slow
def test_an_archiver_stops_within_seconds_though_its_commit_waits_for_kafka(stream: str, tmp_path: Path) -> None:
    with FarBroker(tmp_path / "kafka") as broker, Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder:
        recorder.create_topic()
        source, gate = Source(recorder.servers, stream), Gate(tmp_path)
        source.start()
        source.scans(20)
        archiver = disturbed(recorder, gate.at("commit "), archive="archive")
        archiver.await_line("^stopped_at: hold")
        broker.kill()
        gate.open()
        archiver.send(signal.SIGTERM)
        assert archiver.exit_code(STOP_SECONDS) == 0
        archiver.await_line("stopped; everything recorded is durable")


NAMED = r"link .*\.g3$"
"""The call that publishes a file under its final name."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    ["fdatasync", NAMED, "watermarks g3.files"],
    ids=["it commits", "it finishes a file", "it recovers a stream"],
)
def test_an_archiver_stops_within_seconds_while_kafka_does_not_answer(stream: str, tmp_path: Path, call: str) -> None:
    """Connections stay open, so the archiver doesn't know yet. The next archiver completes what was begun."""
    with FarBroker(tmp_path / "kafka") as broker, Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder:
        recorder.create_topic()
        source, gate = Source(recorder.servers, stream), Gate(tmp_path)
        source.start()
        source.scans(20)
        archiver = disturbed(recorder, gate.at(call), archive="archive")
        if call == NAMED:
            archiver.await_line("opened")
            source.end()
        archiver.await_line("^stopped_at: hold")
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGSTOP)
        gate.open()
        archiver.send(signal.SIGTERM)
        try:
            assert archiver.exit_code(STOP_SECONDS) == 0
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        archiver = recorder.archiver()
        if call != NAMED:
            source.end()
        archiver.await_line(r"finished .* \(end\)")
        undisturbed = recorder.archiver(archive="undisturbed")
        undisturbed.await_line(r"finished .* \(end\)")
        assert_same_tree(recorder.tree(), recorder.tree("undisturbed"))
