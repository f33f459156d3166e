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
    CutError,
    WireError,
    name_too_long,
    parse_header,
)


class Passed(NamedTuple):
    """A whole frame with a right CRC."""

    code: int
    """Its type code."""
    blobs: dict[bytes, bytes]
    """Those that are wanted, by name."""
    end: int
    """The offset in the file at which it ends, bytes."""


class Walk:
    """Scans the blocks of one file, in order.

    size: of the file, bytes; a frame that would end beyond it is no frame. wanted: names, by their length; of a blob
    of more than 64 bytes nothing is returned.
    """

    def __init__(self, size: int, wanted: Mapping[int, Container[bytes]]) -> None:
        self.frames = 0
        """How many were whole and had a right CRC."""
        self.begin = 0
        """The offset at which the next one begins, bytes."""
        self._size = size
        self._wanted = wanted
        self._passed = 0  # bytes
        self._rest = b""  # of a block: less than what must be seen at once
        self._order = 1
        self._keys = -1  # still to come of this frame; -1: its header is
        self._blob_left = 0  # bytes still to come
        self._crc = 0
        self._code = 0
        self._found: dict[bytes, bytes] = {}

    def frames_of(self, block: bytes) -> Iterator[Passed]:
        """The frames that end in the next block. Take them all. Raises WireError, which says where, at the first byte
        that makes no sense, or frame whose CRC is wrong."""
        if self._rest:
            block = self._rest + block
        origin = self._passed - len(self._rest)  # of `block` in all that passes by
        self._passed = origin + len(block)
        self._rest = b""
        end, at = len(block), 0
        while at < end:
            if self._blob_left:
                piece = block[at : at + self._blob_left]
                self._crc = google_crc32c.extend(self._crc, piece)
                self._blob_left -= len(piece)
                at += len(piece)
            elif self._keys < 0:
                if end - at < HEADER_BYTES:
                    break
                self._begin_frame(block, at)
                at += HEADER_BYTES
            elif self._keys:
                after = self._keys_from(block, at, origin)
                if after == at:
                    break
                at = after
            else:
                if end - at < CRC_BYTES:
                    break
                if CRC[self._order].unpack_from(block, at)[0] != self._crc ^ CRC_START:
                    raise self._at(WireError("its CRC is wrong"))
                at += CRC_BYTES
                self.frames += 1
                self.begin = origin + at
                self._keys = -1
                yield Passed(self._code, self._found, self.begin)
        self._rest = block[at:]

    def finish(self) -> None:
        """End of the file. Raises CutError if it ends in the middle of a frame."""
        if self.begin < self._size:
            raise self._at(CutError("it is cut off"))

    def _begin_frame(self, block: bytes, at: int) -> None:
        try:
            self._order, self._keys, self._code = parse_header(block, at)
        except WireError as error:
            raise self._at(error) from None
        self._crc = CRC_START
        self._found = {}

    def _keys_from(self, block: bytes, at: int, origin: int) -> int:
        """Read the keys from `at` to the end of the block, or up to one whose blob continues in the next block.

        Returns where it stopped.
        """
        length_at = LENGTH[self._order].unpack_from
        end, last = len(block), self._size - CRC_BYTES - origin
        parts: list[bytes] = []  # see JOIN_BYTES
        while self._keys:
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
                raise self._at(CutError(f"it would end beyond byte {origin + blob_at + blob_bytes}"))
            name = block[at + 8 : blob_at - 8]
            if name_bytes in self._wanted and name in self._wanted[name_bytes]:
                short = blob_bytes <= _LONGEST_WANTED
                if short and blob_at + blob_bytes > end:
                    break
                self._found[name] = block[blob_at : blob_at + blob_bytes] if short else b""
            blob = block[blob_at : blob_at + blob_bytes]
            parts.append(name)
            if len(blob) <= JOIN_BYTES:
                parts.append(blob)
            else:
                self._crc = google_crc32c.extend(google_crc32c.extend(self._crc, b"".join(parts)), blob)
                parts.clear()
            at = blob_at + len(blob)
            self._keys -= 1
            self._blob_left = blob_bytes - len(blob)
            if self._blob_left:
                break
        self._crc = google_crc32c.extend(self._crc, b"".join(parts))
        return at

    def _at(self, error: WireError) -> WireError:
        """The same error, which says where."""
        return type(error)(f"frame {self.frames + 1}, at byte {self.begin}: {error}")


_LONGEST_WANTED = 64
"""The longest blob whose bytes are given, bytes: no scalar is longer."""
