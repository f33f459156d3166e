"""The layout of a G3 frame, as spt3g 1.0 writes it (G3Frame.cxx), and the types of frames.

    u8 byte order (1 little, 0 big) · u32 class version (1) · i32 number of keys · u32 type code
    per key: u64 length, name, u64 length, blob
    u32 CRC32C (reader.py)

Frames follow each other without a gap. A length is trusted only within the limits here.
"""

import struct
from collections.abc import Iterator, Mapping

FRAME_TYPES: Mapping[str, int] = {
    "Calibration": ord("C"),
    "EndProcessing": ord("Z"),
    "Ephemeris": ord("E"),
    "GcpSlow": ord("G"),
    "Housekeeping": ord("H"),
    "InstrumentStatus": ord("I"),
    "LightCurve": ord("L"),
    "Map": ord("M"),
    "Observation": ord("O"),
    "PipelineInfo": ord("P"),
    "Scan": ord("S"),
    "Statistics": ord("R"),
    "Timepoint": ord("T"),
    "Wiring": ord("W"),
    "none": ord("N"),
}
"""The type code of each frame type that spt3g names (core.G3FrameType)."""

_TYPE_NAMES = {code: name for name, code in FRAME_TYPES.items()}

HEADER_BYTES = 13
CRC_BYTES = 4
MAX_KEYS = 100_000
"""A SMuRF frame has about 40 keys. The limit keeps a hostile frame from costing seconds."""
MAX_NAME_BYTES = 1 << 16

LENGTH = {1: struct.Struct("<Q"), 0: struct.Struct(">Q")}
"""The length of a name or a blob, by byte order."""
CRC = {1: struct.Struct("<I"), 0: struct.Struct(">I")}
HEADER = {1: struct.Struct("<BIiI"), 0: struct.Struct(">BIiI")}
"""Byte order, class version, number of keys, type code; by byte order."""


class FrameFormatError(ValueError):
    """The bytes are no G3 frame, or one larger than allowed; nothing after them can be trusted."""


class TruncatedFrameError(FrameFormatError):
    """The bytes end in the middle of a frame."""


def parse_header(data: bytes | bytearray | memoryview, at: int) -> tuple[int, int, int]:
    """Return byte order, number of keys and type code of the frame header at `at`. Raises FrameFormatError."""
    order = data[at]
    if order not in HEADER:
        raise FrameFormatError(f"no G3 frame: its byte order is {order}, not 0 or 1")
    _, version, keys, code = HEADER[order].unpack_from(data, at)
    if version != 1:
        raise FrameFormatError(f"no G3 frame: its class version is {version}, not 1")
    if not 0 <= keys <= MAX_KEYS:
        raise FrameFormatError(f"no G3 frame: it would have {keys} keys")
    return order, keys, code


def parse_keys(
    data: bytes | bytearray | memoryview, at: int, end: int, order: int, count: int
) -> Iterator[tuple[int, int]]:
    """Yield where the blobs of the next `count` keys, the first of them at `at`, begin and end.

    The blob of the last one may end beyond `end`; it is the last whose lengths and name are before `end`. Raises
    FrameFormatError.
    """
    # A generator takes 0.2 µs more for a frame of 4 keys than a loop in each caller would; all of ingest about 60 for
    # a frame of 20 kB.
    length_at = LENGTH[order].unpack_from
    for _ in range(count):
        if end < at + 8:
            return
        (name_bytes,) = length_at(data, at)
        if name_bytes > MAX_NAME_BYTES:
            raise FrameFormatError(f"a key's name of {name_bytes} bytes")
        blob_at = at + 16 + name_bytes
        if end < blob_at:
            return
        (blob_bytes,) = length_at(data, blob_at - 8)
        at = blob_at + blob_bytes
        yield blob_at, at


def key_names(frame: bytes) -> list[str]:
    """Return the names of a whole frame's keys, in order; what isn't UTF-8 is escaped. Raises FrameFormatError."""
    if len(frame) < HEADER_BYTES + CRC_BYTES:
        raise TruncatedFrameError("it is cut off")
    order, count, _ = parse_header(frame, 0)
    names, at = [], HEADER_BYTES
    for blob_at, blob_end in parse_keys(frame, at, len(frame), order, count):
        names.append(frame[at + 8 : blob_at - 8].decode(errors="backslashreplace"))
        at = blob_end
    if len(names) < count or at > len(frame):
        raise TruncatedFrameError("it is cut off")
    return names


def frame_type_name(code: int) -> str:
    """Return spt3g's name of a frame type, or its code in decimal if it has none."""
    return _TYPE_NAMES.get(code, str(code))
