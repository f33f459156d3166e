"""The broker and the simulator that everything else is tested with: that they do what they say."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.cimpl import NewTopic
from spt3g import core

from testbed.child_process import free_port
from testbed.kafka.broker import Broker
from testbed.server import ServerError
from testbed.smurf.simulator import Simulator, SimulatorError
from testbed.smurf.streamer import scan_data
from tests.support.processes import admin_client


def read_to_end(connection: socket.socket) -> bytes:
    """What arrives until the other side closes."""
    connection.settimeout(10)
    received = bytearray()
    while data := connection.recv(1 << 20):
        received += data
    return bytes(received)


def decode(wire: bytes, path: Path) -> list[Any]:
    """The frames in these bytes, by spt3g."""
    path.write_bytes(wire)
    return list(core.G3File(str(path)))


def describe(frame: Any) -> str:
    """A frame as short text: its flow control, or its type with its number."""
    name = str(frame.type)
    if "sostream_flowcontrol" in frame:
        return f"{name}:flow{frame['sostream_flowcontrol']}"
    return f"{name}:{frame['frame_num']}" if "frame_num" in frame else name


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(stream_id="crate1slot2") as started:
        yield started


def test_the_runs_broker_takes_and_gives_back(kafka: str, stream: str) -> None:
    create_topic(kafka, stream)
    produce(kafka, stream, [b"one", b"two"])
    assert consume(kafka, stream, 2) == [b"one", b"two"]


@pytest.mark.slow
def test_a_killed_broker_comes_back_on_its_port_with_its_data(tmp_path: Path) -> None:
    with Broker(tmp_path / "kafka", properties={"message.max.bytes": "2000"}) as broker:
        servers = broker.bootstrap_servers
        create_topic(servers, "kept")
        produce(servers, "kept", [b"before"])
        broker.kill()
        assert broker.pid is None
        broker.start()
        assert broker.bootstrap_servers == servers
        produce(servers, "kept", [b"after"])
        assert consume(servers, "kept", 2) == [b"before", b"after"]
        pid = broker.pid
        assert pid is not None
        broker.stop()
        assert not psutil.pid_exists(pid)


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} "):
            Broker(tmp_path, port).start()


def test_a_tethered_process_dies_with_a_killed_parent() -> None:
    program = (
        "import sys; from testbed.child_process import start_child_process; "
        "print(start_child_process(['sleep', '600']).pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            assert not ended(child, 0)
            parent.kill()
            assert ended(child, 5)
        finally:
            os.close(child)


def test_the_simulator_sends_what_it_says(simulator: Simulator, tmp_path: Path) -> None:
    with socket.create_connection(("127.0.0.1", simulator.port)) as reader:
        simulator.command("wait")
        start = simulator.command("start")
        scans = simulator.command("frames 3 --bytes 1001")
        wiring = simulator.command("wiring")
        end = simulator.command("end")
        simulator.command("cleanse")
        simulator.command("pipelineinfo")
        simulator.command("alive")
        assert simulator.command("drop")["drained"]
        frames = decode(read_to_end(reader), tmp_path / "wire.g3")

    while describe(frames[0]) == "none:flow0":  # what `wait` sent
        frames.pop(0)
    assert [describe(frame) for frame in frames] == [
        "none:flow1",
        "Observation:0",
        "Wiring:1",
        "Scan:2",
        "Scan:3",
        "Scan:4",
        "Wiring:5",
        "Observation:6",
        "none:flow2",
        "Observation:flow3",
        "Wiring:flow3",
        "PipelineInfo",
        "none:flow0",
    ]
    session = start["session"]
    assert (start["first"], start["last"]) == (0, 1)
    assert scans == {"command": "frames", "session": session, "first": 2, "last": 4, "frames": 3}
    assert (wiring["first"], wiring["last"], end["first"], end["last"]) == (5, 5, 6, 6)
    for frame in frames:
        if "session_id" in frame:
            assert (frame["session_id"], frame["sostream_id"]) == (session, "crate1slot2")
        if frame.type == core.G3FrameType.Scan:
            assert np.array_equal(np.asarray(frame["data"]), scan_data(session, frame["frame_num"], 1001))
    assert [f["stream_placement"] for f in frames if "stream_placement" in f] == ["start", "end"]


def test_a_dropped_connection_loses_nothing_and_the_port_stays(simulator: Simulator, tmp_path: Path) -> None:
    with socket.create_connection(("127.0.0.1", simulator.port)) as reader:
        simulator.command("wait")
        first = simulator.command("frames 20 --bytes 2000000")
        simulator.send("drop")  # far more is queued than the sockets' buffers hold
        frames = decode(read_to_end(reader), tmp_path / "first.g3")
        assert simulator.answer()["drained"]
    assert [f["frame_num"] for f in frames if "frame_num" in f] == list(range(20))

    with socket.create_connection(("127.0.0.1", simulator.port)) as reader:
        simulator.command("wait")
        simulator.command("start --bare")
        second = simulator.command("frames 2")
        simulator.command("quit")
        frames = decode(read_to_end(reader), tmp_path / "second.g3")
    assert second["session"] > first["session"]
    assert [describe(frame) for frame in frames][-3:] == ["none:flow1", "Scan:0", "Scan:1"]


def test_the_simulator_connects_out_and_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        server.settimeout(10)
        with Simulator(connect=f"127.0.0.1:{server.getsockname()[1]}") as simulator:
            with pytest.raises(SimulatorError, match="wait"):
                simulator.command("frames 1")
            for connection in (1, 2):
                simulator.command("wait")
                reader, _ = server.accept()
                with reader:
                    sent = simulator.command("frames 2")
                    assert simulator.command("drop")["drained"]
                    frames = decode(read_to_end(reader), tmp_path / f"{connection}.g3")
                assert [f["frame_num"] for f in frames] == [sent["first"], sent["last"]]


def test_rate_and_silence_take_no_less_time_than_they_say(simulator: Simulator) -> None:
    for command, seconds in (("frames 11 --rate 20", 0.5), ("silence 0.4", 0.4)):
        begun = time.monotonic()
        simulator.command(command)
        assert time.monotonic() - begun >= seconds


def test_a_wrong_command_is_told_and_does_no_harm(simulator: Simulator) -> None:
    for line in ("fly", "frames many", "frames", "wait 0.05"):
        with pytest.raises(SimulatorError, match=line):
            simulator.command(line)
    assert simulator.command("frames 1")["frames"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_simulator_ends_at_once_even_if_its_reader_does_not_read(
    simulator: Simulator, number: signal.Signals
) -> None:
    with socket.create_connection(("127.0.0.1", simulator.port)):
        simulator.command("wait")
        simulator.command("frames 20 --bytes 2000000")
        process = os.pidfd_open(simulator.pid)
        try:
            simulator.send("frames 1000 --rate 1")
            os.kill(simulator.pid, number)
            assert ended(process, 2)
        finally:
            os.close(process)


def ended(process: int, seconds: float) -> bool:
    """Whether the process behind a pidfd ends within that time, reaped by its new parent or not."""
    return bool(select.select([process], [], [], seconds)[0])


def create_topic(servers: str, topic: str) -> None:
    admin = admin_client(servers)
    admin.create_topics([NewTopic(topic, 1)])[topic].result(10)


def produce(servers: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": servers, "acks": "all"})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(10) == 0


def consume(servers: str, topic: str, count: int) -> list[bytes | None]:
    # The group is never joined: partitions are assigned, nothing is committed.
    consumer = Consumer({"bootstrap.servers": servers, "group.id": topic, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return [message.value() for message in consumer.consume(count, timeout=10)]
    finally:
        consumer.close()
