"""Frames made by hand, from the layout in the design: any type code, any byte order, any blob, hostile ones too."""

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
    """A frame with a right CRC. count: what its header says, if that isn't the number of keys."""
    order = "<" if little else ">"
    body = b"".join(
        struct.pack(f"{order}Q", len(name)) + name + struct.pack(f"{order}Q", len(blob)) + blob for name, blob in keys
    )
    head = struct.pack(f"{order}BIiI", little, version, len(keys) if count is None else count, code)
    return head + body + struct.pack(f"{order}I", crc(b"".join(name + blob for name, blob in keys)))


def crc(covered: bytes) -> int:
    """The CRC32C as spt3g has it: initial 0, no final inversion."""
    return int(google_crc32c.extend(0xFFFFFFFF, covered)) ^ 0xFFFFFFFF


def saying(code: int = SCAN, **keys: object) -> bytes:
    """A frame that spt3g makes, with those keys: plain Python values or G3FrameObjects."""
    made = core.G3Frame()
    made.type = core.G3FrameType.Scan
    for name, value in keys.items():
        made[name] = value
    data: bytes = made._cereal_dumps()
    return data[:9] + struct.pack("<I", code) + data[13:]  # the CRC doesn't cover the type


def blob(value: object) -> bytes:
    """A frame object as it lies in a frame."""
    data = saying(x=value)
    at = 13 + 8 + 1
    (length,) = struct.unpack_from("<Q", data, at)
    return data[at + 8 : at + 8 + length]


def nested(depth: int) -> bytes:
    """The blob of a G3VectorFrameObject that holds one that holds one …, 16 bytes a level."""
    name = b"G3VectorFrameObject"
    head = struct.pack("<BIQ", 1, 0x80000001, len(name)) + name + struct.pack("<III", 0x80000001, 1, 1)
    levels = (struct.pack("<QII", 1, 1, 0x80000002 + level) for level in range(depth))
    return head + b"".join(levels) + struct.pack("<Q", 0)


def long_string(promised: int) -> bytes:
    """The blob of a G3String of one byte that says it has `promised`."""
    return blob(core.G3String("x"))[:-9] + struct.pack("<Q", promised) + b"x"


_BLOBS = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([core.G3Int(7), core.G3String("x"), core.G3Bool(True), core.G3VectorDouble([1.0] * 50)]).map(
        blob
    ),
)
# Hypothesis tries strings that it finds in our code, too.
_NAMES = st.text(max_size=60).map(str.encode).filter(lambda name: name != b"sostream_flowcontrol")
_CODES = st.one_of(st.sampled_from([ord(c) for c in "SONCHWPZ"]), st.integers(0, 2**32 - 1))

ANY_FRAME = st.builds(
    frame,
    st.lists(st.tuples(_NAMES, _BLOBS), max_size=40, unique_by=lambda key: key[0]),
    _CODES,
    little=st.booleans(),
)
"""Data frames of 0 to 40 keys, names of any length and script, any blob, type code and byte order."""
