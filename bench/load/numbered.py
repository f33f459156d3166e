"""Frames that differ only in their number, made so cheaply that many streams of them take hardly any CPU."""

import struct

import google_crc32c
from spt3g import core

from bench.load.frames import serialized
from g3stream.frame_format.layout import FRAME_TYPES, HEADER_BYTES

_ID, _SESSION, _NUMBER, _DATA = "sostream_id", "session_id", "frame_num", "data"


class Numbered:
    """Scan frames of a stream, all of the same length. size: of the data in each, bytes."""

    def __init__(self, stream: str, size: int) -> None:
        frame = core.G3Frame(core.G3FrameType.Scan)
        frame[_ID], frame[_SESSION] = stream, 1
        before = _key(_ID, _blob(_ID, stream)) + _key(_SESSION, _blob(_SESSION, 1))
        # Numbers of 32 and of 64 bits have different lengths: all of these have 32 bits.
        name, number = _key(_NUMBER, b""), _blob(_NUMBER, 1)
        self._at = number.rindex(struct.pack("<i", 1))
        self._number = number
        self._head = struct.pack("<BIiI", 1, 1, 4, FRAME_TYPES["Scan"]) + before
        self._name = name[:-8] + struct.pack("<Q", len(number))
        self._crc = _crc(0xFFFFFFFF, before + self._name)
        data = _blob(_DATA, core.G3String("x" * size))
        self._data = _key(_DATA, data)
        self._after = _DATA.encode() + data
        self.length = len(self.frame(1))
        """Size of each frame, bytes."""

    def frame(self, number: int) -> bytes:
        """Make the frame with that number."""
        blob = bytearray(self._number)
        struct.pack_into("<i", blob, self._at, number)
        crc = google_crc32c.extend(google_crc32c.extend(self._crc, bytes(blob)), self._after)
        return b"".join((self._head, self._name, blob, self._data, struct.pack("<I", crc ^ 0xFFFFFFFF)))


def _blob(name: str, value: object) -> bytes:
    """Return a value as spt3g serializes it."""
    frame = core.G3Frame(core.G3FrameType.Scan)
    frame[name] = value
    return serialized(frame)[HEADER_BYTES + 8 + len(name) + 8 : -4]


def _key(name: str, blob: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<Q", len(blob)) + blob


def _crc(crc: int, keys: bytes) -> int:
    """Extend the checksum by the names and blobs of these keys; it doesn't include their lengths."""
    at = 0
    while at < len(keys):
        (length,) = struct.unpack_from("<Q", keys, at)
        crc = google_crc32c.extend(crc, keys[at + 8 : at + 8 + length])
        at += 8 + length
    return crc
