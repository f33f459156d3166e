"""What a frame says of itself: flow control, its stream, its number.

Without spt3g, which would copy every blob: a frame's CRC is checked as spt3g does, its bytes stay as they came, and
the few values that matter here are read from their blobs (g3stream/frames/scalars.py). Nor is a frame ever printed.
"""

from enum import IntEnum
from typing import NamedTuple

from g3stream.contract.errors import ContractError
from g3stream.contract.headers import Kind
from g3stream.contract.topics import stream_name
from g3stream.frames.checksum import verify_checksum_and_read
from g3stream.frames.layout import frame_type
from g3stream.frames.scalars import integer, string


class FlowControl(IntEnum):
    """The values of a frame's `sostream_flowcontrol` (smurf-streamer's SOStream protocol)."""

    ALIVE = 0
    START = 1
    END = 2
    CLEANSE = 3


class RejectedFrame(ValueError):
    """A frame that can't be trusted; the message says why."""


class FrameInfo(NamedTuple):
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


_FLOW, _ID, _SESSION, _NUM = b"sostream_flowcontrol", b"sostream_id", b"session_id", b"frame_num"
_WANTED = {len(name): (name,) for name in (_FLOW, _ID, _SESSION, _NUM)}


def read_frame_info(data: bytes | memoryview) -> FrameInfo:
    """Read a whole frame. Raises RejectedFrame if its CRC is wrong, or what it says makes no sense."""
    blobs = verify_checksum_and_read(data, _WANTED)
    if blobs is None:
        raise RejectedFrame("its CRC is wrong")
    kind: Kind | None = Kind.FRAME
    if _FLOW in blobs:
        kind = _kind_of_flow_control(integer(blobs[_FLOW]))
    stream_id, bad_id = None, False
    if _ID in blobs:
        try:
            stream_id = stream_name(string(blobs[_ID]))
        except ContractError:
            bad_id = True
    session = integer(blobs[_SESSION]) if _SESSION in blobs else None
    num = integer(blobs[_NUM]) if _NUM in blobs else None
    return FrameInfo(kind, frame_type(data), stream_id, session, num, bad_id)


def _kind_of_flow_control(value: int | None) -> Kind | None:
    if value is None:
        raise RejectedFrame("its sostream_flowcontrol is no integer")
    try:
        return _KIND_OF[FlowControl(value)]
    except ValueError:
        raise RejectedFrame(f"its sostream_flowcontrol is {value}") from None
