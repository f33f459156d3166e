"""ingest is killed at any instant, Kafka comes and goes: every frame that was received is recorded, and once."""

import random
import select
import socket
import threading
import time
from pathlib import Path

import pytest

from testbed.frames import decode_frames
from tests.support.injection.proxy import FarBroker
from tests.support.processes import RawSender, Recorder, eventually, flow, scan

KILLS = 4
RECEIVED_SECONDS = 0.7
"""What was sent so long before a kill had been received. What came later may be in the killed socket still."""


class EndlessSender(threading.Thread):
    """Sends frames of many sizes on each connection that ingest makes, until `enough`; then END.

    `sent`: for each connection, when each frame was handed to the kernel whole (time.monotonic()), and the frame.
    """

    def __init__(self, sender: RawSender, dice: random.Random) -> None:
        super().__init__(daemon=True)
        self.sent: list[list[tuple[float, bytes]]] = []
        self.enough = threading.Event()
        self._sender = sender
        self._dice = dice
        self.start()

    def run(self) -> None:
        while not self.enough.is_set():
            frames: list[tuple[float, bytes]] = []
            with self._sender.accept() as connection:
                self.sent.append(frames)
                try:
                    self._send(connection, frames)
                except (BrokenPipeError, ConnectionResetError):
                    continue  # ingest is killed

    def _send(self, connection: socket.socket, frames: list[tuple[float, bytes]]) -> None:
        number = len(self.sent) - 1
        while not self.enough.is_set():
            size = self._dice.choice([80, 2000, *[20_000] * 12, 3_000_000])
            data = scan(len(frames), size, connection=number)
            connection.sendall(data)
            frames.append((time.monotonic(), data))
            # At the pace of a stream: nothing is left unread for long but by a kill.
            select.select([connection], [], [], 0.004)
        connection.sendall(flow(2))
        connection.recv(1)  # until ingest closes it: an end of the connection would come too early


@pytest.mark.slow
def test_every_frame_that_a_killed_ingest_had_received_is_recorded_once(
    stream: str, tmp_path: Path, dice: random.Random
) -> None:
    broker = FarBroker(tmp_path / "kafka")
    broker.start()
    killed_at = []
    try:
        with Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder, RawSender() as sender:
            recorder.create_topic()
            archiver = recorder.archiver()
            archiver.await_line(f"recording {stream}")
            sending = EndlessSender(sender, random.Random(dice.random()))
            ingest = recorder.ingest(sender.port)
            for kill in range(KILLS):
                eventually(lambda kill=kill: len(sending.sent) > kill, "a connection")  # type: ignore[misc]  # mypy infers no lambda with a default
                if kill == 1:
                    broker.kill()
                # Any moment, but late enough for frames that must be there.
                time.sleep(RECEIVED_SECONDS + dice.uniform(0, 0.6))
                ingest.kill()
                killed_at.append(time.monotonic())
                if kill == 3:
                    broker.start()
                ingest = recorder.ingest(sender.port)
            eventually(lambda: len(sending.sent) > KILLS, "the last connection")
            eventually(lambda: len(sending.sent[-1]) > 100, "frames on it")
            sending.enough.set()
            archiver.await_line(r"finished .* \(end\)")
            assert ingest.stop() == 0
            assert archiver.stop() == 0
            assert "LOST" not in archiver.log
            recorded = [frame for file in recorder.files() for frame in decode_frames(file.read_bytes())]
    finally:
        broker.stop()
    connections = {frame: n for n, frames in enumerate(sending.sent) for _, frame in frames}
    for n, frames in enumerate(sending.sent):
        sent = [frame for _, frame in frames]
        # A frame whose sending the kill cut short may have been read whole.
        here = [frame for frame in recorded if connections.get(frame, -1) == n]
        assert here == sent[: len(here)], f"connection {n}: in order, each once, none left out"
        before = killed_at[n] - RECEIVED_SECONDS if n < KILLS else float("inf")
        due = sum(at < before for at, _ in frames)
        assert len(here) >= due > 0, f"connection {n}: all that was received"
    assert [connections[frame] for frame in recorded if frame in connections] == sorted(
        connections[frame] for frame in recorded if frame in connections
    )
    assert sum(frame not in connections for frame in recorded) <= KILLS
