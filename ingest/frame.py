"""What a frame says of itself: flow control, its stream, its number.

spt3g reads it; its bytes stay as they came. Nothing here prints a frame: `str()` of a hostile one can crash
the process, while `in` and `get` did not.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from spt3g import core

from ingest.topic import ContractError, Kind, stream_name
from ingest.wire import frame_type

# spt3g prints every bad CRC to stderr before it raises; we report it ourselves, with the stream and the reason.
core.G3Logger.global_logger = core.G3MultiLogger([])


class FlowControl(IntEnum):
    """The values of a frame's `sostream_flowcontrol` (smurf-streamer's SOStream protocol)."""

    ALIVE = 0
    START = 1
    END = 2
    CLEANSE = 3


class RejectedFrame(ValueError):
    """A frame that can't be trusted; the message says why."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a frame says. kind: None for ALIVE and CLEANSE, which go no further.

    type: G3 frame type code. id: its sostream_id if that is a valid stream name. session, num: its session_id
    and frame_num if integers. bad_id: it has a sostream_id that isn't a valid stream name, and isn't used.
    """

    kind: Kind | None
    type: int
    id: str | None = None
    session: int | None = None
    num: int | None = None
    bad_id: bool = False


_KIND_OF = {
    FlowControl.ALIVE: None,
    FlowControl.START: Kind.START,
    FlowControl.END: Kind.END,
    FlowControl.CLEANSE: None,
}


def read_frame(data: bytes | bytearray) -> Said:
    """Read a whole frame. Raises RejectedFrame if its CRC is wrong, or what it says makes no sense."""
    frame = core.G3Frame()
    try:
        frame._cereal_loads(data)
    except RuntimeError as error:
        raise RejectedFrame(_one_line(error)) from None
    stream_id, bad_id = _stream_id(frame)
    kind = _flow(frame) if "sostream_flowcontrol" in frame else Kind.FRAME
    return Said(
        kind, frame_type(data), stream_id, _integer(frame, "session_id"), _integer(frame, "frame_num"), bad_id
    )


def _flow(frame: Any) -> Kind | None:
    value = _integer(frame, "sostream_flowcontrol")
    if value is None:
        raise RejectedFrame("its sostream_flowcontrol is no integer")
    try:
        return _KIND_OF[FlowControl(value)]
    except ValueError:
        raise RejectedFrame(f"its sostream_flowcontrol is {value}") from None


def _stream_id(frame: Any) -> tuple[str | None, bool]:
    if "sostream_id" not in frame:
        return None, False
    value = _get(frame, "sostream_id")
    try:
        return stream_name(value if isinstance(value, str) else ""), False
    except ContractError:
        return None, True


def _integer(frame: Any, key: str) -> int | None:
    if key not in frame:
        return None
    value = _get(frame, key)
    # bool is an int to Python, but a G3Bool is no number.
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def _get(frame: Any, key: str) -> object:
    """The value of a key; None if spt3g can't read it: an unknown class, or bytes that don't fit it."""
    try:
        value: object = frame.get(key)
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, MemoryError):
        return None
    return value


def _one_line(error: BaseException) -> str:
    # Without "(in void G3Frame::load(…) [with …])", which tells an operator nothing.
    return str(error).split(" (in ")[0].replace("\n", " ")[:200]
