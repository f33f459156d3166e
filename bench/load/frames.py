"""What is sent: frames of a size, or a SMuRF slot's, as bytes that are ready to be sent."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from spt3g import core

from g3stream.contract.headers import CHUNK_BYTES
from g3stream.frames.decoder import decode_frames
from g3stream.frames.layout import FRAME_TYPES, frame_type
from ingest.receive.frame_info import FlowControl

SMURF = "SMuRF"
SIZES = ("20kB", "200kB", "2MB", "20MB", SMURF)
"""Those of a full run. Any other (100MB) may be asked for."""

_SLOT = Path(__file__).parents[2] / "tests" / "data" / "smurf-slot.g3"
_SIZE = re.compile(r"([1-9]\d*)(kB|MB)")


@dataclass(frozen=True, slots=True)
class Frames:
    """A few whole frames back to back, to be sent again and again. lengths: of each, bytes."""

    name: str
    unit: bytes
    lengths: tuple[int, ...]

    def times(self, total: int) -> int:
        """How often to send them for at least so many bytes."""
        return -(-total // len(self.unit))

    def records(self, times: int) -> int:
        """How many records they are in Kafka, sent so often: large ones are split."""
        return times * sum(-(-length // CHUNK_BYTES) for length in self.lengths)


@cache
def frames(name: str) -> Frames:
    """Frames of that size: `20kB`, `2MB`, …; or SMURF. Raises ValueError.

    SMURF: the Scan frames of tests/data/smurf-slot.g3, made with so3g (1,800 channels, compressed, 750 kB each).
    """
    if name == SMURF:
        scans = [frame for frame in decode_frames(_SLOT.read_bytes()) if frame_type(frame) == FRAME_TYPES["Scan"]]
        return Frames(name, b"".join(scans), tuple(map(len, scans)))
    match = _SIZE.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no size of frames; 20kB, 2MB or {SMURF} are")
    made = serialized(data_frame(size_in_bytes(name), 1))
    return Frames(name, made, (len(made),))


def size_in_bytes(name: str) -> int:
    """20kB is 20000. Raises ValueError."""
    match = _SIZE.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no size")
    return int(match[1]) * {"kB": 1000, "MB": 1_000_000}[match[2]]


def data_frame(size: int, number: int) -> core.G3Frame:
    """A Scan frame with `size` bytes of data, and what a SMuRF streamer puts into each."""
    frame = core.G3Frame(core.G3FrameType.Scan)
    frame["sostream_id"] = "bench"
    frame["session_id"] = 1
    frame["frame_num"] = number
    frame["data"] = core.G3String("x" * size)
    return frame


def start_frame() -> bytes:
    """The flow control START."""
    return flow_control(FlowControl.START)


def flow_control(value: FlowControl) -> bytes:
    """A frame of flow control."""
    frame = core.G3Frame(getattr(core.G3FrameType, "none"))  # noqa: B009 - none is a frame type's name
    frame["sostream_flowcontrol"] = int(value)
    return serialized(frame)


def serialized(frame: core.G3Frame) -> bytes:
    """Its bytes, as on the wire."""
    data: bytes = frame._cereal_dumps()
    return data
