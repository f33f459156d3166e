"""`archiver relay` on a real Kafka: viewers that attach in mid-acquisition, a chained second site, --since."""

import re
import socket
from pathlib import Path

from spt3g import core

from archiver.kafka.topic_reader import TopicReader
from archiver.relay.latest_before import latest_before
from testbed.child_process import free_port
from tests.support.processes import SECONDS, Program, RawSender, Recorder, flow, frame, get, scan

FIRST = (
    flow(1)
    + frame(core.G3FrameType.Observation, number=1)
    + frame(core.G3FrameType.Wiring, number=2)
    + b"".join(scan(n) for n in range(20))
)
WIRING = frame(core.G3FrameType.Wiring, number=3)
LATEST = flow(1) + frame(core.G3FrameType.Observation, number=1) + WIRING
REST = scan(21, 2_500_000) + b"".join(scan(n) for n in range(22, 40)) + flow(2)
SECOND = flow(1) + b"".join(scan(n) for n in range(40, 50)) + flow(2)
ALIVE = flow(0)


def relay(recorder: Recorder, port: int, *arguments: str) -> Program:
    """Start a relay of the recorder's stream, and wait until it serves."""
    started = recorder.start("archiver", "relay", "--stream", recorder.stream, "--listen", str(port), *arguments)
    started.await_line("is served at")
    return started


def viewer(port: int, program: Program) -> socket.socket:
    """Return a client's connection that the relay serves."""
    connected = len(program.times_of("is connected"))
    client = socket.create_connection(("127.0.0.1", port), SECONDS)
    program.await_line("is connected", count=connected + 1)
    return client


def received(client: socket.socket, size: int) -> bytes:
    """Return that many bytes of frames but ALIVE, which depend on time."""
    found = b""
    while len(found) < size:
        data = client.recv(1 << 20)
        assert data, f"closed after {len(found)} of {size} bytes"
        found = (found + data).replace(ALIVE, b"")
    return found


def ended(client: socket.socket) -> bool:
    """Return whether nothing more comes but the regular end of the connection."""
    rest = b""
    while data := client.recv(1 << 20):
        rest += data
    return not rest.replace(ALIVE, b"")


def metric(port: int, name: str) -> float:
    """Return the sum of a metric's values."""
    values = re.findall(rf"^g3_relay_{name}\{{.*\}} (\S+)$", get(port, "/metrics")[1], re.MULTILINE)
    return sum(map(float, values))


def test_viewers_and_a_second_site_get_what_the_sender_sends_and_make_the_same_files(
    recorder: Recorder, tmp_path: Path
) -> None:
    recorder.create_topic()
    port, http = free_port(), free_port()
    with RawSender() as sender, Recorder(recorder.servers, f"{recorder.stream}-2", tmp_path / "second") as second:
        recorder.ingest(sender.port)
        archiver = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(FIRST + WIRING)
            recorder.await_frames(23)
            program = relay(recorder, port, "--http", str(http))
            second.create_topic()
            second.ingest(port)
            copying = second.archiver()
            program.await_line("is connected")
            late = viewer(port, program)
            connection.sendall(REST)
            assert received(late, len(LATEST + REST)) == LATEST + REST
            copying.await_line(r"finished .* \(end\)")
            assert metric(http, "clients") == 2
        assert ended(late)
        program.await_line("is disconnected .* the sender's connection has ended", count=2)
        with sender.accept() as connection:
            connection.sendall(SECOND)
            archiver.await_line(r"finished .* \(end\)", count=2)
            copying.await_line(r"finished .* \(end\)", count=2)
            returned = viewer(port, program)
            assert received(returned, len(SECOND)) == SECOND
            new = viewer(port, program)
            assert received(new, len(flow(2))) == flow(2)
        assert get(http, "/healthz") == (200, "ok\n")
        assert metric(http, "lost_records_total") == 0
        assert program.stop() == 0
        [first, other] = (path.read_bytes() for path in recorder.files())
        [first_copy, other_copy] = (path.read_bytes() for path in second.files())
    # The second site's ingest was connected in mid-acquisition.
    observation, wiring = frame(core.G3FrameType.Observation, number=1), WIRING
    assert first_copy == observation + wiring + first[first.index(scan(21, 2_500_000)) :]
    assert other_copy == other


def test_what_is_sent_once_in_a_long_session_is_found_at_its_beginning(recorder: Recorder) -> None:
    recorder.create_topic()
    session, other = {"session_id": 7}, {"session_id": 6}
    earlier = [frame(core.G3FrameType.Wiring, **other), frame(core.G3FrameType.Map, number=1)]
    once = [frame(core.G3FrameType.Observation, **session), frame(core.G3FrameType.Wiring, **session)]
    later = frame(core.G3FrameType.Calibration, **session)
    scans = [scan(n, **session) for n in range(600)]
    with RawSender() as sender:
        recorder.ingest(sender.port)
        with sender.accept() as connection:
            connection.sendall(b"".join([flow(1), *earlier, *(scan(n, **other) for n in range(100)), flow(2)]))
            connection.sendall(b"".join([flow(1), *once, *scans, later, scan(600, **session)]))
            recorder.await_frames(706)
            reader = TopicReader({"bootstrap.servers": recorder.servers}, "none")
            latest, position = latest_before(reader, recorder.stream, max_bytes=50_000)
    assert [each.data for each in latest.frames()] == [flow(1), *once, later]
    assert position.offset >= 711, "all that there is"


def test_since_gives_each_client_all_from_then_on_and_only_the_wanted_frames(recorder: Recorder) -> None:
    recorder.create_topic()
    port, only_port = free_port(), free_port()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        with sender.accept() as connection:
            connection.sendall(FIRST)
            recorder.await_frames(22)
        program = relay(recorder, port, "--since", "-1h")
        only = relay(recorder, only_port, "--since", "-1h", "--only", "Wiring", "Observation")
        clients = [viewer(port, program) for _ in range(2)]
        wanted = viewer(only_port, only)
        with sender.accept() as connection:
            connection.sendall(WIRING + REST)
            for client in clients:
                assert received(client, len(FIRST + WIRING + REST)) == FIRST + WIRING + REST
            expected = frame(core.G3FrameType.Observation, number=1) + frame(core.G3FrameType.Wiring, number=2)
            assert received(wanted, len(expected + WIRING)) == expected + WIRING
        clients[0].close()
        program.await_line("is disconnected .* it has closed the connection")
    assert program.stop() == 0
    assert ended(clients[1])
