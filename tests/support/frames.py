"""Frames assembled by hand from the format: any type code, byte order and blob, also hostile ones."""

import struct
from collections.abc import Sequence

import google_crc32c
from hypothesis import strategies as st
from spt3g import core

Keys = Sequence[tuple[bytes, bytes]]
"""A frame's names and blobs, in order."""

SCAN = ord("S")


def frame(
    keys: Keys = (), code: int = SCAN, *, little: bool = True, version: int = 1, count: int | None = None
) -> bytes:
    """Return a frame with a correct CRC. count: the number of keys in its header, if it isn't the true one."""
    order = "<" if little else ">"
    body = b"".join(
        struct.pack(f"{order}Q", len(name)) + name + struct.pack(f"{order}Q", len(blob)) + blob for name, blob in keys
    )
    head = struct.pack(f"{order}BIiI", little, version, len(keys) if count is None else count, code)
    return head + body + struct.pack(f"{order}I", crc(b"".join(name + blob for name, blob in keys)))


def crc(covered: bytes) -> int:
    """Return the CRC32C as spt3g computes it: initially 0, not inverted at the end."""
    return int(google_crc32c.extend(0xFFFFFFFF, covered)) ^ 0xFFFFFFFF


def frame_with(code: int = SCAN, **keys: object) -> bytes:
    """Return a frame made by spt3g with those keys: plain Python values or G3FrameObjects."""
    made = core.G3Frame()
    made.type = core.G3FrameType.Scan
    for name, value in keys.items():
        made[name] = value
    data: bytes = made._cereal_dumps()
    return data[:9] + struct.pack("<I", code) + data[13:]  # the CRC doesn't cover the type


def blob(value: object) -> bytes:
    """Return the blob of a frame object."""
    data = frame_with(x=value)
    at = 13 + 8 + 1
    (length,) = struct.unpack_from("<Q", data, at)
    return data[at + 8 : at + 8 + length]


def nested(depth: int) -> bytes:
    """Return the blob of `depth` nested G3VectorFrameObjects, 16 bytes a level."""
    name = b"G3VectorFrameObject"
    head = struct.pack("<BIQ", 1, 0x80000001, len(name)) + name + struct.pack("<III", 0x80000001, 1, 1)
    levels = (struct.pack("<QII", 1, 1, 0x80000002 + level) for level in range(depth))
    return head + b"".join(levels) + struct.pack("<Q", 0)


def long_string(claimed_bytes: int) -> bytes:
    """Return the blob of a G3String of one byte that claims a longer length."""
    return blob(core.G3String("x"))[:-9] + struct.pack("<Q", claimed_bytes) + b"x"


_BLOBS = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([core.G3Int(7), core.G3String("x"), core.G3Bool(True), core.G3VectorDouble([1.0] * 50)]).map(
        blob
    ),
)
# Hypothesis also tries strings that it finds in the code under test.
_NAMES = st.text(max_size=60).map(str.encode).filter(lambda name: name != b"sostream_flowcontrol")
_CODES = st.one_of(st.sampled_from([ord(c) for c in "SONCHWPZ"]), st.integers(0, 2**32 - 1))

ANY_FRAME = st.builds(
    frame,
    st.lists(st.tuples(_NAMES, _BLOBS), max_size=40, unique_by=lambda key: key[0]),
    _CODES,
    little=st.booleans(),
)
"""Data frames of 0 to 40 keys, names of any length and script, any blob, type code and byte order."""
