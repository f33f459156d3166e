"""Either process may be stopped or killed at any moment; what lies on disk in the end is the same."""

import hashlib
import random
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from spt3g import core

from g3stream.contract.headers import Kind
from testbed.frames import decode_frames
from testbed.kafka.broker import Broker
from testbed.smurf.simulator import Simulator
from tests.support.processes import SECONDS, RawSender, Recorder, bytes_in, eventually, flow, scan


def assert_sums_hold(recorder: Recorder, archive: str) -> None:
    """Every finished file has its line in SHA256SUMS, and its line is true."""
    for directory in {file.parent for file in recorder.files(archive)}:
        lines = [line.split("  ") for line in (directory / "SHA256SUMS").read_text().splitlines()]
        found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.glob("*.g3")}
        assert {name: digest for digest, name in lines} == found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_archiver_goes_on_with_the_same_file(recorder: Recorder, number: signal.Signals) -> None:
    recorder.create_topic()
    with Simulator() as simulator:
        recorder.ingest(simulator.port)
        untouched = recorder.archiver(archive="untouched")
        archiver = recorder.archiver()
        simulator.command("wait")
        simulator.command("start")
        simulator.command("frames 50")
        opened = archiver.await_line(r"opened (\S+)")[1]
        eventually(lambda: recorder.committed() >= 10, "a commit of frames")
        simulator.send("frames 60 --rate 40")  # it is stopped in the middle of these
        code = archiver.stop(number)
        if number is signal.SIGKILL:
            assert code == -signal.SIGKILL
        else:
            assert code == 0
            archiver.await_line("everything recorded is durable and committed")
        assert recorder.files() == []
        again = recorder.archiver()
        assert again.await_line(r"continuing (\S+)")[1] == opened
        simulator.answer()
        simulator.command("end")
        again.await_line(rf"finished {opened} \(end\)")
        untouched.await_line(rf"finished {opened} \(end\)")
    assert recorder.tree() == recorder.tree("untouched")
    assert [str(file.relative_to(recorder.data())) for file in recorder.files()] == [opened]
    read = list(core.G3File(str(recorder.files()[0])))
    assert [found["frame_num"] for found in read] == list(range(2 + 50 + 60 + 1))
    assert_sums_hold(recorder, "archive")


def test_an_archiver_killed_again_and_again_makes_the_same_files(recorder: Recorder) -> None:
    recorder.create_topic()
    with Simulator() as simulator:
        recorder.ingest(simulator.port)
        settings = ("--time-per-file", "0.5")
        untouched = recorder.archiver(*settings, archive="untouched")
        archiver = recorder.archiver(*settings)
        simulator.command("wait")
        simulator.command("start")
        simulator.send("frames 200 --rate 60 --bytes 50000")
        archiver.await_line("opened")
        moments = random.Random(7)
        for _ in range(4):
            # Any moment: files are opened, made durable and finished all the time.
            time.sleep(moments.uniform(0, 0.5))
            archiver.kill()
            archiver = recorder.archiver(*settings)
            archiver.await_line(f"recording {recorder.stream}")
        simulator.answer()
        simulator.command("observation")
        simulator.command("end")
        untouched.await_line(r"finished .* \(end\)")
        last = recorder.files("untouched")[-1].relative_to(recorder.data("untouched"))
        archiver.await_line(rf"finished {last}")
    assert len(recorder.files()) > 4
    assert recorder.tree() == recorder.tree("untouched")
    assert_sums_hold(recorder, "archive")


def test_an_archiver_that_was_away_records_what_came_meanwhile(recorder: Recorder) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        untouched = recorder.archiver(archive="untouched")
        archiver = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(0))
            archiver.await_line("opened")
            assert archiver.stop(signal.SIGINT) == 0
            connection.sendall(scan(1) + flow(2) + flow(1) + scan(2) + flow(2))
            untouched.await_line(r"finished .* \(end\)", count=2)
        archiver = recorder.archiver()
        archiver.await_line(r"finished .* \(end\)", count=2)
        assert archiver.stop(signal.SIGINT) == 0
    assert recorder.tree() == recorder.tree("untouched")
    assert [file.read_bytes() for file in recorder.files()] == [scan(0) + scan(1), scan(2)]


