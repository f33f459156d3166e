"""Scan a file for G3 frames, block by block: where each ends, whether its CRC is right, a few of its values.

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
    """A whole frame with a right CRC."""

    code: int
    """Its type code."""
    blobs: dict[bytes, bytes]
    """Those that are wanted, by name."""
    end: int
    """The offset in the file at which it ends, bytes."""


class FrameScanner:
    """Scans the blocks of one file, in order.

    size: of the file, bytes; a frame that would end beyond it is no frame. wanted: names, by their length; of a blob
    of more than 64 bytes nothing is returned.
    """

    def __init__(self, size: int, wanted: Mapping[int, Container[bytes]]) -> None:
        self.frames = 0
        """How many were whole and had a right CRC."""
        self.frame_start = 0
        """The offset at which the next one begins, bytes."""
        self._size = size
        self._wanted = wanted
        self._scanned_bytes = 0  # bytes
        self._remainder = b""  # of a block: less than what must be seen at once
        self._byte_order = 1
        self._keys_left = -1  # still to come of this frame; -1: its header is
        self._blob_bytes_left = 0  # bytes still to come
        self._crc = 0
        self._type_code = 0
        self._blobs: dict[bytes, bytes] = {}

    def scan(self, block: bytes) -> Iterator[ScannedFrame]:
        """The frames that end in the next block. Take them all. Raises FrameFormatError, which says where, at the
        first byte that makes no sense, or frame whose CRC is wrong."""
        if self._remainder:
            block = self._remainder + block
        origin = self._scanned_bytes - len(self._remainder)  # of `block` in all that passes by
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
        """End of the file. Raises TruncatedFrameError if it ends in the middle of a frame."""
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
        """Read the keys from `at` to the end of the block, or up to one whose blob continues in the next block.

        Returns where it stopped.
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
        """The same error, which says where."""
        return type(error)(f"frame {self.frames + 1}, at byte {self.frame_start}: {error}")


_MAX_WANTED_BLOB_BYTES = 64
"""The longest blob whose bytes are given, bytes: no scalar is longer."""
