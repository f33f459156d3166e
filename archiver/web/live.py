"""The live page: rendered once for all viewers, and what has changed is sent to them as server-sent events.

A viewer that reads slowly skips versions: for each there is only what it hasn't received yet, never a queue.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping

log = logging.getLogger(__name__)

INTERVAL_S = 2.0
"""How often ages and the clock are brought up to date, if nothing else happens."""
_RETRY_MS = 2000
"""When a browser that has lost its connection tries again."""


class LivePage:
    """The fragments of the page of the present. Everything but `refresh` is for the event loop only.

    render: returns the present fragments by name; called in a thread.
    """

    def __init__(self, render: Callable[[], Mapping[str, str]]) -> None:
        self._render = render
        self.fragments: Mapping[str, str] = {}
        """The present ones, by name."""
        self._version = 0
        self._delta = b""
        self._is_over = False
        self._next_version = asyncio.Event()
        self._due = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def refresh(self) -> None:
        """Have the page rendered now. For any thread."""
        if loop := self._loop:
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(self._due.set)

    async def run(self) -> None:
        """Render the page every few seconds, until it is cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            try:
                await self.update()
            except Exception:
                # The pages show that no updates arrive, and the next attempt may succeed.
                log.exception("the page can't be rendered; still trying")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), INTERVAL_S)
            self._due.clear()

    async def update(self) -> None:
        """Render the page, and send what has changed."""
        before, self.fragments = self.fragments, await asyncio.to_thread(self._render)
        changed = {name: html for name, html in self.fragments.items() if html != before.get(name)}
        if changed:
            self._version += 1
            self._delta = _event(self._version, changed)
            self._wake_viewers()

    def close(self) -> None:
        """End the connections of all viewers."""
        self._is_over = True
        self._wake_viewers()

    def _wake_viewers(self) -> None:
        self._next_version.set()
        self._next_version = asyncio.Event()

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the page, and then what changes, in the format of server-sent events."""
        yield f"retry: {_RETRY_MS}\n\n".encode()
        received = 0
        while not self._is_over:
            if received < self._version:
                is_next = received and received == self._version - 1
                received = self._version
                yield self._delta if is_next else _event(self._version, self.fragments)
            else:
                await self._next_version.wait()


def _event(version: int, fragments: Mapping[str, str]) -> bytes:
    """Return a server-sent event. A line end would end its data, so lines are joined: they are HTML."""
    html = " ".join(line.strip() for fragment in fragments.values() for line in fragment.splitlines())
    return f"id: {version}\nevent: now\ndata: {html}\n\n".encode()