class CountingSender:
    """Sends numbered frames as fast as they are read, on each connection that ingest makes; each says on which.

    `sent` has, per connection, the frames that were handed to the kernel whole. `enough` ends them with END.
    """

    def __init__(self, sender: RawSender) -> None:
        self.sent: list[list[bytes]] = []
        self.enough = threading.Event()
        self._sender = sender
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Return when the last frame is sent."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self.enough.is_set():
            self.sent.append([])
            with self._sender.accept() as connection:
                try:
                    while not self.enough.is_set():
                        self._send(connection, len(self.sent) - 1, len(self.sent[-1]))
                    connection.sendall(flow(2))
                    connection.recv(1)  # until ingest closes it: an end of the connection would come too early
                except (BrokenPipeError, ConnectionResetError):
                    continue  # ingest has gone

    def _send(self, connection: socket.socket, number: int, count: int) -> None:
        data = scan(count, 20_000, connection=number)
        connection.sendall(data)
        self.sent[-1].append(data)
        time.sleep(0.001)  # the stream's rate


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restarted_ingest_begins_an_acquisition_and_no_frame_is_missing_or_doubled(
    recorder: Recorder, number: signal.Signals
) -> None:
    recorder.create_topic()
    published = []
    with RawSender() as sender:
        archiver = recorder.archiver()
        counting = CountingSender(sender)
        for connection in range(3):
            ingest = recorder.ingest(sender.port)
            archiver.await_line("opened", count=connection + 1)
            eventually(lambda: len(counting.sent[-1]) > 200, "200 frames sent")
            if connection == 2:
                counting.enough.set()
                archiver.await_line(r"finished .* \(end\)")
                assert ingest.stop(signal.SIGINT) == 0
            else:
                published.append(frames_of_last_connection(recorder))
                assert ingest.stop(number) == (0 if number is signal.SIGTERM else -signal.SIGKILL)
        counting.join()
    recorded = [file.read_bytes() for file in recorder.files()]
    sent = [b"".join(frames) for frames in counting.sent]
    assert len(recorded) == len(sent) == 3
    assert recorded[2] == sent[2]
    for connection in range(2):
        # All that came before some moment, each once, and at least what others had seen of it.
        whole = len(decode_frames(recorded[connection]))
        assert whole >= published[connection] > 0
        assert sent[connection].startswith(recorded[connection])
    assert "LOST" not in archiver.log


def frames_of_last_connection(recorder: Recorder) -> int:
    """How many of its frames are in the topic already."""
    kinds = [label.kind for label, _, _ in recorder.records()]
    return kinds[::-1].index(Kind.CONNECTED)


def test_what_only_the_spool_had_when_ingest_was_killed_or_stopped_is_recorded_once(
    stream: str, tmp_path: Path
) -> None:
    broker = Broker(tmp_path / "kafka")  # which isn't running yet
    frames = [scan(number, 2_000_000) for number in range(10)]
    with Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder, RawSender() as sender:
        killed, archiver = recorder.ingest(sender.port), recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(b"".join(frames))
            # Only the space it takes there shows from outside that the last frame is in the spool.
            spool, size = tmp_path / "spool" / stream / "spool", len(b"".join(frames))
            eventually(lambda: bytes_in(spool) > size, "all frames in the spool")
            killed.kill()
        stopped = recorder.ingest(sender.port)
        stopped.await_line(r"MB from before wait in the spool")
        with sender.accept() as connection:
            connection.sendall(scan(10))
            stopped.await_line("first frame")
            for program in (archiver, stopped):
                program.send(signal.SIGTERM)
            for program in (archiver, stopped):
                assert program.exit_code(10) == 0
            stopped.await_line(r"stopped; [0-9.]+ MB wait in the spool")
        ingest = recorder.ingest(sender.port)
        with broker, sender.accept() as connection:
            ingest.await_line("created the topic")
            archiver = recorder.archiver()
            connection.sendall(scan(11) + flow(2))
            archiver.await_line(r"finished .* \(end\): 1 frames")
            assert [file.read_bytes() for file in recorder.files()] == [b"".join(frames), scan(10), scan(11)]
            assert "LOST" not in archiver.log
