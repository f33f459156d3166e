"""Reader of G3 frames: their ends, their checksums, which are CRC32C as spt3g computes it, a few of their values.

Of one frame, or of a file's frames, block by block: there a length is trusted only within the file's size, and no
frame is kept in memory.
"""

from collections.abc import Container, Iterator
from typing import NamedTuple

import google_crc32c

from g3stream.frame_format.layout import (
    CRC,
    CRC_BYTES,
    HEADER_BYTES,
    FrameFormatError,
    TruncatedFrameError,
    parse_header,
    parse_keys,
)

_CRC_START = 0xFFFFFFFF
"""The start value, and the XOR at the end, that turn google_crc32c's CRC into G3's. The usual CRC32C starts from all
ones and is inverted at the end; G3's starts from 0 and is not inverted."""
_JOIN_BYTES = 1 << 16
"""Names and blobs up to this size are joined before the CRC is computed: each call costs as much as 8 kB of data."""
_COPY_BYTES = 1 << 18
"""google_crc32c accepts only bytes: a copy of this size stays in the processor's cache."""


class FrameReader:
    """Reader of one frame's keys, in one piece or several.

    data, at: a piece with the whole header, and where it begins. wanted: names; a blob of more than 64 kB is
    returned empty. Raises FrameFormatError.
    """

    __slots__ = ("_blob_bytes_left", "_crc", "_keys_left", "_order", "_wanted", "blobs", "code")

    def __init__(self, data: bytes | memoryview, at: int, wanted: Container[bytes]) -> None:
        self._order, self._keys_left, self.code = parse_header(data, at)
        self.blobs: dict[bytes, bytes] = {}
        """The blobs of the wanted keys that were read, by name."""
        self._wanted = wanted
        self._blob_bytes_left = 0  # of the last key
        self._crc = _CRC_START

    def read(self, data: bytes | memoryview, at: int, offset: int, size: int) -> int:
        """Read keys from `at` on. Returns the position after them, or where more bytes are needed.

        offset: of `data` in the file. size: the file's size; a frame can't end beyond it. Raises FrameFormatError.
        """
        end, last = len(data), size - CRC_BYTES - offset
        if self._blob_bytes_left:
            blob_at, at = at, min(at + self._blob_bytes_left, end)
            self._crc = _extended(self._crc, data, blob_at, at)
            self._blob_bytes_left -= at - blob_at
        parts: list[bytes | memoryview] = []  # see _JOIN_BYTES
        is_view, wanted, keys_left = isinstance(data, memoryview), self._wanted, self._keys_left
        for blob_at, blob_end in parse_keys(data, at, end, self._order, keys_left):
            if blob_end > last:
                raise TruncatedFrameError(f"it would end beyond byte {offset + blob_end}")
            name = data[at + 8 : blob_at - 8]
            if is_view:
                name = bytes(name)  # a view of a bytearray has no hash
            short = blob_end - blob_at <= _JOIN_BYTES
            blob = data[blob_at:blob_end] if short else b""
            if name in wanted:
                if short and blob_end > end:
                    break
                self.blobs[bytes(name)] = bytes(blob)
            parts.append(name)
            if short:
                parts.append(blob)
            else:
                crc = google_crc32c.extend(self._crc, b"".join(parts))
                self._crc = _extended(crc, data, blob_at, min(blob_end, end))
                parts.clear()
            keys_left -= 1
            at = blob_end
        self._crc = google_crc32c.extend(self._crc, b"".join(parts))
        self._keys_left = keys_left
        if at > end:
            self._blob_bytes_left, at = at - end, end
        return at

    def ends_at(self, data: bytes | memoryview, at: int) -> bool:
        """Whether all keys were read and their CRC is at `at`. Raises FrameFormatError if it is another one."""
        if self._keys_left or self._blob_bytes_left or len(data) - at < CRC_BYTES:
            return False
        if CRC[self._order].unpack_from(data, at)[0] != self._crc ^ _CRC_START:
            raise FrameFormatError("its CRC is wrong")
        return True


def read_frame(frame: bytes | memoryview, wanted: Container[bytes]) -> FrameReader | None:
    """Read a whole frame. Returns None if its checksum is wrong. wanted: as for FrameReader."""
    if len(frame) < HEADER_BYTES + CRC_BYTES:
        return None
    try:
        reader = FrameReader(frame, 0, wanted)
        at = reader.read(frame, HEADER_BYTES, 0, len(frame))
        return reader if reader.ends_at(frame, at) and at + CRC_BYTES == len(frame) else None
    except FrameFormatError:
        return None


def _extended(crc: int, data: bytes | memoryview, at: int, end: int) -> int:
    for piece_at in range(at, end, _COPY_BYTES):
        crc = google_crc32c.extend(crc, bytes(data[piece_at : min(piece_at + _COPY_BYTES, end)]))
    return crc


class ScannedFrame(NamedTuple):
    """A whole frame with a correct CRC."""

    code: int
    """The type code."""
    blobs: dict[bytes, bytes]
    """The blobs of the wanted keys, by name."""
    end: int
    """The offset in the file at which the frame ends, bytes."""


class FrameScanner:
    """Scanner of one file's blocks, in order.

    size: the file's size, bytes; a frame can't end beyond it. wanted: as for FrameReader.
    """

    def __init__(self, size: int, wanted: Container[bytes] = ()) -> None:
        self.frames = 0
        """Number of frames that were whole and had a correct CRC."""
        self.frame_start = 0
        """The offset at which the next frame begins, bytes."""
        self._size = size
        self._wanted = wanted
        self._scanned_bytes = 0
        self._remainder = b""  # the end of a block, too short to be scanned without the next one
        self._reader: FrameReader | None = None  # of this frame, once its header was scanned

    def scan(self, block: bytes) -> Iterator[ScannedFrame]:
        """Yield the frames that end in the next block; exhaust the iterator.

        Raises FrameFormatError, with the position, at the first invalid byte or wrong CRC.
        """
        if self._remainder:
            block = self._remainder + block
        offset = self._scanned_bytes - len(self._remainder)  # of `block` in the file
        self._scanned_bytes = offset + len(block)
        self._remainder = b""
        end, at = len(block), 0
        while at < end:
            try:
                if self._reader is None:
                    if end - at < HEADER_BYTES:
                        break
                    self._reader = FrameReader(block, at, self._wanted)
                    at += HEADER_BYTES
                at = self._reader.read(block, at, offset, self._size)
                if not self._reader.ends_at(block, at):
                    break
            except FrameFormatError as error:
                raise self._at(error) from None
            at += CRC_BYTES
            self.frames += 1
            self.frame_start = offset + at
            frame, self._reader = ScannedFrame(self._reader.code, self._reader.blobs, self.frame_start), None
            yield frame
        self._remainder = block[at:]

    def finish(self) -> None:
        """End the scan. Raises TruncatedFrameError if the file ends in the middle of a frame."""
        if self.frame_start < self._size:
            raise self._at(TruncatedFrameError("it is cut off"))

    def _at(self, error: FrameFormatError) -> FrameFormatError:
        """Return the same error with the frame's number and position."""
        return type(error)(f"frame {self.frames + 1}, at byte {self.frame_start}: {error}")
