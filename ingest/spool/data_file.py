"""A data file of the spool: consecutive batches, each with its key and a CRC, so that damage is detected.

The file's name contains the key of its first batch, the key after its last one (once the file is complete), and a
marker: 8 random bytes that begin each batch's header. After damage, reading continues at the next valid header with
that marker. As the marker is random, no bytes of a frame can be mistaken for it.
"""

import contextlib
import os
import re
import secrets
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import google_crc32c

_NAME = re.compile(r"(\d{20})(?:-(\d{20}))?\.([0-9a-f]{16})\.bundles")
_HEADER = struct.Struct(">8sQII?3x")  # marker, key, length of the value, its CRC32C, whether its append continues
_CRC = struct.Struct(">I")  # CRC32C of the header
_HEADER_BYTES = _HEADER.size + _CRC.size
_SEARCH_BYTES = 1 << 20
_BUFFERS = 512  # per write; the kernel's limit is 1024
_WRITE_BYTES = 1 << 20  # per write: for more, the kernel looks for larger pages, and may have none


class SpoolFileName(NamedTuple):
    """The values in the name of a data file."""

    first_key: int
    end_key: int | None
    """The key after its last batch; None until the file is complete."""
    marker: bytes

    def __str__(self) -> str:
        end = "" if self.end_key is None else f"-{self.end_key:020d}"
        return f"{self.first_key:020d}{end}.{self.marker.hex()}.bundles"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Parse a file name. Returns None if it isn't the name of a data file."""
        match = _NAME.fullmatch(name)
        return match and cls(int(match[1]), int(match[2]) if match[2] else None, bytes.fromhex(match[3]))

    @classmethod
    def new(cls, first_key: int) -> Self:
        """Name a new file: no end yet, and a new random marker."""
        return cls(first_key, None, secrets.token_bytes(8))


class BatchLocation(NamedTuple):
    """The location of a batch in its file, from its header."""

    key: int
    offset: int
    size_bytes: int
    """Including the header."""
    crc: int
    """CRC32C of the value."""
    append_continues: bool
    """Whether the next batch belongs to the same append. Recovery drops an append that isn't complete."""


class SpoolFileWriter:
    """Writer of a new data file, or of a recycled one that is already open. Raises OSError.

    Writing begins at offset 0. fd: of the recycled file; None to create the file.
    """

    def __init__(self, directory: Path, name: SpoolFileName, fd: int | None = None) -> None:
        if fd is None:
            fd = os.open(directory / str(name), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.fd = fd
        self.size_bytes = 0
        self._marker = name.marker

    def append(self, key: int, values: Iterable[Sequence[bytes]]) -> int:
        """Write batches with the keys from `key` on: all of them, or none if it raises OSError.

        values: for each batch, the pieces of its encoded value. Returns the number of batches.
        """
        offset, count, written_bytes = self.size_bytes, 0, 0
        pieces: list[bytes] = []
        remaining = iter(values)
        value = next(remaining, None)
        try:
            while value is not None:
                following = next(remaining, None)
                length = crc = 0
                for piece in value:
                    length += len(piece)
                    crc = google_crc32c.extend(crc, piece)
                header = _HEADER.pack(self._marker, key + count, length, crc, following is not None)
                pieces += [header + _CRC.pack(google_crc32c.value(header)), *value]
                count += 1
                written_bytes += length
                if following is None or written_bytes >= _WRITE_BYTES or len(pieces) >= _BUFFERS:
                    offset, written_bytes = _write(self.fd, pieces, offset), 0
                    pieces = []
                value = following
        except OSError:
            self.truncate(self.size_bytes)
            raise
        self.size_bytes = offset
        return count

    def truncate(self, size_bytes: int) -> None:
        """Discard what was written beyond `size_bytes`."""
        self.size_bytes = size_bytes
        # If it fails: what is left will be overwritten, and beyond the last batch it does no harm.
        with contextlib.suppress(OSError):
            os.ftruncate(self.fd, size_bytes)


class SpoolFileReader:
    """Sequential reader of a data file, which skips damaged parts. Raises OSError if the file can't be opened."""

    def __init__(self, path: Path, name: SpoolFileName) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._marker = name.marker
        self._position = 0
        self._next_key = name.first_key

    def next_location(self, below_key: int) -> BatchLocation | None:
        """Advance to the next batch. Returns None if there is none (yet) with a key below `below_key`."""
        location = self._read_header(self._position) or self._resync()
        if location is None or location.key >= below_key:
            return None
        self._position, self._next_key = location.offset + location.size_bytes, location.key + 1
        return location

    def value(self, location: BatchLocation) -> bytes | None:
        """Read the batch at that location. Returns None if it can't be read or its CRC is wrong."""
        try:
            value = os.pread(self._fd, location.size_bytes - _HEADER_BYTES, location.offset + _HEADER_BYTES)
        except OSError:  # a bad sector
            return None
        intact = len(value) == location.size_bytes - _HEADER_BYTES and google_crc32c.value(value) == location.crc
        return value if intact else None

    def locations(self) -> Iterator[BatchLocation]:
        """Yield the remaining batches that end within the file."""
        size = os.fstat(self._fd).st_size
        while (location := self.next_location(1 << 64)) is not None:
            if location.offset + location.size_bytes <= size:
                yield location

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _read_header(self, offset: int) -> BatchLocation | None:
        try:
            raw = os.pread(self._fd, _HEADER_BYTES, offset)
        except OSError:  # a bad sector
            return None
        if len(raw) < _HEADER_BYTES:
            return None
        header = raw[: _HEADER.size]
        marker, key, length, crc, append_continues = _HEADER.unpack(header)
        valid = marker == self._marker and _CRC.unpack_from(raw, _HEADER.size)[0] == google_crc32c.value(header)
        if not valid or key < self._next_key:
            return None
        return BatchLocation(key, offset, _HEADER_BYTES + length, crc, append_continues)

    def _resync(self) -> BatchLocation | None:
        """Find the next valid header after a damaged part, by its marker."""
        offset = self._position
        size = os.fstat(self._fd).st_size
        while offset + _HEADER_BYTES <= size:
            try:
                piece = os.pread(self._fd, _SEARCH_BYTES, offset)
            except OSError:  # a bad sector
                piece = bytes(_SEARCH_BYTES)
            found = piece.find(self._marker)
            while found >= 0:
                if location := self._read_header(offset + found):
                    return location
                found = piece.find(self._marker, found + 1)
            offset += max(1, len(piece) - len(self._marker) + 1)
        return None


def _write(fd: int, pieces: list[bytes], offset: int) -> int:
    """Write all the pieces, however few bytes each call writes. Returns the offset after them."""
    while pieces:
        count = os.pwritev(fd, pieces[:_BUFFERS], offset)
        offset += count
        while pieces and count >= len(pieces[0]):
            count -= len(pieces.pop(0))
        if count:
            pieces[0] = pieces[0][count:]
    return offset
