"""The values that ingest reads from a frame: flow control, stream id, session id, frame number.

spt3g isn't used, as it would copy every blob. The frame's CRC is verified as spt3g does, its bytes stay unchanged,
and the few values needed here are read from their blobs (g3stream/frame_format/scalars.py).
"""

from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from g3stream.contract.headers import Kind
from g3stream.contract.topics import ContractError, stream_name
from g3stream.frame_format.reader import read_frame
from g3stream.frame_format.scalars import integer, string


class FlowControl(IntEnum):
    """Values of `sostream_flowcontrol` (smurf-streamer's SOStream protocol)."""

    ALIVE = 0
    START = 1
    END = 2
    CLEANSE = 3


class RejectedFrame(ValueError):
    """A frame that can't be trusted; the message says why."""


class FrameInfo(NamedTuple):
    """The values read from a frame."""

    kind: Kind | None
    """The kind of its record; None for ALIVE and CLEANSE, which are discarded."""
    type: int
    """G3 frame type code."""
    id: str | None = None
    """Its sostream_id, if that is a valid stream name."""
    session: int | None = None
    """Its session_id, if that is an integer."""
    num: int | None = None
    """Its frame_num, if that is an integer."""
    bad_id: bool = False
    """Whether it has a sostream_id that is no valid stream name, and is ignored."""


_KIND_OF: Mapping[int | None, Kind | None] = {
    FlowControl.ALIVE: None,
    FlowControl.START: Kind.START,
    FlowControl.END: Kind.END,
    FlowControl.CLEANSE: None,
}
_FLOW, _ID, _SESSION, _NUM = b"sostream_flowcontrol", b"sostream_id", b"session_id", b"frame_num"
_FIELDS = frozenset((_FLOW, _ID, _SESSION, _NUM))


def read_frame_info(data: bytes | memoryview) -> FrameInfo:
    """Read a complete frame. Raises RejectedFrame if its CRC is wrong or its flow control is invalid."""
    frame = read_frame(data, _FIELDS)
    if frame is None:
        raise RejectedFrame("its CRC is wrong")
    blobs = frame.blobs
    kind: Kind | None = Kind.FRAME
    if _FLOW in blobs:
        flow = integer(blobs[_FLOW])
        if flow not in _KIND_OF:
            raise RejectedFrame(f"its sostream_flowcontrol is {'no integer' if flow is None else flow}")
        kind = _KIND_OF[flow]
    stream_id = _stream_id(blobs[_ID]) if _ID in blobs else None
    session, num = integer(blobs.get(_SESSION, b"")), integer(blobs.get(_NUM, b""))
    return FrameInfo(kind, frame.code, stream_id, session, num, bad_id=stream_id is None and _ID in blobs)


@lru_cache(16)
def _stream_id(blob: bytes) -> str | None:
    """Return a sostream_id, or None if it is no valid stream name. Cached, as a stream's frames all have the same."""
    try:
        return stream_name(string(blob))
    except ContractError:
        return None
