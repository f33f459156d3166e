"""A live stream: its newest frames, which all clients share, and where each new client begins. Pure.

Each item has a position, from 0. A client has the position of its next item; one whose position is before `first` is
too slow: the items that it would need next are gone.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from archiver.relay.frames import Frame, LatestFrames

CATCH_UP_S: Final = 30.0
"""So long after the first frame of a connection of the sender, a client that returns gets that connection from there.

It was closed with the connection before, connects again a second later, and would miss what came meanwhile.
"""
_ITEM_BYTES: Final = 200
"""Memory, about, that an item takes besides its frame's bytes: many are small."""

Item = Frame | None
"""None: the sender's connection has ended."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a new client gets."""

    frames: tuple[Frame, ...]
    """First these."""
    position: int
    """Then the items from here on."""


class LiveStream:
    """The newest items of a stream, of `max_bytes` at most (but one at least). now_s: monotonic."""

    def __init__(self, max_bytes: int, latest: LatestFrames) -> None:
        """latest: the frames of the present connection that came before."""
        self.first = 0
        """The position of the oldest item."""
        self.bytes = 0
        """Of memory that the items take."""
        self._max_bytes = max_bytes
        self._latest = latest
        self._items: deque[Item] = deque()
        self._first_frames_s: dict[int, float] = {}
        """When the first frame after an end of a connection came, by its position."""
        self._has_frames = bool(latest.frames())
        """Whether the present connection has had any frame, as far as is known."""

    @property
    def end(self) -> int:
        """The position after the newest item."""
        return self.first + len(self._items)

    def __getitem__(self, position: int) -> Item:
        assert position >= self.first
        return self._items[position - self.first]

    def frames(self, position: int, max_bytes: int) -> list[Frame]:
        """Return the frames from there on: one, or more that fit; none if the sender's connection has ended there."""
        found: list[Frame] = []
        size = 0
        for at in range(position, self.end):
            item = self[at]
            if item is None or (found and size + len(item.data) > max_bytes):
                break
            found.append(item)
            size += len(item.data)
        return found

    def add(self, frame: Frame, now_s: float, *, is_resent: bool = True) -> None:
        """Add the newest frame. is_resent: whether it may be one that a new client gets first."""
        if not self._has_frames:
            self._first_frames_s[self.end] = now_s
        self._has_frames = True
        if is_resent:
            self._latest.add(frame)
        self._append(frame)

    def end_connection(self) -> bool:
        """Note that the sender's connection has ended, if there was one. Returns whether clients are closed by it."""
        had_frames = self._has_frames
        self._latest.forget()
        if had_frames:
            self._append(None)
        self._has_frames = False
        return had_frames

    def is_continued(self, position: int, now_s: float) -> bool:
        """Return whether a client that was closed before that position gets what came from there on."""
        first_frame_s = self._first_frames_s.get(position, now_s)
        return position >= self.first and now_s - first_frame_s <= CATCH_UP_S

    def beginning(self, now_s: float, closed_at: int | None = None) -> Beginning:
        """Return what a client gets that connects now.

        closed_at: the position after the end of a connection of the sender, with which this client was closed.
        """
        if closed_at is not None and self.is_continued(closed_at, now_s):
            return Beginning((), closed_at)
        return Beginning(self._latest.frames(), self.end)

    def _append(self, item: Item) -> None:
        self._items.append(item)
        self.bytes += _size(item)
        while self.bytes > self._max_bytes and len(self._items) > 1:
            self.bytes -= _size(self._items.popleft())
            self._first_frames_s.pop(self.first, None)
            self.first += 1


def _size(item: Item) -> int:
    return _ITEM_BYTES + (len(item.data) if item else 0)
