"""Kafka fails, returns, deletes data: nothing is lost, duplicated or reordered; what Kafka deleted is reported."""

import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from g3stream.contract.headers import Kind
from g3stream.contract.topics import frames_topic
from testbed.child_process import free_port
from testbed.frames import decode_frames
from testbed.kafka.broker import Broker
from tests.support.archives import published_events
from tests.support.injection.proxy import FarBroker, Proxy
from tests.support.processes import SECONDS, Program, RawSender, Recorder, delete_before, eventually, flow, get, scan


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker to kill and start again."""
    with FarBroker(tmp_path_factory.mktemp("broker")) as started:
        yield started


@pytest.fixture
def impatient(tmp_path: Path) -> tuple[str, str]:
    """Flags for clients that reconnect to Kafka at once, not every ten seconds."""
    path = tmp_path / "client.properties"
    path.write_text("reconnect.backoff.max.ms=200\n")
    return "--kafka-config", str(path)


class Streaming:
    """Sends frames of about 20 kB at about 4 MB/s on one connection, until `finish`; then END."""

    def __init__(self, sender: RawSender) -> None:
        self.sent: list[bytes] = []
        self._sender = sender
        self._enough = threading.Event()
        self._ended = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def finish(self) -> bytes:
        """Send END. Returns all frames sent before it."""
        self._enough.set()
        assert self._ended.wait(SECONDS)
        return b"".join(self.sent)

    def _run(self) -> None:
        with self._sender.accept() as connection:
            while not self._enough.wait(0.005):  # the stream's rate
                data = scan(len(self.sent), 20_000)
                connection.sendall(data)
                self.sent.append(data)
            connection.sendall(flow(2))
            self._ended.set()
            connection.settimeout(None)
            connection.recv(1)  # until ingest ends


def assert_recorded_exactly(recorder: Recorder, sent: bytes) -> None:
    """Check that the files have the sent frames, and that an undisturbed archive has the same files."""
    recorded = b"".join(file.read_bytes() for file in recorder.files())
    assert len(recorded) == len(sent)
    assert recorded == sent
    undisturbed = recorder.archiver("--time-per-file", "1", archive="undisturbed")
    undisturbed.await_line(r"finished .* \(end\)")
    assert recorder.tree() == recorder.tree("undisturbed")
    files = {event["path"]: event["sha256"] for _, event in published_events(recorder) if event["event"] == "file"}
    assert sorted(files) == [str(file.relative_to(recorder.data())) for file in recorder.files()]
    assert len(files) > 3


def assert_quiet(*programs: Program) -> None:
    """Check that the programs report no loss and no error but Kafka's outage."""
    for program in programs:
        assert "LOST" not in program.log
        assert "connection closed" not in program.log
        # They report it every few seconds, and count the other messages.
        assert len(program.times_of("WARNING|ERROR")) < 60


@pytest.mark.slow
def test_a_broker_that_is_killed_and_comes_back(
    broker: Broker, stream: str, tmp_path: Path, dice: random.Random, impatient: tuple[str, str]
) -> None:
    with (
        Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder,
        RawSender() as sender,
    ):
        recorder.create_topic()
        ingest = recorder.ingest(sender.port, *impatient)
        archiver = recorder.archiver("--time-per-file", "1", *impatient)
        streaming = Streaming(sender)
        archiver.await_line("opened")
        for _ in range(2):
            time.sleep(dice.uniform(0.2, 1.5))
            files = len(archiver.times_of("finished"))
            broker.kill()
            time.sleep(dice.uniform(0, 1))
            broker.start()
            archiver.await_line("finished", count=files + 1)
        sent = streaming.finish()
        archiver.await_line(r"finished .* \(end\)")
        assert_quiet(ingest, archiver)
        assert_recorded_exactly(recorder, sent)


