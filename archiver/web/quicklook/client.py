"""Asks the quick-look process for looks, so that nothing else waits for it.

It has two threads of its own, which give up after seconds; viewers of the same look share one answer. Its last answer
is kept, to be shown while it doesn't answer.
"""

import asyncio
import http.client
import logging
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from archiver.quicklook.answers import VERSION, Answer
from g3stream.host.environment import now_ms
from g3stream.host.printable import printable
from g3stream.log.throttle import LogThrottle
from g3stream.service.endpoint import ClientEndpoint

log = logging.getLogger(__name__)

_THREADS: Final = 2
_TIMEOUT_S: Final = 2.0
_DEADLINE_S: Final = 3.0
_FRESH_S: Final = 1.0
_MAX_BYTES: Final = 8 << 20
_KEPT: Final = 64
"""Answers: each is 0.5 MB with 2,000 channels."""

Key = tuple[str, tuple[str, ...]]
"""A stream, and the channels that are asked for."""


class QuickLookError(Exception):
    """The quick-look process doesn't answer, or not as agreed; the message says why."""


class UnknownStreamError(Exception):
    """The quick-look process doesn't look at this stream."""


@dataclass(frozen=True, slots=True)
class QuickLook:
    """What is known of a stream's latest seconds."""

    answer: Answer | None
    """The last one; None if there was none since this program was started."""
    error: str | None = None
    """Why it isn't the present one; None if it is."""
    error_since_ms: int | None = None
    """Since when the quick-look process hasn't answered, since the epoch."""


Fetch = Callable[[str, Sequence[str]], bytes | None]
"""Returns the answer about a stream and channels; None if the stream is unknown. Raises OSError, HTTPException."""


class QuickLookClient:
    """Asks. For the event loop.

    fetch: called in threads of this object's. deadline_s: of a request, with its wait for a thread. fresh_s: for so
    long, an answer is given to other viewers, too.
    """

    def __init__(
        self, where: str, fetch: Fetch, *, deadline_s: float = _DEADLINE_S, fresh_s: float = _FRESH_S
    ) -> None:
        self._where = where
        self._fetch = fetch
        self._deadline_s = deadline_s
        self._fresh_s = fresh_s
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="quicklook")
        self._asked: OrderedDict[Key, tuple[float, asyncio.Task[QuickLook]]] = OrderedDict()
        self._last: OrderedDict[Key, Answer] = OrderedDict()
        self._failing_since_ms: int | None = None
        self._throttle = LogThrottle()

    async def get(self, stream: str, channels: Sequence[str]) -> QuickLook:
        """Return what is known of a stream. Raises UnknownStreamError."""
        key = stream, tuple(channels)
        began_s, task = self._asked.get(key, (0.0, None))
        if task is None or (task.done() and time.monotonic() - began_s > self._fresh_s):
            task = asyncio.get_running_loop().create_task(self._ask(key))
            self._asked[key] = time.monotonic(), task
            _forget_oldest(self._asked)
        return await asyncio.shield(task)

    async def _ask(self, key: Key) -> QuickLook:
        """Return what is known, after a request. Raises UnknownStreamError."""
        loop = asyncio.get_running_loop()
        try:
            found = await asyncio.wait_for(loop.run_in_executor(self._threads, self._fetch, *key), self._deadline_s)
            answer = None if found is None else _decoded(found)
        except (OSError, http.client.HTTPException, QuickLookError) as error:  # a TimeoutError is an OSError
            return self._failed(key, error)
        if self._failing_since_ms is not None:
            log.info("the quick-look process at %s answers again", self._where)
        self._failing_since_ms = None
        self._throttle.reset()
        if answer is None:
            self._last.pop(key, None)
            raise UnknownStreamError(key[0])
        self._last[key] = answer
        self._last.move_to_end(key)
        _forget_oldest(self._last)
        return QuickLook(answer)

    def _failed(self, key: Key, error: Exception) -> QuickLook:
        what = "it took too long" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        if isinstance(error, ConnectionRefusedError):
            what = "nothing listens there"
        what = printable(what)
        if self._throttle.due(time.monotonic()):
            text = "the quick-look process at %s doesn't answer: %s; nothing else depends on it"
            log.warning(text, self._where, what)
        if self._failing_since_ms is None:
            self._failing_since_ms = now_ms()
        text = f"the quick-look process at {self._where} doesn't answer: {what}"
        return QuickLook(self._last.get(key), text, self._failing_since_ms)


def fetch_from(endpoint: ClientEndpoint) -> Fetch:
    """Return the function that asks the quick-look process there."""

    def fetch(stream: str, channels: Sequence[str]) -> bytes | None:
        query = f"?{urlencode({'channels': ','.join(channels)})}" if channels else ""
        connection = http.client.HTTPConnection(endpoint.address, endpoint.port, timeout=_TIMEOUT_S)
        # A timeout is of one read: an answer that comes byte by byte would hold this thread for hours.
        timer = None
        try:
            connection.connect()
            timer = threading.Timer(_DEADLINE_S, _shut_down, (connection.sock,))
            timer.start()
            connection.request("GET", f"/v1/{quote(stream, safe='')}.json{query}")
            response = connection.getresponse()
            data = response.read(_MAX_BYTES + 1)
            if len(data) > _MAX_BYTES:
                raise http.client.HTTPException("its answer is too long")
            if response.status == HTTPStatus.NOT_FOUND:
                return None
            if response.status != HTTPStatus.OK:
                raise http.client.HTTPException(f"status {response.status}")
            return data
        finally:
            if timer:
                timer.cancel()
            connection.close()

    return fetch


def _shut_down(connection: socket.socket) -> None:
    """End all reading from a connection, in whichever thread."""
    with suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RDWR)


def _decoded(data: bytes) -> Answer:
    """Return the answer. Raises QuickLookError."""
    try:
        found = msgspec.json.decode(data, type=Answer)
    except msgspec.MsgspecError as error:
        raise QuickLookError(f"not as agreed: {error}") from None
    if found.v != VERSION:
        raise QuickLookError(f"with version {found.v}, not {VERSION}")
    return found


def _forget_oldest(found: OrderedDict[Key, Any]) -> None:
    while len(found) > _KEPT:
        found.popitem(last=False)
