"""What a reader of G3 frames must make of any bytes, said as simply as possible: the oracle of damaged streams.

It looks at all the bytes at once, where ingest sees them come, and takes its CRC and its lengths from the format as
it is written down in the design, not from ingest's code.
"""

import struct
from enum import Enum
from typing import NamedTuple

from tests.support.frames import crc


class End(Enum):
    """How a stream of bytes ends for its reader."""

    WHOLE = "between two frames"
    CUT = "in the middle of a frame, as far as anyone can know"
    GARBAGE = "where no frame can be"


class Reading(NamedTuple):
    """What is in a stream of bytes. rejected: whole frames with a wrong CRC. cut: bytes of the unfinished frame."""

    good: list[bytes]
    rejected: list[bytes]
    end: End
    cut: int


class _Cut(Exception):
    """The frame isn't whole yet."""


class _Garbage(Exception):
    """It will never be one."""


def read(data: bytes, max_frame_bytes: int) -> Reading:
    """Read them as far as that goes."""
    good: list[bytes] = []
    rejected: list[bytes] = []
    at = 0
    while at < len(data):
        try:
            end, right = _frame(data[at:], max_frame_bytes)
        except _Cut:
            return Reading(good, rejected, End.CUT, len(data) - at)
        except _Garbage:
            return Reading(good, rejected, End.GARBAGE, 0)
        (good if right else rejected).append(data[at : at + end])
        at += end
    return Reading(good, rejected, End.WHOLE, 0)


def _frame(data: bytes, max_frame_bytes: int) -> tuple[int, bool]:
    """The length of the first frame, and whether its CRC is right. Raises _Cut, _Garbage."""
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
    (said,) = struct.unpack(f"{order}I", _part(data, at, 4))
    return at + 4, said == crc(covered)


def _part(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise _Cut
    return data[at : at + length]
