"""A connection to a sender on loopback: made, read, closed, made again, and stopped at any moment."""

import queue
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

from g3stream.service.endpoint import ClientEndpoint, ListenEndpoint, ListenError
from ingest.config import MIN_SPOOL_BYTES, StreamSettings
from ingest.receive.connection import Connection, ConnectionListener
from testbed.child_process import HOST, free_port
from tests.support.frames import frame
from tests.support.processes import eventually

LIMIT = 1 << 20
FRAME = frame([(b"key", b"blob")])
SOON = 10.0  # s; a test that waits so long fails
NEVER = 3600.0  # s; what takes so long has to be ended by something else

ListenerEvent = tuple[str, str | list[bytes] | None]


class Clock:
    """A connection's clock, in s, that only a test advances. waiting_ends: at once, or else never."""

    def __init__(self, *, waiting_ends: bool = True) -> None:
        self.now = 0.0
        self._waiting_ends = waiting_ends
        self.readings = 0
        """How often it was read."""
        self.waits: queue.Queue[float] = queue.Queue()
        """How long the connection waited, each time that it did."""
        self._read = threading.Condition()

    def __call__(self) -> float:
        with self._read:
            self.readings += 1
            self._read.notify_all()
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """As threading.Event.wait."""
        if seconds > 0:
            self.waits.put(seconds)
            if not self._waiting_ends:
                return event.wait(NEVER)
            self.now += seconds
        return event.is_set()

    def await_readings(self, count: int) -> None:
        """Return when it has been read that often in all."""
        with self._read:
            assert self._read.wait_for(lambda: self.readings >= count, SOON)


@dataclass
class Listener:
    """Collects what a connection reports. on_frames runs in its thread, and says whether there was data.

    times: of its clock, at which each kind of event was reported.
    """

    on_frames: Callable[[], bool] = lambda: True
    clock: Clock = field(default_factory=Clock)
    reported: "queue.Queue[ListenerEvent]" = field(default_factory=queue.Queue)
    times: "defaultdict[str, list[float]]" = field(default_factory=lambda: defaultdict(list))

    def events(self) -> ConnectionListener:
        """What to give to the Connection."""
        return ConnectionListener(
            connected=lambda peer: self._add("connected", peer),
            frames=self._frames,
            idle=lambda: self._add("quiet", None),
            disconnected=lambda why: self._add("lost", why),
        )

    def _add(self, kind: str, what: str | list[bytes] | None) -> None:
        self.times[kind].append(self.clock.now)
        self.reported.put((kind, what))

    def _frames(self, frames: list[bytes | memoryview]) -> bool:
        self._add("frames", [bytes(one) for one in frames])
        return self.on_frames()

    def next(self, kind: str) -> str | list[bytes] | None:
        """What it reports next, which must be of that kind."""
        got, what = self.reported.get(timeout=SOON)
        assert got == kind, what
        return what

    def frames(self, count: int) -> list[bytes]:
        """The next so many frames, in as many readings as it took."""
        found: list[bytes] = []
        while len(found) < count:
            more = self.next("frames")
            assert isinstance(more, list)
            found += more
        return found

    def why(self) -> str:
        """Why the connection was closed, which it reports next."""
        reason = self.next("lost")
        assert isinstance(reason, str)
        return reason


def settings(where: ClientEndpoint | ListenEndpoint, timeout: float) -> StreamSettings:
    """Those of a stream whose sender is there."""
    return StreamSettings("s", where, timeout, LIMIT, {}, None, MIN_SPOOL_BYTES)


@contextmanager
def running(
    where: ClientEndpoint | ListenEndpoint, listener: Listener, timeout: float = NEVER, clock: Clock | None = None
) -> Iterator[tuple[Connection, threading.Thread]]:
    """A connection in its thread, which ends with the block. clock: instead of the real one."""
    its_clock: dict[str, Any] = {"clock": clock, "wait": clock.wait} if clock else {}
    connection = Connection(settings(where, timeout), listener.events(), **its_clock)
    thread = threading.Thread(target=connection.run, daemon=True)
    thread.start()
    try:
        yield connection, thread
    finally:
        stop(connection, thread)


