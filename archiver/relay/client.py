"""One client's connection, in the server's loop: sends to it, and notices that it has left, or is stuck."""

import asyncio
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Final

from archiver.relay.frames import Thinning
from g3stream.service.endpoint import peer_address

STALLED_S: Final = 30.0
"""So long a client may accept nothing while there is something to send."""
_KEEPALIVE_S: Final = 30
"""After so long without data the kernel asks each 10 s whether a client is still there; the third silence ends it."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_READ_BYTES: Final = 4096


class Reason(StrEnum):
    """Why a client isn't connected any more."""

    LEFT = "left"
    """It has closed the connection, or reset it."""
    DEAD = "dead"
    """Its host doesn't answer any more."""
    SLOW = "slow"
    """It was still to be sent frames that are too old to be kept."""
    STALLED = "stalled"
    """It accepted nothing for STALLED_S."""
    SPOKE = "spoke"
    """It sent something: no reader of frames does."""
    REFUSED = "refused"
    """There are as many clients as are allowed."""
    ENDED = "ended"
    """The sender's connection has ended, and it has got everything before."""
    FAILED = "failed"
    """The stream can't be read for it; the log says why."""
    STOPPED = "stopped"
    """The relay was stopped."""


SHOWN: Final = {
    Reason.LEFT: "it has closed the connection",
    Reason.DEAD: "its host doesn't answer any more",
    Reason.SLOW: "it is too slow: the frames that it would get next aren't kept any more (--buffer)",
    Reason.STALLED: f"it has accepted nothing for {STALLED_S:g} s",
    Reason.SPOKE: "it has sent something: that isn't a reader of frames",
    Reason.REFUSED: "there are as many clients as are allowed (--max-clients)",
    Reason.ENDED: "the sender's connection has ended, too",
    Reason.FAILED: "the stream can't be read for it",
    Reason.STOPPED: "the relay is stopped",
}
"""Each reason in words, for the log."""
_CUT_OFF: Final = frozenset({Reason.SLOW, Reason.STALLED, Reason.SPOKE, Reason.REFUSED, Reason.FAILED})
"""The connection is reset: its reader must not take that for the stream's regular end."""


class Dropped(Exception):
    """The client isn't connected any more; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class Client:
    """A client; all methods are for the loop's thread."""

    def __init__(self, connection: socket.socket, thinning: Thinning, stalled_s: float = STALLED_S) -> None:
        self.peer = peer_address(connection)
        """Its HOST:PORT."""
        self.host = self.peer.rpartition(":")[0]
        """Its host's address."""
        self.thinning = thinning
        """What it is sent."""
        self.position: int | None = None
        """Of the next item of a live stream that it gets; None as long as it needs none."""
        self.frames = 0
        """Number of frames that were sent to it."""
        self.bytes = 0
        """Of these."""
        self._socket = connection
        self._stalled_s = stalled_s
        self._loop = asyncio.get_running_loop()
        self._dropped: asyncio.Future[Reason] = self._loop.create_future()
        connection.setblocking(False)
        with suppress(OSError):  # it has left already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def drop(self, reason: Reason) -> None:
        """End its connection, unless it has been dropped already."""
        if not self._dropped.done():
            self._dropped.set_result(reason)

    async def send(self, frames: Sequence[bytes]) -> None:
        """Send frames, as fast as the client reads. Raises Dropped."""
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                await self._until_writable()
            except OSError as error:
                raise Dropped(_reason_of(error)) from None
        self.frames += len(frames)
        self.bytes += len(data)

    async def until_dropped(self) -> Reason:
        """Wait until it was dropped or has left; returns why."""
        reading = self._loop.create_task(self._read())
        try:
            await asyncio.wait({reading, self._dropped}, return_when=asyncio.FIRST_COMPLETED)
            return self._dropped.result() if self._dropped.done() else reading.result()
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    def close(self, reason: Reason) -> None:
        """Close its connection."""
        if reason in _CUT_OFF:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._socket.close()

    async def _read(self) -> Reason:
        """Wait until the client closes the connection, or sends something; returns which it was."""
        try:
            return Reason.SPOKE if await self._loop.sock_recv(self._socket, _READ_BYTES) else Reason.LEFT
        except OSError as error:
            return _reason_of(error)

    async def _until_writable(self) -> None:
        writable: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._socket, _done, writable)
        try:
            async with asyncio.timeout(self._stalled_s):
                await writable
        except TimeoutError:
            raise Dropped(Reason.STALLED) from None
        finally:
            self._loop.remove_writer(self._socket)


def _done(writable: "asyncio.Future[None]") -> None:
    if not writable.done():  # this may be called again before its coroutine has had its turn
        writable.set_result(None)


def _reason_of(error: OSError) -> Reason:
    """Return what the failure of a connection means; a TimeoutError is that of TCP's keepalive."""
    return Reason.DEAD if isinstance(error, TimeoutError) else Reason.LEFT
