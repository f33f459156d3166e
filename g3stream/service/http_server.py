"""HTTP server for /metrics (Prometheus), /healthz (any monitoring), and a program's documents in JSON. Read-only.

Recording comes first: whatever clients do, the server uses one thread, a bounded number of connections, and a bounded
share of that thread's time. A client without a response after seconds is disconnected, and when there are too many
clients, the oldest connection is closed. So no slow or hostile client keeps others out for long.
"""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

import h11

from g3stream.host.printable import printable
from g3stream.service.endpoint import ListenEndpoint, ListenError, host_and_port, listen

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
RESPONSE_TIMEOUT_SECONDS = 5.0
"""The longest that a connection may last."""
_ACCEPT_INTERVAL_SECONDS = 0.01
"""The shortest time between two accepted connections: a flood of them waits in the kernel."""
_METRICS_CACHE_SECONDS = 0.5
"""How long collected metrics are served to other clients."""
_MAX_REQUEST_BYTES = 8192
_READ_BYTES = 4096
_COMMON_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Connection", "close"),
)


@dataclass(frozen=True, slots=True)
class _Response:
    status: HTTPStatus
    body: bytes
    type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class HttpServer:
    """An HTTP server that runs until it is closed. Raises ListenError.

    metrics: returns the metrics in Prometheus' text format. problems: returns what makes the process unhealthy now,
    in words. warnings: returns what an operator should attend to, in words, although the process is healthy.
    document: returns the JSON at another path, with this query; None if there is none. clock: a monotonic clock,
    seconds. All of them are called in this server's thread.
    """

    def __init__(
        self,
        endpoint: ListenEndpoint,
        metrics: Callable[[], bytes],
        problems: Callable[[], Iterable[str]],
        warnings: Callable[[], Iterable[str]] = tuple,
        *,
        document: Callable[[str, str], bytes | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._document = document
        self._metrics = metrics
        self._problems = problems
        self._warnings = warnings
        self._clock = clock
        self._cached_metrics = b""
        self._cached_at = float("-inf")
        self._connections: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._listener = listen(endpoint)
        self.port: int = self._listener.getsockname()[1]
        """The TCP port on which it listens."""
        self._loop = asyncio.new_event_loop()
        self._serving = self._loop.create_task(self._serve())
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()
        log.info("metrics at http://%s/metrics, health at /healthz", host_and_port(endpoint.host, self.port))

    def close(self) -> None:
        """Disconnect all clients and free the port."""
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join(RESPONSE_TIMEOUT_SECONDS)  # no longer: a disk that hangs may hold up a collection
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        with contextlib.closing(self._loop), contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serving)

    async def _serve(self) -> None:
        try:
            while True:
                try:
                    client, _ = await self._loop.sock_accept(self._listener)
                except OSError as error:  # for example, no file descriptors are left
                    log.warning("can't accept an HTTP connection: %s; recording continues, still trying", error)
                    await asyncio.sleep(1)
                    continue
                if len(self._connections) >= MAX_CONNECTIONS:
                    next(iter(self._connections)).cancel()
                task = self._loop.create_task(self._handle_client(client))
                self._connections[task] = None
                task.add_done_callback(self._connections.pop)
                await asyncio.sleep(_ACCEPT_INTERVAL_SECONDS)
        finally:
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _handle_client(self, client: socket.socket) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_REQUEST_BYTES)
        with client, contextlib.suppress(OSError):  # a TimeoutError is one
            async with asyncio.timeout(RESPONSE_TIMEOUT_SECONDS):
                try:
                    request = await self._read_request(client, connection)
                    response = self._respond(request) if request else None
                except h11.RemoteProtocolError as error:
                    request = None
                    response = _Response(HTTPStatus(error.error_status_hint), b"not an HTTP request\n")
                if response:
                    await self._loop.sock_sendall(client, _encode_response(connection, request, response))

    async def _read_request(self, client: socket.socket, connection: h11.Connection) -> h11.Request | None:
        """Read a request; None if the client disconnected without one. Raises h11.RemoteProtocolError, OSError."""
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await self._loop.sock_recv(client, _READ_BYTES))
        return event if isinstance(event, h11.Request) else None

    def _respond(self, request: h11.Request) -> _Response:
        if request.method not in (b"GET", b"HEAD"):
            allow = (("Allow", "GET, HEAD"),)
            return _Response(HTTPStatus.METHOD_NOT_ALLOWED, b"this server is read-only\n", headers=allow)
        path, _, query = request.target.decode("ascii", "replace").partition("?")
        try:
            match path:
                case "/metrics":
                    return _Response(
                        HTTPStatus.OK, self._collect_metrics(), "text/plain; version=0.0.4; charset=utf-8"
                    )
                case "/healthz":
                    problems = "".join(f"{printable(problem)}\n" for problem in self._problems())
                    warnings = "".join(f"warning: {printable(warning)}\n" for warning in self._warnings())
                    status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
                    return _Response(status, ((problems or "ok\n") + warnings).encode(errors="replace"))
            if self._document and (found := self._document(path, query)) is not None:
                return _Response(HTTPStatus.OK, found, "application/json")
        except Exception:  # a fault in the collection of metrics must not end the server
            log.exception("can't answer the HTTP request for %r; recording continues", request.target)
            return _Response(HTTPStatus.INTERNAL_SERVER_ERROR, b"see the log\n")
        known = b"there is nothing at this path\n" if self._document else b"only /metrics and /healthz exist\n"
        return _Response(HTTPStatus.NOT_FOUND, known)

    def _collect_metrics(self) -> bytes:
        now = self._clock()
        if now - self._cached_at > _METRICS_CACHE_SECONDS:
            self._cached_metrics = self._metrics()
            self._cached_at = now
        return self._cached_metrics


def serve_if_possible(
    endpoint: ListenEndpoint,
    metrics: Callable[[], bytes],
    problems: Callable[[], Iterable[str]],
    warnings: Callable[[], Iterable[str]] = tuple,
) -> AbstractContextManager[object]:
    """Return an HttpServer; if that fails, recording continues without one."""
    try:
        return HttpServer(endpoint, metrics, problems, warnings)
    except ListenError as error:
        log.error("%s; recording continues without --http", error)
        return contextlib.nullcontext()


def _encode_response(connection: h11.Connection, request: h11.Request | None, response: _Response) -> bytes:
    headers = [
        ("Content-Type", response.type),
        ("Content-Length", str(len(response.body))),
        *_COMMON_HEADERS,
        *response.headers,
    ]
    status = response.status
    sent = connection.send(h11.Response(status_code=status, headers=headers, reason=status.phrase)) or b""
    if request and request.method == b"HEAD":
        return sent
    return sent + (connection.send(h11.Data(data=response.body)) or b"")
