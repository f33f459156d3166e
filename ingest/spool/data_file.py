"""The format of a data file: consecutive batches, each with its key and a CRC, so that damage is detected.

The file's name contains the key of its first batch, the key after its last one (once the file is complete), and a
marker: 8 random bytes that begin each batch's header. After damage, reading continues at the next valid header with
that marker. As the marker is random, no bytes of a frame can be mistaken for it.
"""

import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import google_crc32c

_WRITE_PIECES = 512
"""The most pieces to write at once; the kernel's limit is 1024."""

_NAME = re.compile(r"(\d{20})(?:-(\d{20}))?\.([0-9a-f]{16})\.bundles")
_HEADER = struct.Struct(">8sQII?3x")  # marker, key, length of the value, its CRC32C, whether its append continues
_CRC = struct.Struct(">I")  # CRC32C of the header
_HEADER_BYTES = _HEADER.size + _CRC.size
_SEARCH_BYTES = 1 << 20


def file_name(first_key: int, end_key: int | None, marker: bytes) -> str:
    """Return the name of a data file. end_key: None until it is complete."""
    end = "" if end_key is None else f"-{end_key:020d}"
    return f"{first_key:020d}{end}.{marker.hex()}.bundles"


def add_end_to_name(path: Path, first_key: int, end_key: int, marker: bytes) -> Path:
    """Rename a file that is complete. Returns its path; the old one if that fails.

    The end is needed in the name only if a later file is missing.
    """
    try:
        return path.rename(path.with_name(file_name(first_key, end_key, marker)))
    except OSError:
        return path


def parse_file_name(name: str) -> tuple[int, int | None, bytes] | None:
    """Return the arguments of `file_name`; None if it isn't the name of a data file."""
    match = _NAME.fullmatch(name)
    return match and (int(match[1]), int(match[2]) if match[2] else None, bytes.fromhex(match[3]))


def encode_header(marker: bytes, key: int, pieces: Sequence[bytes], append_continues: bool) -> bytes:
    """Encode the header of a batch. pieces: its value."""
    crc = 0
    for piece in pieces:
        crc = google_crc32c.extend(crc, piece)
    header = _HEADER.pack(marker, key, sum(map(len, pieces)), crc, append_continues)
    return header + _CRC.pack(google_crc32c.value(header))


def write_pieces(fd: int, pieces: list[bytes], offset: int) -> int:
    """Write all the pieces, however few bytes each call writes. Returns the offset after them. Raises OSError."""
    while pieces:
        count = os.pwritev(fd, pieces[:_WRITE_PIECES], offset)
        offset += count
        while pieces and count >= len(pieces[0]):
            count -= len(pieces.pop(0))
        if count:
            pieces[0] = pieces[0][count:]
    return offset


class BatchLocation(NamedTuple):
    """The location of a batch in its file, from its header."""

    key: int
    offset: int
    """Of the value."""
    end_offset: int
    crc: int
    """CRC32C of the value."""
    append_continues: bool
    """Whether the next batch belongs to the same append. Recovery drops an append that isn't complete."""


class BatchScanner:
    """Finds the batches of a data file, and skips damaged parts. Raises OSError if the file can't be opened."""

    def __init__(self, path: Path, marker: bytes) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._marker = marker
        self._offset = self._next_key = 0  # of the next header, and the lowest key that it may have

    def find(self, key: int, end_key: int) -> BatchLocation | None:
        """Find the first batch from `key` on. Returns None if the file has none below `end_key`."""
        if key < self._next_key:
            self._offset = self._next_key = 0
        while (location := self._read_header(self._offset) or self._resync()) and location.key < key:
            self._offset, self._next_key = location.end_offset, location.key + 1
        return location if location and location.key < end_key else None

    def value(self, location: BatchLocation) -> bytes | None:
        """Read the batch that was found last. Returns None if it can't be read or its CRC is wrong."""
        self._offset, self._next_key = location.end_offset, location.key + 1  # so that its header isn't read again
        length = location.end_offset - location.offset
        value = self._read(length, location.offset)
        return value if len(value) == length and google_crc32c.value(value) == location.crc else None

    def locations(self) -> Iterator[BatchLocation]:
        """Yield the batches that end within the file."""
        size = os.fstat(self._fd).st_size
        key = 0
        while location := self.find(key, 1 << 64):
            key = location.key + 1
            if location.end_offset <= size:
                yield location

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _read(self, length: int, offset: int) -> bytes:
        """Read as many bytes as there are; none of a bad sector."""
        try:
            return os.pread(self._fd, length, offset)
        except OSError:
            return b""

    def _read_header(self, offset: int) -> BatchLocation | None:
        raw = self._read(_HEADER_BYTES, offset)
        if len(raw) < _HEADER_BYTES:
            return None
        marker, key, length, crc, append_continues = _HEADER.unpack_from(raw)
        header, header_crc = raw[: _HEADER.size], raw[_HEADER.size :]
        if marker != self._marker or key < self._next_key or header_crc != _CRC.pack(google_crc32c.value(header)):
            return None
        value_offset = offset + _HEADER_BYTES
        return BatchLocation(key, value_offset, value_offset + length, crc, append_continues)

    def _resync(self) -> BatchLocation | None:
        """Find the next valid header after a damaged part, by its marker."""
        offset = self._offset
        size = os.fstat(self._fd).st_size
        while offset + _HEADER_BYTES <= size:
            piece = self._read(_SEARCH_BYTES, offset) or bytes(_SEARCH_BYTES)
            for marker in re.finditer(re.escape(self._marker), piece):
                if location := self._read_header(offset + marker.start()):
                    return location
            offset += max(1, len(piece) - len(self._marker) + 1)
        return None
