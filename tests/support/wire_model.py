"""Model of a reader of G3 frames, as simple as possible: the test oracle for damaged streams.

It reads all bytes at once, while ingest receives them piece by piece, and computes the CRC and lengths from the
specification of the format, not with ingest's code.
"""

import struct
from enum import Enum
from typing import NamedTuple

from tests.support.frames import crc


class End(Enum):
    """How a stream of bytes ends for its reader."""

    WHOLE = "between two frames"
    CUT = "in the middle of a frame, as far as can be known"
    GARBAGE = "at bytes that are no frame"


class Reading(NamedTuple):
    """The content of a stream of bytes."""

    good: list[bytes]
    """Whole frames with a correct CRC."""
    rejected: list[bytes]
    """Whole frames with a wrong CRC."""
    end: End
    cut: int
    """Bytes of the incomplete frame at the end."""


class _Cut(Exception):
    """The frame is incomplete."""


class _Garbage(Exception):
    """The bytes can't become a frame."""


def read(data: bytes, max_frame_bytes: int) -> Reading:
    """Read the frames up to the first bytes that are none."""
    good: list[bytes] = []
    rejected: list[bytes] = []
    at = 0
    while at < len(data):
        try:
            end, valid = _frame(data[at:], max_frame_bytes)
        except _Cut:
            return Reading(good, rejected, End.CUT, len(data) - at)
        except _Garbage:
            return Reading(good, rejected, End.GARBAGE, 0)
        (good if valid else rejected).append(data[at : at + end])
        at += end
    return Reading(good, rejected, End.WHOLE, 0)


def _frame(data: bytes, max_frame_bytes: int) -> tuple[int, bool]:
    """Return the length of the first frame, and whether its CRC is correct. Raises _Cut, _Garbage."""
    if len(data) < 13:
        raise _Cut
    order = {1: "<", 0: ">"}.get(data[0])
    if order is None:
        raise _Garbage
    version, keys, _ = struct.unpack(f"{order}IiI", data[1:13])
    if version != 1 or not 0 <= keys <= 100_000:
        raise _Garbage
    at, covered = 13, b""
    for _ in range(keys):
        for longest in (1 << 16, max_frame_bytes):  # a name, a blob
            (length,) = struct.unpack(f"{order}Q", _part(data, at, 8))
            if length > longest:
                raise _Garbage
            if longest == max_frame_bytes and at + 8 + length + 4 > max_frame_bytes:
                raise _Garbage
            covered += _part(data, at + 8, length)
            at += 8 + length
    (stored_crc,) = struct.unpack(f"{order}I", _part(data, at, 4))
    return at + 4, stored_crc == crc(covered)


def _part(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise _Cut
    return data[at : at + length]
