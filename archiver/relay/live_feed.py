"""The feed of live clients: one read of the stream for all of them, and the newest frames in memory once."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from archiver.relay.client import Client, Reason
from archiver.relay.frames import Frame
from archiver.relay.live_stream import LiveStream

_UNTAKEN: Final = 8
"""Frames that the reading thread may be ahead of the loop: it waits for it rather than fill the memory."""
_TURN_BYTES: Final = 256 << 10
"""Small frames are sent together, up to this size."""


@dataclass(frozen=True, slots=True)
class LiveFeedStatus:
    """The shared frames."""

    bytes: int
    """Of the frames that are kept."""
    frames_behind: int
    """How many of them the slowest client has still to get."""


class LiveFeed:
    """Gives each client what comes. The methods with `publish` in their names are for the reading thread."""

    def __init__(self, stream: LiveStream, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._clients: set[Client] = set()
        self._slots = threading.BoundedSemaphore(_UNTAKEN)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[asyncio.Future[None]] = []
        """Of clients that have got everything."""
        self._closed: dict[str, list[int]] = {}
        """By host, of clients that were closed with a connection of the sender, and haven't connected again: the
        position after that. There may have been further connections before they do."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note the loop in which clients are served."""
        self._loop = loop

    def publish(self, frame: Frame, *, is_resent: bool = True) -> None:
        """Give this frame to all clients; is_resent: as LiveStream takes it."""
        self._publish(lambda: self._stream.add(frame, self._clock(), is_resent=is_resent))

    def publish_lost(self) -> None:
        """Close the connections of all clients after what was published before, as the sender's has ended."""
        self._publish(self._end_connection)

    async def serve(self, client: Client) -> Reason:
        """Send to a client until the sender's connection ends. Raises Dropped."""
        closed = self._closed.get(client.host)
        beginning = self._stream.beginning(self._clock(), closed.pop() if closed else None)
        position = client.position = beginning.position
        self._clients.add(client)
        try:
            await client.send(self._selected(client, beginning.frames))
            while True:
                while position < self._stream.end:
                    if position < self._stream.first:
                        return Reason.SLOW
                    frames = self._stream.frames(position, _TURN_BYTES)
                    if not frames:
                        self._closed.setdefault(client.host, []).append(position + 1)
                        return Reason.ENDED
                    await client.send(self._selected(client, frames))
                    position = client.position = position + len(frames)
                    await asyncio.sleep(0)  # a client that reads fast has its turns as the others have
                await self._until_more()
        finally:
            self._clients.discard(client)

    def status(self) -> LiveFeedStatus:
        """Return what is kept. For any thread."""
        end = self._stream.end
        behind = [end - client.position for client in list(self._clients) if client.position is not None]
        return LiveFeedStatus(self._stream.bytes, max(0, *behind) if behind else 0)

    def _selected(self, client: Client, frames: Sequence[Frame]) -> list[bytes]:
        """Return those of the frames that the client is sent."""
        now_s = self._clock()
        return [frame.data for frame in frames if client.thinning.sends(frame, now_s)]

    def _end_connection(self) -> None:
        if self._stream.end_connection():
            now_s = self._clock()
            waiting = {
                host: [position for position in closed if self._stream.is_continued(position, now_s)]
                for host, closed in self._closed.items()
            }
            self._closed = {host: closed for host, closed in waiting.items() if closed}

    async def _until_more(self) -> None:
        assert self._loop
        more: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(more)
        await more

    def _publish(self, add: Callable[[], None]) -> None:
        assert self._loop
        self._slots.acquire()
        self._loop.call_soon_threadsafe(self._take, add)

    def _take(self, add: Callable[[], None]) -> None:
        """Add an item; in the loop's thread."""
        self._slots.release()
        add()
        for client in self._clients:
            if client.position is not None and client.position < self._stream.first:
                client.drop(Reason.SLOW)
        for more in self._waiting:
            if not more.done():  # its client may have left
                more.set_result(None)
        self._waiting.clear()
