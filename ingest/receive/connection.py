"""The TCP connection to a stream's sender: made, read, lost, made again, for ever."""

import logging
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

from g3stream.frames.decoder import Splitter
from g3stream.frames.layout import WireError
from g3stream.service.endpoint import ConnectTo, ListenOn, host_and_port, listen

log = logging.getLogger(__name__)

QUIET_SECONDS = 1.0
"""How often a connection without data frames says so in the log of records (design: `quiet`)."""

_LEAST_SECONDS_BETWEEN_ATTEMPTS = 1.0
_MOST_SECONDS_BETWEEN_ATTEMPTS = 5.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Events:
    """Whom a connection tells what happens, in its own thread. Each may wait, and so hold up the reading.

    connected: the peer. frames: all that one read brought, the large ones lent (g3stream/frames/decoder.py: Splitter)
    until it returns; gives whether there was a data frame among them.
    quiet: another second without. lost: why.
    """

    connected: Callable[[str], None]
    frames: Callable[[list[bytes | memoryview]], bool]
    quiet: Callable[[], None]
    lost: Callable[[str], None]


class Stopping(Exception):
    """`stop` was called."""


class Connection:
    """Keeps one connection to a sender; `run` is its thread's work, until `stop`.

    stream: its name, for the log. timeout: seconds without a byte after which the connection is closed.
    max_frame_bytes: the largest frame. clock: in s. wait: for an event, at most so many s; whether it is set.
    Raises ListenError at once.
    """

    def __init__(
        self,
        stream: str,
        where: ConnectTo | ListenOn,
        timeout: float,
        max_frame_bytes: int,
        events: Events,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._listener = listen(where) if isinstance(where, ListenOn) else None
        self._stream = stream
        self._where = where
        self._timeout = timeout
        self._max_frame_bytes = max_frame_bytes
        self._events = events
        self._clock = clock
        self._wait = wait
        self._stopping = threading.Event()
        self._wake, self._wake_up = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._attempted = -_LEAST_SECONDS_BETWEEN_ATTEMPTS

    def run(self) -> None:
        """Connect, read, and again."""
        try:
            for client in self._clients():
                with client:
                    self._events.connected(_peer(client))
                    try:
                        why = self._read(client)
                    except Stopping:
                        self._events.lost("ingest stopped")
                        return
                    self._events.lost(why)
        except Stopping:
            return
        finally:
            if self._listener:
                self._listener.close()

    def stop(self) -> None:
        """Stop reading and let `run` return; for any thread, but for no signal handler: it takes a lock."""
        self._stopping.set()
        os.write(self._wake_up, b"!")

    def close(self) -> None:
        """Free what it holds, after `run` has returned."""
        os.close(self._wake)
        os.close(self._wake_up)

    def _clients(self) -> Iterator[socket.socket]:
        if self._listener:
            log.info("%s: waiting for the sender on %s", self._stream, self._where)
        while True:
            yield self._accept() if self._listener else self._connect_patiently()

    def _accept(self) -> socket.socket:
        assert self._listener
        self._pause_between_attempts()
        coming = self._poll_for(self._listener, select.POLLIN)
        while True:
            self._await(coming, self._listener, None)
            try:
                client, _ = self._listener.accept()
            except OSError:  # it has gone again
                continue
            self._attempted = self._clock()
            client.setblocking(False)
            return client

    def _connect_patiently(self) -> socket.socket:
        retrying = Retrying(
            retry=retry_if_exception_type(OSError),
            wait=wait_exponential_jitter(
                initial=_LEAST_SECONDS_BETWEEN_ATTEMPTS, max=_MOST_SECONDS_BETWEEN_ATTEMPTS, jitter=0.5
            ),
            sleep=self._pause,
            before_sleep=self._say_unreachable,
        )
        return retrying(self._connect)

    def _connect(self) -> socket.socket:
        self._pause_between_attempts()
        self._attempted = self._clock()
        assert isinstance(self._where, ConnectTo)
        error: OSError = ConnectionError("it has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self._where.address, self._where.port, type=socket.SOCK_STREAM
        ):
            client = socket.socket(family, kind, protocol)
            try:
                client.setblocking(False)
                client.connect_ex(address)
                if not self._await(self._poll_for(client, select.POLLOUT), client, self._timeout):
                    raise TimeoutError("no answer")
                if code := client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(code, os.strerror(code))
                if client.getsockname() == client.getpeername():
                    # On one host, an ephemeral port that happens to be the one we ask for answers itself.
                    raise ConnectionError("connected to itself")
            except OSError as reason:
                client.close()
                error = reason
            except BaseException:
                client.close()
                raise
            else:
                return client
        raise error

    def _say_unreachable(self, state: RetryCallState) -> None:
        attempt = state.attempt_number
        if attempt & (attempt - 1) == 0:  # the 1st, 2nd, 4th, 8th, …
            assert state.outcome
            error = state.outcome.exception()
            reason = error.strerror or error if isinstance(error, OSError) else error
            log.warning(
                "%s: no connection to %s (%s), attempt %d; still trying", self._stream, self._where, reason, attempt
            )

    def _read(self, client: socket.socket) -> str:
        """Read until the connection is lost; gives why. Raises Stopping."""
        splitter = Splitter(self._max_frame_bytes)
        more = self._poll_for(client, select.POLLIN)
        now = self._clock()
        heard, quiet_at = now, now + QUIET_SECONDS
        while True:
            now = self._clock()
            if now >= quiet_at:
                self._events.quiet()
                splitter.rest()
                quiet_at = max(quiet_at + QUIET_SECONDS, now)
            if now >= heard + self._timeout:
                return f"nothing came for {self._timeout:g} s{_cut(splitter)}"
            if not self._await(more, client, min(quiet_at, heard + self._timeout) - now):
                continue
            ended = _fill(splitter, client)
            frames, garbage = _whole_frames(splitter)
            if frames and self._events.frames(frames):
                quiet_at = self._clock() + QUIET_SECONDS
            heard = self._clock()  # not before: what waits to be read while the spool is full has come, too
            if garbage:
                return garbage
            if ended:
                return f"{ended}{_cut(splitter)}"

    def _poll_for(self, what: socket.socket, event: int) -> select.poll:
        """What `_await` is to wait for."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(what, event)
        if self._listener and what is not self._listener:
            poll.register(self._listener, select.POLLIN)
        return poll

    def _await(self, poll: select.poll, what: socket.socket, seconds: float | None) -> bool:
        """Whether that happens within the time; refuses second clients meanwhile. Raises Stopping."""
        happened = False
        for fd, _ in poll.poll(None if seconds is None else max(0.0, seconds) * 1000):
            if fd == self._wake:
                raise Stopping
            if fd == what.fileno():
                happened = True
            else:
                self._refuse()
        return happened

    def _refuse(self) -> None:
        assert self._listener
        try:
            second, _ = self._listener.accept()
        except OSError:
            return
        with second:
            peer = _peer(second)
            log.warning("%s: refused a second client, %s, on %s: one is connected", self._stream, peer, self._where)
            second.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def _pause_between_attempts(self) -> None:
        """A peer that closes, or sends garbage, at once must not fill the log and the topic with that."""
        self._pause(self._attempted + _LEAST_SECONDS_BETWEEN_ATTEMPTS - self._clock())

    def _pause(self, seconds: float) -> None:
        if self._wait(self._stopping, max(0.0, seconds)):
            raise Stopping


def _fill(splitter: Splitter, client: socket.socket) -> str | None:
    """Put in all that has come, as far as there is space: the more at once, the less each frame costs.

    Gives why nothing more will come, if so.
    """
    count = 0
    try:
        with splitter.space() as space:
            while count < len(space):
                if not (got := client.recv_into(space[count:])):
                    return "the sender closed it"
                count += got
    except BlockingIOError:
        pass
    except OSError as error:
        return error.strerror or str(error)
    finally:
        splitter.filled(count)
    return None


def _whole_frames(splitter: Splitter) -> tuple[list[bytes | memoryview], str | None]:
    """The frames that are whole; and why the connection must go, if the bytes after them make no sense."""
    frames: list[bytes | memoryview] = []
    try:
        for frame in splitter.frames():
            frames.append(frame)  # one by one: those before the garbage are good
    except WireError as error:
        return frames, f"garbage instead of a frame: {error}"
    return frames, None


def _peer(client: socket.socket) -> str:
    try:
        host, port = client.getpeername()[:2]
    except OSError:
        return "gone"
    return host_and_port(host.removeprefix("::ffff:"), port)  # as IPv6 sockets have IPv4 addresses


def _cut(splitter: Splitter) -> str:
    return f", in the middle of a frame ({splitter.pending} bytes of it dropped)" if splitter.pending else ""
