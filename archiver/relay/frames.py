"""The frames that a relay sends: which a new client gets first, and which are left out for a thin link. Pure.

A G3NetworkSender that listens keeps the latest frame of each type but Scan and Timepoint, and sends them to each new
client, ordered by when each type first appeared.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from g3stream.frame_format.layout import FRAME_TYPES

_NOT_RESENT: Final = frozenset((FRAME_TYPES["Scan"], FRAME_TYPES["Timepoint"]))
"""Frames that a G3NetworkSender doesn't send again, and may leave out if its queue is full."""
_BURST_S: Final = 1.0


class Frame(NamedTuple):
    """A frame."""

    code: int
    """Its type code."""
    data: bytes
    """It, serialized."""


ALIVE: Final = Frame(
    FRAME_TYPES["none"],
    bytes.fromhex(
        "0101000000010000004e0000001400000000000000736f73747265616d5f666c6f77636f6e74726f6c2600000000000000010100008005"
        "000000000000004733496e740100008001000000010000000000000000000000808001c7"
    ),
)
"""The flow control frame that a SMuRF streamer sends each second while it has no data: sostream_flowcontrol is 0."""


class LatestFrames:
    """The frames that a client gets first."""

    def __init__(self) -> None:
        self._latest: dict[int, Frame] = {}  # in the order in which the types first appeared

    @staticmethod
    def has(code: int) -> bool:
        """Return whether the latest frame of this type is among them."""
        return code not in _NOT_RESENT

    def add(self, frame: Frame) -> None:
        """Add the connection's next frame."""
        if self.has(frame.code):
            self._latest[frame.code] = frame

    def forget(self) -> None:
        """Forget all frames, as the sender's connection has ended."""
        self._latest.clear()

    def frames(self) -> tuple[Frame, ...]:
        """Return them, in the order in which a G3NetworkSender sends them."""
        return tuple(self._latest.values())


@dataclass(frozen=True, slots=True)
class Selection:
    """What each client is sent."""

    types: frozenset[int] | None = None
    """Only frames of these types; None: of all."""
    max_bytes_per_s: int | None = None
    """Scan and Timepoint frames beyond it are left out; None: none are."""

    @classmethod
    def of(cls, names: Iterable[str], max_bytes_per_s: int | None) -> "Selection":
        """Return the selection of frame types with these names; of all if there is none."""
        return cls(frozenset(FRAME_TYPES[name] for name in names) or None, max_bytes_per_s)


class Thinning:
    """Decides which frames one client is sent. now_s: monotonic.

    With a limit, bytes are allowed as time passes, for 1 s in advance at most. A frame that may be left out is sent
    if any are left, whatever its size; it, and each frame that is always sent, uses up what it takes, in advance too.
    """

    def __init__(self, selection: Selection, now_s: float) -> None:
        self.left_out = 0
        """Frames beyond the limit."""
        self._types = selection.types
        self._rate = selection.max_bytes_per_s
        self._allowed = _BURST_S * (self._rate or 0)
        self._at_s = now_s

    def sends(self, frame: Frame, now_s: float) -> bool:
        """Return whether the next frame is sent."""
        if self._types is not None and frame.code not in self._types:
            return False
        if self._rate is None:
            return True
        self._allowed = min(_BURST_S * self._rate, self._allowed + self._rate * (now_s - self._at_s))
        self._at_s = now_s
        if frame.code in _NOT_RESENT and self._allowed <= 0:
            self.left_out += 1
            return False
        self._allowed -= len(frame.data)
        return True
