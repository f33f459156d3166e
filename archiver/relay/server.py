"""The relay's TCP server: accepts clients, gives each to the feed, and counts them. One thread with an asyncio loop.

Each client is a task of its own, so none waits for another.
"""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, Self

from archiver.relay.client import SHOWN, STALLED_S, Client, Dropped, Reason
from archiver.relay.frames import Selection, Thinning
from g3stream.log.throttle import LogThrottle
from g3stream.service.endpoint import ListenEndpoint, listen

log = logging.getLogger(__name__)

_ACCEPT_INTERVAL_S: Final = 0.01
"""The shortest time between two accepted connections: a flood of them waits in the kernel."""
_RETRY_S: Final = 1.0
_CLOSE_S: Final = 2.0
_REGULAR: Final = frozenset({Reason.LEFT, Reason.ENDED, Reason.STOPPED})
"""Nothing that an operator should look at."""


class Feed(Protocol):
    """What the clients are sent. Its methods are called in the loop's thread."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note the loop, before the first client."""

    async def serve(self, client: Client) -> Reason:
        """Send to a client until there is nothing more; it is cancelled if the client leaves. Raises Dropped."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What the server has done since its start."""

    clients: int
    """That are connected."""
    frames: int
    """That were sent, to all clients together."""
    bytes: int
    """Of these."""
    left_out: int
    """Frames that weren't sent, because of the limit of the rate."""
    disconnections: Mapping[Reason, int]
    """By reason, since the start."""


class RelayServer:
    """A server that runs until it is closed. Raises ListenError. A context manager."""

    def __init__(
        self,
        endpoint: ListenEndpoint,
        feed: Feed,
        selection: Selection,
        max_clients: int,
        *,
        stalled_s: float = STALLED_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._feed = feed
        self._selection = selection
        self._max_clients = max_clients
        self._stalled_s = stalled_s
        self._clock = clock
        self._refusals = LogThrottle()
        self._clients: dict[Client, asyncio.Task[None]] = {}
        self._gone_frames = self._gone_bytes = self._gone_left_out = 0
        """Of the clients that aren't connected any more."""
        self._disconnections: Counter[Reason] = Counter()
        self._listener = listen(endpoint)
        self.port: int = self._listener.getsockname()[1]
        """The TCP port on which it listens."""
        self._loop = asyncio.new_event_loop()
        feed.start(self._loop)
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def status(self) -> ServerStatus:
        """Return what it has done. For any thread."""
        clients = list(self._clients)
        return ServerStatus(
            len(clients),
            self._gone_frames + sum(client.frames for client in clients),
            self._gone_bytes + sum(client.bytes for client in clients),
            self._gone_left_out + sum(client.thinning.left_out for client in clients),
            {reason: self._disconnections[reason] for reason in Reason},
        )

    def close(self) -> None:
        """Disconnect all clients and free the port."""
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(_CLOSE_S)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    def _stop(self) -> None:
        if not self._stopped.done():
            self._stopped.set_result(None)

    async def _serve(self) -> None:
        self._accept_later(0.0)
        await self._stopped
        self._loop.remove_reader(self._listener)
        for client in self._clients:
            client.drop(Reason.STOPPED)
        await asyncio.gather(*self._clients.values(), return_exceptions=True)

    def _accept_later(self, wait_s: float) -> None:
        # Not asyncio's sock_accept: one that is cancelled when a client has just come, logs a traceback (3.11).
        self._loop.call_later(wait_s, self._loop.add_reader, self._listener, self._accept)

    def _accept(self) -> None:
        self._loop.remove_reader(self._listener)
        if self._stopped.done():
            return
        wait_s = _ACCEPT_INTERVAL_S
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # the client has left already
            pass
        except OSError as error:  # for example, no file descriptors are left
            log.warning("can't accept a client: %s; those connected are served, still trying", error)
            wait_s = _RETRY_S
        else:
            self._add(connection)
        self._accept_later(wait_s)

    def _add(self, connection: socket.socket) -> None:
        client = Client(connection, Thinning(self._selection, self._clock()), self._stalled_s)
        if len(self._clients) >= self._max_clients:
            if self._refusals.due(self._clock()):
                text = "client %s is refused: there are %d already, as many as are allowed (--max-clients)"
                log.warning(text, client.peer, self._max_clients)
            self._disconnections[Reason.REFUSED] += 1
            client.close(Reason.REFUSED)
            return
        self._clients[client] = self._loop.create_task(self._serve_client(client))
        log.info("client %s is connected; clients: %d", client.peer, len(self._clients))

    async def _serve_client(self, client: Client) -> None:
        """Serve a client until it is gone."""
        sending = self._loop.create_task(self._send(client))
        watching = self._loop.create_task(client.until_dropped())
        try:
            done, _ = await asyncio.wait({sending, watching}, return_when=asyncio.FIRST_COMPLETED)
            reason = (watching if watching in done else sending).result()
        finally:
            for task in (sending, watching):
                task.cancel()
            await asyncio.gather(sending, watching, return_exceptions=True)
        client.close(reason)
        del self._clients[client]
        self._gone_frames += client.frames
        self._gone_bytes += client.bytes
        self._gone_left_out += client.thinning.left_out
        self._disconnections[reason] += 1
        level = logging.INFO if reason in _REGULAR else logging.WARNING
        text = "client %s is disconnected after %d frames, %.1f MB: %s"
        log.log(level, text, client.peer, client.frames, client.bytes / 1e6, SHOWN[reason])

    async def _send(self, client: Client) -> Reason:
        try:
            return await self._feed.serve(client)
        except Dropped as dropped:
            return dropped.reason
        except Exception:
            log.exception("client %s can't be served; the others are", client.peer)
            return Reason.FAILED
