"""The TCP connection to a stream's sender: connects or listens, reads, and reconnects for ever."""

import logging
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass

from g3stream.frame_format.decoder import FrameDecoder
from g3stream.frame_format.layout import FrameFormatError
from g3stream.service.endpoint import ClientEndpoint, ListenEndpoint, listen, peer_address
from ingest.config import StreamSettings

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
"""How often a connection without data frames is reported by a record (kind `quiet`)."""

_MIN_SECONDS_BETWEEN_ATTEMPTS = 1.0
_MAX_SECONDS_BETWEEN_ATTEMPTS = 5.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class ConnectionListener:
    """The callbacks of a connection. They run in its thread; one that blocks stops the reading (backpressure)."""

    connected: Callable[[str], None]
    """Called with the peer's address."""
    frames: Callable[[list[bytes | memoryview]], bool]
    """Called with all frames of one read. Returns whether there was a data frame among them. The large ones are
    borrowed views, valid until it returns (FrameDecoder in g3stream/frame_format/decoder.py)."""
    idle: Callable[[], None]
    """Called after each second without a data frame."""
    disconnected: Callable[[str], None]
    """Called with the reason."""


class StopRequested(Exception):
    """`stop` was called."""


class Connection:
    """Keeps one connection to a sender; `run` is its thread's work, until `stop`.

    clock: returns seconds. wait: waits for an event, for at most so many seconds, and returns whether it is set.
    Raises ListenError.
    """

    def __init__(
        self,
        settings: StreamSettings,
        connection_listener: ConnectionListener,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        source = settings.source
        self._listening_socket = listen(source) if isinstance(source, ListenEndpoint) else None
        self._settings = settings
        self._connection_listener = connection_listener
        self._clock = clock
        self._wait = wait
        self._stopping = threading.Event()
        self._wakeup_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._last_attempt_at = -_MIN_SECONDS_BETWEEN_ATTEMPTS

    def run(self) -> None:
        """Connect and read, and reconnect, until `stop`."""
        listening, listener = self._listening_socket, self._connection_listener
        if listening:
            log.info("%s: waiting for the sender on %s", self._settings.name, self._settings.source)
        with suppress(StopRequested), listening or nullcontext():
            while True:
                self._pause_between_attempts()
                with self._accept(listening) if listening else self._connect_with_retries() as client:
                    listener.connected(peer_address(client))
                    try:
                        reason = self._read(client)
                    except StopRequested:
                        reason = "ingest stopped"
                    listener.disconnected(reason)

    def stop(self) -> None:
        """Make `run` return. For any thread; not for a signal handler, as it takes a lock."""
        self._stopping.set()
        os.eventfd_write(self._wakeup_fd, 1)

    def close(self) -> None:
        """Close its file descriptor, after `run` has returned."""
        os.close(self._wakeup_fd)

    def _accept(self, listening: socket.socket) -> socket.socket:
        readable = self._make_poll(listening, select.POLLIN)
        while True:
            self._wait_readable(readable, listening, None)
            try:
                client, _ = listening.accept()
            except OSError:  # the client has disconnected already
                continue
            self._last_attempt_at = self._clock()
            client.setblocking(False)
            return client

    def _connect_with_retries(self) -> socket.socket:
        attempt, pause_s = 0, _MIN_SECONDS_BETWEEN_ATTEMPTS
        while True:
            try:
                return self._connect()
            except OSError as error:
                attempt += 1
                if attempt & (attempt - 1) == 0:  # the 1st, 2nd, 4th, 8th, …
                    text = "%s: no connection to %s (%s), attempt %d; still trying"
                    log.warning(text, self._settings.name, self._settings.source, error.strerror or error, attempt)
            jitter_s = random.uniform(0, 0.5)  # noqa: S311 - no secret
            self._pause(min(pause_s + jitter_s, _MAX_SECONDS_BETWEEN_ATTEMPTS))
            pause_s *= 2

    def _connect(self) -> socket.socket:
        self._last_attempt_at = self._clock()
        sender, timeout_s = self._settings.source, self._settings.timeout_s
        assert isinstance(sender, ClientEndpoint)
        error: OSError = ConnectionError("it has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            sender.address, sender.port, type=socket.SOCK_STREAM
        ):
            with ExitStack() as on_failure:
                client = on_failure.enter_context(socket.socket(family, kind, protocol))
                try:
                    client.setblocking(False)
                    client.connect_ex(address)
                    if not self._wait_readable(self._make_poll(client, select.POLLOUT), client, timeout_s):
                        raise TimeoutError("no answer")
                    if code := client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        raise OSError(code, os.strerror(code))
                    if client.getsockname() == client.getpeername():
                        # On one host, our ephemeral port may happen to be the port that we connect to.
                        raise ConnectionError("connected to itself")
                except OSError as reason:
                    error = reason
                else:
                    on_failure.pop_all()
                    return client
        raise error

    def _read(self, client: socket.socket) -> str:
        """Read until the connection is closed, by either side. Returns the reason. Raises StopRequested."""
        decoder = FrameDecoder(self._settings.max_frame_bytes)
        readable = self._make_poll(client, select.POLLIN)
        timeout_s, now = self._settings.timeout_s, self._clock()
        last_received_at, heartbeat_at = now, now + HEARTBEAT_SECONDS
        while True:
            now = self._clock()
            if now >= heartbeat_at:
                self._connection_listener.idle()
                decoder.release_buffers()
                heartbeat_at = max(heartbeat_at + HEARTBEAT_SECONDS, now)
            if now >= last_received_at + timeout_s:
                return f"nothing came for {timeout_s:g} s{_describe_unfinished(decoder)}"
            if not self._wait_readable(readable, client, min(heartbeat_at, last_received_at + timeout_s) - now):
                continue
            try:
                ended = None if decoder.fill(client.recv_into) else "the sender closed it"
            except OSError as error:
                ended = error.strerror or str(error)
            frames: list[bytes | memoryview] = []
            garbage = None
            try:
                frames += decoder.frames()  # also those before the garbage: they are good
            except FrameFormatError as error:
                garbage = f"garbage instead of a frame: {error}"
            if frames and self._connection_listener.frames(frames):
                heartbeat_at = self._clock() + HEARTBEAT_SECONDS
            # After the listener, which a full spool may hold up: meanwhile bytes wait in the socket unread.
            last_received_at = self._clock()
            if garbage:
                return garbage
            if ended:
                return f"{ended}{_describe_unfinished(decoder)}"

    def _make_poll(self, what: socket.socket, event: int) -> select.poll:
        """Make a poll object for `_wait_readable`: that event, a stop, and further clients."""
        poll = select.poll()
        poll.register(self._wakeup_fd, select.POLLIN)
        poll.register(what, event)
        if self._listening_socket and what is not self._listening_socket:
            poll.register(self._listening_socket, select.POLLIN)
        return poll

    def _wait_readable(self, poll: select.poll, what: socket.socket, seconds: float | None) -> bool:
        """Wait for the event of `what`. Returns False after a timeout. Raises StopRequested.

        Refuses further clients meanwhile.
        """
        happened = False
        for fd, _ in poll.poll(None if seconds is None else max(0.0, seconds) * 1000):
            if fd == self._wakeup_fd:
                raise StopRequested
            if fd == what.fileno():
                happened = True
            else:
                self._refuse_second_client()
        return happened

    def _refuse_second_client(self) -> None:
        assert self._listening_socket
        try:
            second, _ = self._listening_socket.accept()
        except OSError:
            return
        with second:
            text = "%s: refused a second client, %s, on %s: one is connected, and its frames are read on"
            log.warning(text, self._settings.name, peer_address(second), self._settings.source)
            second.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def _pause_between_attempts(self) -> None:
        """Wait between two connections: a peer that closes at once, or sends garbage, must not fill log and topic."""
        self._pause(self._last_attempt_at + _MIN_SECONDS_BETWEEN_ATTEMPTS - self._clock())

    def _pause(self, seconds: float) -> None:
        if self._wait(self._stopping, max(0.0, seconds)):
            raise StopRequested


def _describe_unfinished(decoder: FrameDecoder) -> str:
    dropped_bytes = decoder.pending_bytes
    return f", in the middle of a frame ({dropped_bytes} bytes of it dropped)" if dropped_bytes else ""
