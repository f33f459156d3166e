"""Clients of a relay's server: each gets every byte in order, or is cut off; none holds up another."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest
from spt3g import core

from archiver.relay.client import Reason
from archiver.relay.frames import Frame, LatestFrames, Selection
from archiver.relay.live_feed import LiveFeed
from archiver.relay.live_stream import LiveStream
from archiver.relay.server import RelayServer
from g3stream.frame_format.layout import FRAME_TYPES
from g3stream.service.endpoint import ListenEndpoint
from tests.support.processes import SECONDS, eventually, frame, scan

SCAN, WIRING, OBSERVATION = (FRAME_TYPES[name] for name in ("Scan", "Wiring", "Observation"))
NOTHING = dict.fromkeys(Reason, 0)


class Relay:
    """A relay's server on a free port, to which the test publishes."""

    def __init__(self, server: RelayServer, feed: LiveFeed) -> None:
        self.server, self.feed = server, feed

    def publish(self, *frames: Frame) -> None:
        for each in frames:
            self.feed.publish(each)

    def connect(self, receive_bytes: int | None = None) -> socket.socket:
        """Return a client that is connected, once the relay serves it. receive_bytes: the size of its buffer."""
        before = self.clients + sum(self.server.status().disconnections.values())
        client = socket.socket()
        client.settimeout(SECONDS)
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.connect(("127.0.0.1", self.server.port))
        status = self.server.status
        eventually(lambda: status().clients + sum(status().disconnections.values()) > before, "accepted")
        return client

    @property
    def clients(self) -> int:
        return self.server.status().clients

    def await_gone(self, **reasons: int) -> None:
        expected = {**NOTHING, **{Reason(reason): count for reason, count in reasons.items()}}
        eventually(lambda: self.server.status().disconnections == expected, f"{reasons}")


@contextmanager
def relay(buffer: int = 64 << 20, *latest: Frame, max_clients: int = 64, stalled_s: float = 30.0) -> Iterator[Relay]:
    before = LatestFrames()
    for each in latest:
        before.add(each)
    feed = LiveFeed(LiveStream(buffer, before))
    where = ListenEndpoint("127.0.0.1", 0)
    with RelayServer(where, feed, Selection(), max_clients, stalled_s=stalled_s) as server:
        yield Relay(server, feed)


class Reading(threading.Thread):
    """Reads all that a client gets, until the end."""

    def __init__(self, client: socket.socket) -> None:
        super().__init__(daemon=True)
        self.received = bytearray()
        self.was_reset = False
        self._client = client
        self.start()

    def run(self) -> None:
        try:
            while data := self._client.recv(1 << 16):
                self.received += data
        except ConnectionResetError:
            self.was_reset = True

    def has(self, count: int) -> bool:
        return len(self.received) == count

    def all(self) -> bytes:
        self.join(SECONDS)
        assert not self.is_alive()
        return bytes(self.received)


def data(*frames: Frame) -> bytes:
    return b"".join(each.data for each in frames)


WIRED, OBSERVED = Frame(WIRING, b"wiring" * 9), Frame(OBSERVATION, b"observation" * 9)


def test_each_client_gets_the_latest_frames_and_then_every_byte_until_the_senders_connection_ends() -> None:
    scans = [Frame(SCAN, b"%d" % n * (n * n % 5000)) for n in range(300)]
    with relay(64 << 20, WIRED, OBSERVED) as served:
        early = [Reading(served.connect()) for _ in range(3)]
        served.publish(*scans[:150])
        eventually(lambda: served.server.status().frames == 3 * 152, "all are sent")
        late = Reading(served.connect())
        served.publish(*scans[150:])
        served.feed.publish_lost()
        assert [reading.all() for reading in early] == 3 * [data(WIRED, OBSERVED, *scans)]
        assert late.all() == data(WIRED, OBSERVED, *scans[150:])
        served.await_gone(ended=4)
        after = Reading(served.connect())
        served.publish(*scans[:5])
        eventually(lambda: after.received == data(*scans[:5]), "only what came since")
        assert not any(reading.was_reset for reading in (*early, late))
        served.feed.publish_lost()
        served.await_gone(ended=5)
        served.publish(*scans[:2])
        served.feed.publish_lost()
        served.publish(*scans[2:5])
        assert Reading(served.connect()).all() == data(*scans[:2]), "a connection that was over before it came back"
        last = Reading(served.connect())
        eventually(lambda: last.received == data(*scans[2:5]), "and the next")
    assert after.all() == data(*scans[:5])


def test_spt3g_reads_the_frames() -> None:
    written = frame(core.G3FrameType.Wiring, frame_num=99), *(scan(n, 10_000) for n in range(20))
    with relay(64 << 20, Frame(WIRING, written[0])) as served:
        reader = core.G3Reader(f"tcp://127.0.0.1:{served.server.port}")
        eventually(lambda: served.clients == 1, "spt3g is connected")
        served.publish(*(Frame(SCAN, each) for each in written[1:]))
        served.feed.publish_lost()
        read = []
        while found := reader.Process(None):
            read += [(each.type, each["frame_num"]) for each in found]
    assert read == [(core.G3FrameType.Wiring, 99), *((core.G3FrameType.Scan, n) for n in range(20))]


def test_a_client_that_does_not_read_is_cut_off_and_another_gets_everything() -> None:
    scans = [Frame(SCAN, bytes([n]) * 100_000) for n in range(200)]
    with relay(1 << 20) as served:
        stuck = served.connect(receive_bytes=4096)
        reading = Reading(served.connect())
        for n in range(0, 200, 5):
            served.publish(*scans[n : n + 5])
            eventually(partial(reading.has, (n + 5) * 100_000), "the other gets it")
            assert served.feed.status().bytes <= 1 << 20
        served.await_gone(slow=1)
        assert len(Reading(stuck).all()) < len(data(*scans))
        served.feed.publish_lost()
        assert reading.all() == data(*scans)


def test_a_client_that_accepts_nothing_for_long_is_cut_off() -> None:
    with relay(stalled_s=0.2) as served:
        stuck = served.connect(receive_bytes=4096)
        served.publish(*(Frame(SCAN, bytes(1 << 20)) for _ in range(20)))
        served.await_gone(stalled=1)
        assert len(Reading(stuck).all()) < 20 << 20


def test_clients_that_leave_or_speak_or_are_too_many_are_counted() -> None:
    with relay(max_clients=2) as served:
        served.connect().close()
        served.await_gone(left=1)
        speaking, other = served.connect(), served.connect()
        with suppress(ConnectionResetError):  # it may be refused before `connect` has returned
            assert Reading(served.connect()).all() == b""
        served.await_gone(left=1, refused=1)
        speaking.sendall(b"GET / HTTP/1.0\r\n\r\n")
        served.await_gone(left=1, refused=1, spoke=1)
        served.publish(WIRED)
        assert other.recv(100) == WIRED.data


@pytest.mark.parametrize("connected", [0, 3])
def test_it_is_closed_at_once(connected: int) -> None:
    with relay() as served:
        readings = [Reading(served.connect()) for _ in range(connected)]
    assert [reading.all() for reading in readings] == connected * [b""]
    assert served.clients == 0
