"""/metrics for Prometheus and /healthz for whoever watches the process, over HTTP.

Recording comes first: whatever clients do, this takes one thread, a bounded number of connections, and a bounded
share of its time. A client that hasn't got its answer within seconds is cut off, and the longest connected goes when
there are too many, so that neither a slow nor a hostile one keeps others out for long. Nothing can be changed here.
"""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Self

import h11

from g3stream.host.printable import printable
from g3stream.service.endpoint import ListenOn, host_and_port, listen

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 64
ANSWER_SECONDS = 5.0
"""A connection lasts no longer than this."""
_PACE_SECONDS = 0.01
"""No more than one connection is taken in so long: a flood waits in the kernel."""
_REUSE_SECONDS = 0.5
"""How long the metrics that were collected for one are good for others."""
_MOST_REQUEST_BYTES = 8192
_READ_BYTES = 4096
_EVERY_ANSWER = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Connection", "close"),
)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes
    type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class HttpServer:
    """Serves until closed. metrics: gives them in Prometheus' text format; problems: what is wrong now, in words;
    warnings: what is to be seen to, though it isn't unhealthy. clock: in s.

    All are called in this server's thread. `port`: which it listens on. Raises ListenError.
    """

    def __init__(
        self,
        where: ListenOn,
        metrics: Callable[[], bytes],
        problems: Callable[[], Iterable[str]],
        warnings: Callable[[], Iterable[str]] = tuple,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._problems = problems
        self._warnings = warnings
        self._clock = clock
        self._collected = b""
        self._collected_at = float("-inf")
        self._connections: dict[asyncio.Task[None], None] = {}  # the longest connected first
        self._listener = listen(where)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._serving = self._loop.create_task(self._serve())
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()
        log.info("metrics at http://%s/metrics, health at /healthz", host_and_port(where.host, self.port))

    def close(self) -> None:
        """Cut off whoever is connected, and free the port."""
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join(ANSWER_SECONDS)  # no longer: a disk that hangs may hold up a collection
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        with contextlib.closing(self._loop), contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serving)

    async def _serve(self) -> None:
        try:
            while True:
                try:
                    client, _ = await self._loop.sock_accept(self._listener)
                except OSError as error:  # no more file descriptors, say
                    log.warning("can't take an HTTP connection: %s", error)
                    await asyncio.sleep(1)
                    continue
                if len(self._connections) >= MOST_CONNECTIONS:
                    next(iter(self._connections)).cancel()
                task = self._loop.create_task(self._talk(client))
                self._connections[task] = None
                task.add_done_callback(self._connections.pop)
                await asyncio.sleep(_PACE_SECONDS)
        finally:
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _talk(self, client: socket.socket) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_REQUEST_BYTES)
        with client, contextlib.suppress(OSError):  # a TimeoutError is one
            async with asyncio.timeout(ANSWER_SECONDS):
                try:
                    request = await self._request(client, connection)
                    answer = self._answer(request) if request else None
                except h11.RemoteProtocolError as error:
                    request, answer = None, _Answer(HTTPStatus(error.error_status_hint), b"that is no HTTP request\n")
                if answer:
                    await self._loop.sock_sendall(client, _encoded(connection, request, answer))

    async def _request(self, client: socket.socket, connection: h11.Connection) -> h11.Request | None:
        """None if the client has gone without one. Raises h11.RemoteProtocolError, OSError."""
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await self._loop.sock_recv(client, _READ_BYTES))
        return event if isinstance(event, h11.Request) else None

    def _answer(self, request: h11.Request) -> _Answer:
        if request.method not in (b"GET", b"HEAD"):
            allow = (("Allow", "GET, HEAD"),)
            return _Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"there is nothing to change here\n", headers=allow)
        try:
            match request.target.partition(b"?")[0]:
                case b"/metrics":
                    return _Answer(HTTPStatus.OK, self._collect(), "text/plain; version=0.0.4; charset=utf-8")
                case b"/healthz":
                    problems = "".join(f"{printable(problem)}\n" for problem in self._problems())
                    warnings = "".join(f"warning: {printable(warning)}\n" for warning in self._warnings())
                    status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
                    return _Answer(status, ((problems or "ok\n") + warnings).encode(errors="replace"))
        except Exception:  # a fault in what only looks on must not end the looking on
            log.exception("can't answer %r", request.target)
            return _Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"see the log\n")
        return _Answer(HTTPStatus.NOT_FOUND, b"there are /metrics and /healthz\n")

    def _collect(self) -> bytes:
        now = self._clock()
        if now - self._collected_at > _REUSE_SECONDS:
            self._collected = self._metrics()
            self._collected_at = now
        return self._collected


def _encoded(connection: h11.Connection, request: h11.Request | None, answer: _Answer) -> bytes:
    headers = [
        ("Content-Type", answer.type),
        ("Content-Length", str(len(answer.body))),
        *_EVERY_ANSWER,
        *answer.headers,
    ]
    sent = (
        connection.send(h11.Response(status_code=answer.status, headers=headers, reason=answer.status.phrase)) or b""
    )
    if request and request.method == b"HEAD":
        return sent
    return sent + (connection.send(h11.Data(data=answer.body)) or b"")