def stop(connection: Connection, thread: threading.Thread) -> None:
    """Stop it, and see that it ends, whatever it waits for: for that alone it would wait NEVER."""
    connection.stop()
    thread.join(SOON)
    assert not thread.is_alive()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A sender's listening socket."""
    with socket.create_server((HOST, 0)) as listening:
        listening.settimeout(SOON)
        yield listening


@pytest.fixture
def listener() -> Listener:
    """The listener of the connection."""
    return Listener()


def to(server: socket.socket) -> ClientEndpoint:
    """Where that server is."""
    return ClientEndpoint(HOST, server.getsockname()[1])


def accept(server: socket.socket) -> socket.socket:
    """The connection that was made."""
    client, _ = server.accept()
    return client


# -- connecting -----------------------------------------------------------------------------------------------


def test_it_starts_before_the_sender_and_connects_when_that_appears(listener: Listener) -> None:
    port = free_port()
    with running(ClientEndpoint(HOST, port), listener, clock=listener.clock):
        listener.clock.waits.get(timeout=SOON)  # until it tries again
        with socket.create_server((HOST, port)) as server:
            server.settimeout(SOON)
            with accept(server) as sender:
                assert listener.next("connected") == f"{HOST}:{port}"
                sender.sendall(FRAME)
                assert listener.frames(1) == [FRAME]