@pytest.mark.slow
def test_when_kafka_is_back_both_programs_say_so_once_however_many_streams_they_have(
    broker: Broker, stream: str, tmp_path: Path, impatient: tuple[str, str]
) -> None:
    with Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder, RawSender() as a, RawSender() as b:
        names = [stream, f"{stream}-2"]
        tables = [
            f'[[stream]]\nname = "{name}"\naddress = "127.0.0.1"\nport = {sender.port}\n'
            for name, sender in zip(names, (a, b), strict=True)
        ]
        file = tmp_path / "streams.toml"
        file.write_text("".join(tables))
        spool = ("--spool-dir", str(tmp_path / "spool"))
        ingest = recorder.start("ingest", "--streams", str(file), *spool, "--timeout", str(SECONDS), *impatient)
        archiver = recorder.archiver("--stream", names[1], *impatient)
        with a.accept() as first, b.accept() as second:
            for connection in (first, second):
                connection.sendall(scan(0))
            archiver.await_line("opened", count=2)
            broker.kill()
            for connection in (first, second):
                connection.sendall(scan(1))
            for name in names:
                ingest.await_line(f"WARNING .*Kafka at .* still trying for .*{name}$")
            archiver.await_line("WARNING .*Kafka at .*; nothing is lost, still trying")
            broker.start()
            ingest.await_line(
                r"INFO .*Kafka at \S+ answers again, after \d+ s: [\d.]+ MB wait in the spools of 2 streams"
            )
            archiver.await_line(r"INFO .*Kafka at \S+ answers again, after [\d.]+ s")
            for connection in (first, second):
                connection.sendall(flow(2))
            archiver.await_line(r"finished .* \(end\): 2 frames", count=2)
        assert len(ingest.times_of("answers again")) == 1
        assert len(archiver.times_of("answers again")) == 1


@pytest.mark.slow
def test_clients_of_a_relay_stay_connected_and_get_all_once_kafka_is_back(
    broker: Broker, stream: str, tmp_path: Path, impatient: tuple[str, str]
) -> None:
    port, http = free_port(), free_port()
    where = ("--stream", stream, "--listen", str(port), "--http", str(http))
    with Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder, RawSender() as sender:
        recorder.create_topic()
        recorder.ingest(sender.port, *impatient)
        relay = recorder.start("archiver", "relay", *where, *impatient)
        relay.await_line("is served at")
        with sender.accept() as connection, socket.create_connection(("127.0.0.1", port), SECONDS) as client:
            frames, received = [scan(number) for number in range(20)], b""
            connection.sendall(b"".join(frames[:10]))
            while len(received) < len(b"".join(frames[:10])):
                received = (received + client.recv(1 << 20)).replace(flow(0), b"")
            broker.kill()
            eventually(lambda: get(http, "/healthz")[0] == 503, "it reports that Kafka is away")
            connection.sendall(b"".join(frames[10:]))
            broker.start()
            while len(received) < len(b"".join(frames)):
                received = (received + client.recv(1 << 20)).replace(flow(0), b"")
        assert received == b"".join(frames)
        eventually(lambda: get(http, "/healthz")[0] == 200, "it reports that Kafka is back")
        assert relay.stop() == 0


@pytest.mark.slow
def test_connections_to_the_broker_that_are_cut_or_stall(
    stream: str, tmp_path: Path, dice: random.Random, impatient: tuple[str, str]
) -> None:
    port = free_port()
    with (
        Proxy(port) as proxy,
        Broker(tmp_path / "kafka", port, properties={"advertised.listeners": f"PLAINTEXT://{proxy.servers}"}),
        Recorder(proxy.servers, stream, tmp_path) as recorder,
        RawSender() as sender,
    ):
        recorder.create_topic()
        ingest = recorder.ingest(sender.port, *impatient)
        archiver = recorder.archiver("--time-per-file", "1", *impatient)
        streaming = Streaming(sender)
        archiver.await_line("opened")
        for _ in range(8):
            time.sleep(dice.uniform(0.1, 0.8))
            if dice.random() < 0.6:
                assert proxy.cut()
            else:
                proxy.stall()
                time.sleep(dice.uniform(0.1, 1.5))
                if dice.random() < 0.5:
                    proxy.cut()
                proxy.flow()
        files = len(archiver.times_of("finished"))
        archiver.await_line("finished", count=files + 2)
        sent = streaming.finish()
        archiver.await_line(r"finished .* \(end\)")
        assert_quiet(ingest, archiver)
        assert_recorded_exactly(recorder, sent)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["", "archiver-killed-too"])
