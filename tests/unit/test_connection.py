"""A connection to a sender on loopback: made, read, lost, made again, and stopped at any moment."""

import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from frames import frame

from compose.tether import HOST, free_port
from ingest.connection import Connection, Events, ListenError
from ingest.source import ConnectTo, ListenOn

LIMIT = 1 << 20
FRAME = frame([(b"key", b"blob")])
SOON = 10.0  # s; a test that waits so long fails

Told = tuple[str, str | list[bytes] | None]


@dataclass
class Listener:
    """Collects what a connection tells. on_frames runs in its thread, and says whether there was data."""

    on_frames: Callable[[], bool] = lambda: True
    told: "queue.Queue[Told]" = field(default_factory=queue.Queue)

    def events(self) -> Events:
        """What to give to the Connection."""
        return Events(
            connected=lambda peer: self.told.put(("connected", peer)),
            frames=self._frames,
            quiet=lambda: self.told.put(("quiet", None)),
            lost=lambda why: self.told.put(("lost", why)),
        )

    def _frames(self, frames: list[bytes | memoryview]) -> bool:
        self.told.put(("frames", [bytes(one) for one in frames]))
        return self.on_frames()

    def next(self, kind: str) -> str | list[bytes] | None:
        """What it tells next, which must be of that kind."""
        got, what = self.told.get(timeout=SOON)
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
        """Why the connection was lost, which it tells next."""
        said = self.next("lost")
        assert isinstance(said, str)
        return said


@contextmanager
def running(
    where: ConnectTo | ListenOn, listener: Listener, timeout: float = 5.0
) -> Iterator[tuple[Connection, threading.Thread]]:
    """A connection in its thread; it must stop promptly at the end."""
    connection = Connection("s", where, timeout, LIMIT, listener.events())
    thread = threading.Thread(target=connection.run, daemon=True)
    thread.start()
    try:
        yield connection, thread
    finally:
        connection.stop()
        thread.join(2)
        assert not thread.is_alive(), "it must stop promptly"


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A sender's listening socket."""
    with socket.create_server((HOST, 0)) as listening:
        listening.settimeout(SOON)
        yield listening


@pytest.fixture
def listener() -> Listener:
    """Who collects what is told."""
    return Listener()


def to(server: socket.socket) -> ConnectTo:
    """Where that server is."""
    return ConnectTo(HOST, server.getsockname()[1])


def accept(server: socket.socket) -> socket.socket:
    """The connection that was made."""
    client, _ = server.accept()
    return client


# -- connecting -----------------------------------------------------------------------------------------------


def test_it_starts_before_the_sender_and_connects_when_that_appears(listener: Listener) -> None:
    port = free_port()
    with running(ConnectTo(HOST, port), listener):
        with pytest.raises(queue.Empty):
            listener.told.get(timeout=0.2)
        with socket.create_server((HOST, port)) as server:
            server.settimeout(SOON)
            with accept(server) as sender:
                assert listener.next("connected") == f"{HOST}:{port}"
                sender.sendall(FRAME)
                assert listener.frames(1) == [FRAME]


def test_a_name_that_does_not_resolve_is_tried_again(listener: Listener) -> None:
    with running(ConnectTo("no-such-host.invalid", 1), listener) as (_, thread):
        thread.join(0.3)
        assert thread.is_alive()


def test_a_sender_that_accepts_and_closes_is_asked_once_a_second_at_most(
    server: socket.socket, listener: Listener
) -> None:
    asked = []
    with running(to(server), listener):
        for _ in range(3):
            accept(server).close()
            asked.append(time.monotonic())
            listener.next("connected")
            assert listener.why() == "the sender closed it"
    intervals = [later - earlier for earlier, later in pairwise(asked)]
    # The accept is seen a moment after the attempt, so two of them may seem closer than the attempts were.
    assert all(0.95 <= interval < 3 for interval in intervals), intervals


def test_a_silent_connection_is_lost_and_made_anew(server: socket.socket, listener: Listener) -> None:
    with running(to(server), listener, timeout=0.3):
        with accept(server) as silent:
            listener.next("connected")
            assert listener.why() == "nothing came for 0.3 s"
            silent.settimeout(SOON)
            assert silent.recv(1) == b"", "it is closed on the sender's side too"
        with accept(server):
            listener.next("connected")


def test_a_byte_now_and_then_keeps_a_connection(server: socket.socket, listener: Listener) -> None:
    with running(to(server), listener, timeout=1), accept(server) as slow:
        listener.next("connected")
        for at in range(8):
            slow.sendall(FRAME[at : at + 1])
            time.sleep(0.2)  # the sender's pace is what is tested
        slow.sendall(FRAME[8:])
        while (told := listener.told.get(timeout=SOON)) == ("quiet", None):
            pass
        assert told == ("frames", [FRAME])


def test_a_reader_held_up_longer_than_the_timeout_keeps_the_connection(server: socket.socket) -> None:
    held_up = threading.Event()

    def wait_for_room() -> bool:
        held_up.wait(0.6)
        return True

    listener = Listener(wait_for_room)
    with running(to(server), listener, timeout=0.3), accept(server) as sender:
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


