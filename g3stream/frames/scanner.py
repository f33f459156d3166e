"""Scanner of a file's G3 frames, block by block: their ends, their checksums, a few of their values.

A length is trusted only within the file's size, and no frame is kept in memory.
"""

from collections.abc import Container, Iterator, Mapping
from typing import NamedTuple

import google_crc32c

from g3stream.frames.checksum import CRC_START, JOIN_BYTES
from g3stream.frames.layout import (
    CRC,
    CRC_BYTES,
    HEADER_BYTES,
    LENGTH,
    MAX_NAME_BYTES,
    FrameFormatError,
    TruncatedFrameError,
    name_too_long,
    parse_header,
)


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

    size: the file's size, bytes; a frame can't end beyond it. wanted: names, by their length; a blob of more than 64
    bytes is returned empty.
    """

    def __init__(self, size: int, wanted: Mapping[int, Container[bytes]]) -> None:
        self.frames = 0
        """Number of frames that were whole and had a correct CRC."""
        self.frame_start = 0
        """The offset at which the next frame begins, bytes."""
        self._size = size
        self._wanted = wanted
        self._scanned_bytes = 0
        self._remainder = b""  # the end of a block, too short to be scanned without the next one
        self._byte_order = 1
        self._keys_left = -1  # of this frame, not scanned yet; -1: nor its header
        self._blob_bytes_left = 0  # of this blob, not scanned yet
        self._crc = 0
        self._type_code = 0
        self._blobs: dict[bytes, bytes] = {}

    def scan(self, block: bytes) -> Iterator[ScannedFrame]:
        """Yield the frames that end in the next block; exhaust the iterator.

        Raises FrameFormatError, with the position, at the first invalid byte or wrong CRC.
        """
        if self._remainder:
            block = self._remainder + block
        origin = self._scanned_bytes - len(self._remainder)  # the offset of `block` in the file
        self._scanned_bytes = origin + len(block)
        self._remainder = b""
        end, at = len(block), 0
        while at < end:
            if self._blob_bytes_left:
                piece = block[at : at + self._blob_bytes_left]
                self._crc = google_crc32c.extend(self._crc, piece)
                self._blob_bytes_left -= len(piece)
                at += len(piece)
            elif self._keys_left < 0:
                if end - at < HEADER_BYTES:
                    break
                self._begin_frame(block, at)
                at += HEADER_BYTES
            elif self._keys_left:
                next_at = self._scan_keys(block, at, origin)
                if next_at == at:
                    break
                at = next_at
            else:
                if end - at < CRC_BYTES:
                    break
                if CRC[self._byte_order].unpack_from(block, at)[0] != self._crc ^ CRC_START:
                    raise self._at(FrameFormatError("its CRC is wrong"))
                at += CRC_BYTES
                self.frames += 1
                self.frame_start = origin + at
                self._keys_left = -1
                yield ScannedFrame(self._type_code, self._blobs, self.frame_start)
        self._remainder = block[at:]

    def finish(self) -> None:
        """End the scan. Raises TruncatedFrameError if the file ends in the middle of a frame."""
        if self.frame_start < self._size:
            raise self._at(TruncatedFrameError("it is cut off"))

    def _begin_frame(self, block: bytes, at: int) -> None:
        try:
            self._byte_order, self._keys_left, self._type_code = parse_header(block, at)
        except FrameFormatError as error:
            raise self._at(error) from None
        self._crc = CRC_START
        self._blobs = {}

    def _scan_keys(self, block: bytes, at: int, origin: int) -> int:
        """Scan the keys from `at` to the end of the block, or to one whose blob continues in the next block.

        Returns the position where it stopped.
        """
        length_at = LENGTH[self._byte_order].unpack_from
        end, last = len(block), self._size - CRC_BYTES - origin
        parts: list[bytes] = []  # see JOIN_BYTES
        while self._keys_left:
            if end - at < 8:
                break
            (name_bytes,) = length_at(block, at)
            if name_bytes > MAX_NAME_BYTES:
                raise self._at(name_too_long(name_bytes))
            blob_at = at + 16 + name_bytes
            if blob_at > end:
                break
            (blob_bytes,) = length_at(block, blob_at - 8)
            if blob_at + blob_bytes > last:
                raise self._at(TruncatedFrameError(f"it would end beyond byte {origin + blob_at + blob_bytes}"))
            name = block[at + 8 : blob_at - 8]
            if name_bytes in self._wanted and name in self._wanted[name_bytes]:
                short = blob_bytes <= _MAX_WANTED_BLOB_BYTES
                if short and blob_at + blob_bytes > end:
                    break
                self._blobs[name] = block[blob_at : blob_at + blob_bytes] if short else b""
            blob = block[blob_at : blob_at + blob_bytes]
            parts.append(name)
            if len(blob) <= JOIN_BYTES:
                parts.append(blob)
            else:
                self._crc = google_crc32c.extend(google_crc32c.extend(self._crc, b"".join(parts)), blob)
                parts.clear()
            at = blob_at + len(blob)
            self._keys_left -= 1
            self._blob_bytes_left = blob_bytes - len(blob)
            if self._blob_bytes_left:
                break
        self._crc = google_crc32c.extend(self._crc, b"".join(parts))
        return at

    def _at(self, error: FrameFormatError) -> FrameFormatError:
        """Return the same error with the frame's number and position."""
        return type(error)(f"frame {self.frames + 1}, at byte {self.frame_start}: {error}")


_MAX_WANTED_BLOB_BYTES = 64
"""The longest blob that is returned, bytes: no scalar is longer."""