def test_a_broker_that_dies_while_a_file_is_being_finished(
    broker: Broker, stream: str, tmp_path: Path, killed: bool, impatient: tuple[str, str]
) -> None:
    with (
        Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder,
        RawSender() as sender,
    ):
        recorder.create_topic()
        recorder.ingest(sender.port, *impatient)
        archiver = recorder.archiver(*impatient)
        archiver.await_line("recording to")
        # A file in place of the directory of the stream's files: finishing is blocked after its first commit.
        now = int(time.time())
        blocks = [recorder.data() / str(at)[:5] for at in {now, now + 100_000}]
        for block in blocks:
            block.touch()
        with sender.accept() as connection:
            connection.sendall(scan(0) + scan(1) + flow(2) + scan(2) + flow(2))
            archiver.await_line("publishing .*still trying")
            broker.kill()
            for block in blocks:
                block.unlink()
            eventually(lambda: len(recorder.files()) == 1, "the file under its name, while Kafka is down")
            first = recorder.files()[0]
            written = first.stat()
            if killed:
                archiver.kill()
            broker.start()
            if killed:
                archiver = recorder.archiver(*impatient)
            archiver.await_line(r"finished .* \(end\)", count=2)
    assert [file.read_bytes() for file in recorder.files()] == [scan(0) + scan(1), scan(2)]
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert "LOST" not in archiver.log


def test_retention_that_overtakes_a_stopped_archiver(recorder: Recorder) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        archiver = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(b"".join(scan(number) for number in range(10)))
            eventually(lambda: recorder.committed() >= 10, "ten frames committed")
            assert archiver.stop() == 0
            at = recorder.committed()
            connection.sendall(b"".join(scan(number) for number in range(10, 40)))
            eventually(lambda: scan(39) in [value for _, _, value in recorder.records()], "all of them in the topic")
            records = recorder.records()
            topic = frames_topic(recorder.stream)
            delete_before(recorder.servers, topic, at + 20)
            archiver = recorder.archiver()
            archiver.await_line(r"ERROR .*LOST")
            connection.sendall(scan(40) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
    frames = [data for file in recorder.files() for data in decode_frames(file.read_bytes())]
    remained = [value for headers, _, value in records[:at] + records[at + 20 :] if headers.kind is Kind.FRAME]
    assert frames == [*remained, scan(40)]
    lost = [event for _, event in published_events(recorder) if event["event"] == "loss"]
    assert sum(event["records"] for event in lost) == 20
    assert all(event["since"] <= event["until"] for event in lost)
    assert re.search(rf"offsets {at} to {at + 19}", archiver.log)


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_topic_that_is_deleted_and_created_again(recorder: Recorder, stopped: bool) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port)
        archiver = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(b"".join(scan(number) for number in range(10)) + flow(2))
            archiver.await_line(r"finished .* \(end\): 10 frames")
            connection.sendall(b"".join(scan(number) for number in range(10, 20)))
            eventually(lambda: recorder.committed() >= 20, "the open file's frames committed")
            before = recorder.tree()
            if stopped:
                assert archiver.stop() == 0
            recorder.recreate_topic()
            if stopped:
                archiver = recorder.archiver()
            connection.sendall(b"".join(scan(number) for number in range(20, 25)) + flow(2))
            archiver.await_line(r"finished .* \(end\)", count=1 if stopped else 2)
            connection.sendall(scan(25) + flow(2))
            archiver.await_line(r"finished .* \(end\)", count=2 if stopped else 3)
        assert ingest.stop() == 0
    after = recorder.tree()
    assert {name: after.get(name) for name in before if name.endswith(".g3")} == {
        name: data for name, data in before.items() if name.endswith(".g3")
    }
    frames = [data for file in recorder.files() for data in decode_frames(file.read_bytes())]
    assert frames[:10] == [scan(number) for number in range(10)]
    assert [data for data in frames if data in {scan(number) for number in range(20, 26)}] == [
        scan(number) for number in range(20, 26)
    ]
    assert len(set(frames)) == len(frames)
    assert "ERROR" in archiver.log