def test_a_name_that_does_not_resolve_is_tried_again(
    server: socket.socket, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up, failures = socket.getaddrinfo, [socket.EAI_AGAIN, socket.EAI_NONAME]

    def resolved(host: str, *arguments: Any, **named: Any) -> Any:
        if host == "sender.invalid":
            if failures:
                raise socket.gaierror(failures.pop(), "no address yet")
            host = HOST
        return look_up(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    where = ClientEndpoint("sender.invalid", server.getsockname()[1])
    with running(where, listener, clock=listener.clock), accept(server):
        listener.next("connected")
    assert failures == []


def test_a_sender_that_accepts_and_closes_is_asked_once_a_second_at_most(
    server: socket.socket, listener: Listener
) -> None:
    with running(to(server), listener, clock=listener.clock):
        for _ in range(3):
            accept(server).close()
            listener.next("connected")
            assert listener.why() == "the sender closed it"
    assert listener.times["connected"][:3] == [0, 1, 2]


def test_a_silent_connection_is_closed_and_made_again(server: socket.socket, listener: Listener) -> None:
    with running(to(server), listener, timeout=0.3):
        with accept(server) as silent:
            listener.next("connected")
            assert listener.why() == "nothing came for 0.3 s"
            silent.settimeout(SOON)
            assert silent.recv(1) == b"", "it is closed on the sender's side too"
        with accept(server):
            listener.next("connected")


def test_a_byte_now_and_then_keeps_a_connection(server: socket.socket, listener: Listener) -> None:
    clock = listener.clock
    with running(to(server), listener, timeout=1, clock=clock), accept(server) as slow:
        listener.next("connected")
        for at in range(8):
            readings = clock.readings
            slow.sendall(FRAME[at : at + 1])
            clock.await_readings(readings + 2)  # as a byte comes, and before waiting for another
            clock.now += 0.4
        slow.sendall(FRAME[8:])
        while (event := listener.reported.get(timeout=SOON)) == ("quiet", None):
            pass
        assert event == ("frames", [FRAME])


def test_a_reader_held_up_longer_than_the_timeout_keeps_the_connection(server: socket.socket) -> None:
    clock = Clock()

    def wait_for_room() -> bool:
        clock.now += 60
        return True

    listener = Listener(wait_for_room)
    with running(to(server), listener, timeout=30, clock=clock), accept(server) as sender:
        listener.next("connected")
        sender.sendall(FRAME)
        assert listener.frames(1) == [FRAME]
        sender.sendall(FRAME)
        assert listener.frames(1) == [FRAME]


# -- reading --------------------------------------------------------------------------------------------------


def test_frames_come_in_order_and_whole(server: socket.socket, listener: Listener) -> None:
    sent = [frame([(b"n", bytes([n]) * (n * 4000))]) for n in range(100)]
    with running(to(server), listener), accept(server) as sender:
        listener.next("connected")
        sender.sendall(b"".join(sent))
        assert listener.frames(100) == sent


def test_a_close_between_frames(server: socket.socket, listener: Listener) -> None:
    with running(to(server), listener):
        with accept(server) as sender:
            listener.next("connected")
            sender.sendall(FRAME * 2)
        assert listener.frames(2) == [FRAME] * 2
        assert listener.why() == "the sender closed it"


def test_a_close_in_the_middle_of_a_frame_reports_how_much_is_dropped(
    server: socket.socket, listener: Listener
) -> None:
    with running(to(server), listener):
        with accept(server) as sender:
            listener.next("connected")
            sender.sendall(FRAME + FRAME[:20])
        assert listener.frames(1) == [FRAME]
        assert listener.why() == "the sender closed it, in the middle of a frame (20 bytes of it dropped)"
        with accept(server) as sender:
            listener.next("connected")
            sender.sendall(FRAME)
            assert listener.frames(1) == [FRAME], "nothing of the half frame is left"


def test_a_reset_is_a_disconnection(server: socket.socket, listener: Listener) -> None:
    with running(to(server), listener):
        with accept(server) as sender:
            listener.next("connected")
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert "reset" in listener.why().lower()


@pytest.mark.parametrize(
    ("garbage", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "byte order is 72"),
        (frame(count=1)[:13] + struct.pack("<Q", 2**62), str(2**62)),
        (frame([(b"k", b"")])[:22] + struct.pack("<Q", LIMIT), f"allowed are {LIMIT}"),
    ],
)
def test_garbage_closes_the_connection_but_not_the_frames_before_it(
    server: socket.socket, listener: Listener, garbage: bytes, why: str
) -> None:
    with running(to(server), listener), accept(server) as sender:
        listener.next("connected")
        sender.sendall(FRAME * 3 + garbage)
        assert listener.frames(3) == [FRAME] * 3
        reason = listener.why()
        assert reason.startswith("garbage instead of a frame")
        assert why in reason


# -- quiet ----------------------------------------------------------------------------------------------------


def test_quiet_is_reported_though_nothing_comes(server: socket.socket, listener: Listener) -> None:
    with running(to(server), listener), accept(server):
        listener.next("connected")
        for _ in range(2):
            listener.next("quiet")


@pytest.mark.parametrize(
    ("data", "reported"),
    [
        pytest.param([False] * 6, ["frames", "frames", "quiet"] * 3, id="every second without data"),
        pytest.param([True] * 6, ["frames"] * 6, id="data puts it off"),
        pytest.param([True, False, False, False], ["frames"] * 3 + ["quiet", "frames"], id="other frames don't"),
    ],
)
def test_each_second_without_data_is_reported_once(
    server: socket.socket, data: list[bool], reported: list[str]
) -> None:
    """Frames that take half a second each. data: whether each is a data frame."""
    clock, whether_data = Clock(), iter(data)

    def take() -> bool:
        clock.now += 0.5
        return next(whether_data)

    listener = Listener(take)
    with running(to(server), listener, clock=clock):
        with accept(server) as sender:
            listener.next("connected")
            for kind in reported:
                if kind == "frames":
                    sender.sendall(FRAME)
                listener.next(kind)
        assert listener.why() == "the sender closed it", "and no more was reported"


# -- listening ------------------------------------------------------------------------------------------------


def test_a_second_client_is_refused_while_the_first_stays(listener: Listener) -> None:
    port = free_port()
    with running(ListenEndpoint(HOST, port), listener):
        with socket.create_connection((HOST, port), SOON) as first:
            assert str(listener.next("connected")).startswith(f"{HOST}:")
            # The reset may come before the client knows that it was connected.
            with pytest.raises(ConnectionResetError), socket.create_connection((HOST, port), SOON) as second:
                second.recv(1)
            first.sendall(FRAME)
            assert listener.frames(1) == [FRAME]
        assert listener.why() == "the sender closed it"
        with socket.create_connection((HOST, port), SOON) as third:
            listener.next("connected")
            third.sendall(FRAME)
            assert listener.frames(1) == [FRAME]


def test_a_silent_client_makes_room_for_another(listener: Listener) -> None:
    port = free_port()
    with running(ListenEndpoint(HOST, port), listener, timeout=0.2):
        with socket.create_connection((HOST, port), SOON):
            listener.next("connected")
            assert listener.why() == "nothing came for 0.2 s"
        with socket.create_connection((HOST, port), SOON):
            listener.next("connected")


def test_a_client_that_comes_again_and_again_with_garbage_is_heard_once_a_second_at_most(listener: Listener) -> None:
    port = free_port()
    with running(ListenEndpoint(HOST, port), listener, clock=listener.clock):
        for _ in range(3):
            with socket.create_connection((HOST, port), SOON) as client:
                client.sendall(b"garbage instead of a frame")
                listener.next("connected")
                assert listener.why().startswith("garbage")
    assert listener.times["connected"] == [0, 1, 2]


def test_a_port_that_is_taken_is_reported_at_once(server: socket.socket, listener: Listener) -> None:
    port = server.getsockname()[1]
    with pytest.raises(ListenError, match=f"{HOST}:{port}"):
        Connection(settings(ListenEndpoint(HOST, port), 5), listener.events())


def test_the_port_is_free_again_after_a_stop(listener: Listener) -> None:
    port = free_port()
    for _ in range(2):
        with running(ListenEndpoint(HOST, port), listener) as (connection, thread):
            with socket.create_connection((HOST, port), SOON):
                listener.next("connected")
                stop(connection, thread)
            assert listener.why() == "ingest stopped"


# -- stopping -------------------------------------------------------------------------------------------------


def test_stop_while_nobody_answers(listener: Listener) -> None:
    clock = Clock(waiting_ends=False)
    with running(ClientEndpoint(HOST, free_port()), listener, clock=clock) as (connection, thread):
        clock.waits.get(timeout=SOON)  # until it tries again
        stop(connection, thread)
    assert listener.reported.empty(), "there was no connection to lose"


def connecting_to(address: tuple[str, int]) -> bool:
    """Whether this process connects there and isn't connected yet."""
    connections = psutil.Process().net_connections("tcp")
    return any(it.raddr == address and it.status == psutil.CONN_SYN_SENT for it in connections)


def test_stop_while_a_connect_hangs(listener: Listener) -> None:
    # A full backlog: the kernel drops the SYN, so connecting takes as long as the timeout.
    with socket.socket() as deaf, socket.socket() as filler:
        deaf.bind((HOST, 0))
        deaf.listen(0)
        filler.connect(deaf.getsockname())
        with running(to(deaf), listener) as (connection, thread):
            eventually(lambda: connecting_to(deaf.getsockname()), "it connects", SOON)
            stop(connection, thread)
    assert listener.reported.empty()


def test_stop_while_reading_half_a_frame(server: socket.socket, listener: Listener) -> None:
    with running(to(server), listener) as (connection, thread), accept(server) as sender:
        listener.next("connected")
        sender.sendall(FRAME + FRAME[:9])
        assert listener.frames(1) == [FRAME]
        stop(connection, thread)
        assert listener.why() == "ingest stopped"


def test_stop_while_listening(listener: Listener) -> None:
    with running(ListenEndpoint(HOST, free_port()), listener, clock=listener.clock) as (connection, thread):
        listener.clock.await_readings(1)  # how long ago the last one came
        stop(connection, thread)
    assert listener.reported.empty()


def test_stop_before_run(server: socket.socket, listener: Listener) -> None:
    connection = Connection(settings(to(server), 5), listener.events())
    connection.stop()
    thread = threading.Thread(target=connection.run, daemon=True)
    thread.start()
    thread.join(SOON)
    assert not thread.is_alive()