def test_a_close_in_the_middle_of_a_frame_tells_how_much_is_dropped(
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


def test_a_reset_is_a_loss(server: socket.socket, listener: Listener) -> None:
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
def test_garbage_loses_the_connection_but_not_the_frames_before_it(
    server: socket.socket, listener: Listener, garbage: bytes, why: str
) -> None:
    with running(to(server), listener), accept(server) as sender:
        listener.next("connected")
        sender.sendall(FRAME * 3 + garbage)
        assert listener.frames(3) == [FRAME] * 3
        said = listener.why()
        assert said.startswith("garbage instead of a frame")
        assert why in said


# -- quiet ----------------------------------------------------------------------------------------------------


def test_every_second_without_data_is_told(server: socket.socket, listener: Listener) -> None:
    with running(to(server), listener), accept(server):
        listener.next("connected")
        start = time.monotonic()
        for second in (1, 2):
            listener.next("quiet")
            assert second - 0.1 < time.monotonic() - start < second + 0.9


@pytest.mark.parametrize("data", [True, False])
def test_data_puts_quiet_off_and_other_frames_do_not(server: socket.socket, data: bool) -> None:
    listener = Listener(lambda: data)
    with running(to(server), listener), accept(server) as sender:
        listener.next("connected")
        start = time.monotonic()
        for _ in range(2):
            time.sleep(0.35)  # the sender's pace is what is tested
            sender.sendall(FRAME)
            listener.frames(1)
        listener.next("quiet")
        assert (time.monotonic() - start > 1.65) == data


# -- listening ------------------------------------------------------------------------------------------------


def test_a_second_client_is_refused_while_the_first_stays(listener: Listener) -> None:
    port = free_port()
    with running(ListenOn(HOST, port), listener):
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
    with running(ListenOn(HOST, port), listener, timeout=0.2):
        with socket.create_connection((HOST, port), SOON):
            listener.next("connected")
            assert listener.why() == "nothing came for 0.2 s"
        with socket.create_connection((HOST, port), SOON):
            listener.next("connected")


def test_a_client_that_comes_again_and_again_with_garbage_is_heard_once_a_second_at_most(listener: Listener) -> None:
    port = free_port()
    with running(ListenOn(HOST, port), listener):
        heard = []
        for _ in range(3):
            with socket.create_connection((HOST, port), SOON) as client:
                client.sendall(b"garbage instead of a frame")
                listener.next("connected")
                heard.append(time.monotonic())
                assert listener.why().startswith("garbage")
    intervals = [later - earlier for earlier, later in pairwise(heard)]
    assert all(0.95 <= interval < 3 for interval in intervals), intervals


def test_a_port_that_is_taken_is_told_at_once(server: socket.socket, listener: Listener) -> None:
    port = server.getsockname()[1]
    with pytest.raises(ListenError, match=f"{HOST}:{port}"):
        Connection("s", ListenOn(HOST, port), 5, LIMIT, listener.events())


def test_the_port_is_free_again_after_a_stop(listener: Listener) -> None:
    port = free_port()
    for _ in range(2):
        with running(ListenOn(HOST, port), listener) as (connection, thread):
            with socket.create_connection((HOST, port), SOON):
                listener.next("connected")
                promptly(connection, thread)
            assert listener.why() == "ingest stopped"


# -- stopping -------------------------------------------------------------------------------------------------


def promptly(connection: Connection, thread: threading.Thread) -> None:
    """Stop it, and see that it returns at once."""
    start = time.monotonic()
    connection.stop()
    thread.join(SOON)
    assert time.monotonic() - start < 0.9, "sooner than at its next look, each second"


def test_stop_while_nobody_answers(listener: Listener) -> None:
    with running(ConnectTo(HOST, free_port()), listener) as (connection, thread):
        thread.join(0.2)
        promptly(connection, thread)
    assert listener.told.empty(), "there was no connection to lose"


def test_stop_while_a_connect_hangs(listener: Listener) -> None:
    # A full backlog: the kernel drops the SYN, so connecting takes as long as the timeout.
    with socket.socket() as deaf, socket.socket() as filler:
        deaf.bind((HOST, 0))
        deaf.listen(0)
        filler.connect(deaf.getsockname())
        with running(to(deaf), listener) as (connection, thread):
            thread.join(0.2)
            promptly(connection, thread)
    assert listener.told.empty()


def test_stop_while_reading_half_a_frame(server: socket.socket, listener: Listener) -> None:
    with running(to(server), listener) as (connection, thread), accept(server) as sender:
        listener.next("connected")
        sender.sendall(FRAME + FRAME[:9])
        assert listener.frames(1) == [FRAME]
        promptly(connection, thread)
        assert listener.why() == "ingest stopped"


def test_stop_while_listening(listener: Listener) -> None:
    with running(ListenOn(HOST, free_port()), listener) as (connection, thread):
        thread.join(0.1)
        promptly(connection, thread)
    assert listener.told.empty()


def test_stop_before_run(server: socket.socket, listener: Listener) -> None:
    connection = Connection("s", to(server), 5, LIMIT, listener.events())
    connection.stop()
    thread = threading.Thread(target=connection.run, daemon=True)
    thread.start()
    thread.join(2)
    assert not thread.is_alive()
