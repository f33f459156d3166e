"""Frames of a given size, or those of a SMuRF slot, as bytes that are ready to be sent."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from spt3g import core

from g3stream.contract.headers import CHUNK_BYTES
from g3stream.frame_format.layout import FRAME_TYPES, parse_header
from ingest.receive.frame_info import FlowControl
from testbed.frames import decode_frames

SMURF = "SMuRF"
SIZES = ("20kB", "200kB", "2MB", "20MB", SMURF)
"""Frame sizes of a full run. Any other (100MB) may be requested."""

_SLOT = Path(__file__).parents[2] / "tests" / "data" / "smurf-slot.g3"
_SIZE = re.compile(r"([1-9]\d*)(kB|MB)")


@dataclass(frozen=True, slots=True)
class Frames:
    """A few whole frames back to back, to be sent repeatedly."""

    name: str
    unit: bytes
    lengths: tuple[int, ...]
    """Size of each frame, bytes."""

    def times(self, total: int) -> int:
        """Return how often to send them for at least `total` bytes."""
        return -(-total // len(self.unit))

    def records(self, times: int) -> int:
        """Return the number of messages in Kafka if they are sent `times` times; large frames are split."""
        return times * sum(-(-length // CHUNK_BYTES) for length in self.lengths)


@cache
def frames(name: str) -> Frames:
    """Make frames of that size: `20kB`, `2MB`, …; or SMURF. Raises ValueError.

    SMURF: the Scan frames of tests/data/smurf-slot.g3, made with so3g (1,800 channels, compressed, 750 kB each).
    """
    if name == SMURF:
        scans = [
            frame for frame in decode_frames(_SLOT.read_bytes()) if parse_header(frame, 0)[2] == FRAME_TYPES["Scan"]
        ]
        return Frames(name, b"".join(scans), tuple(map(len, scans)))
    match = _SIZE.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not a frame size; use 20kB, 2MB, … or {SMURF}")
    made = serialized(data_frame(size_in_bytes(name), 1))
    return Frames(name, made, (len(made),))


def size_in_bytes(name: str) -> int:
    """Return 20000 for 20kB. Raises ValueError."""
    match = _SIZE.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not a size")
    return int(match[1]) * {"kB": 1000, "MB": 1_000_000}[match[2]]


def data_frame(size: int, number: int) -> core.G3Frame:
    """Make a Scan frame with `size` bytes of data and the fields of a SMuRF streamer."""
    frame = core.G3Frame(core.G3FrameType.Scan)
    frame["sostream_id"] = "bench"
    frame["session_id"] = 1
    frame["frame_num"] = number
    frame["data"] = core.G3String("x" * size)
    return frame


def start_frame() -> bytes:
    """Make the flow control frame START."""
    return flow_control(FlowControl.START)


def flow_control(value: FlowControl) -> bytes:
    """Make a flow control frame."""
    frame = core.G3Frame(getattr(core.G3FrameType, "none"))  # noqa: B009 - none is a frame type's name
    frame["sostream_flowcontrol"] = int(value)
    return serialized(frame)


def serialized(frame: core.G3Frame) -> bytes:
    """Return the frame's bytes, as sent over TCP."""
    data: bytes = frame._cereal_dumps()
    return data
