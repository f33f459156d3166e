"""A file of the spool: bundles one after the other, each with its key and its CRC, so that damage is found.

The file's name says the key of its first bundle, the key after its last one (once it is complete), and a mark:
random bytes that begin each bundle's header. After damage, reading goes on at the next place that has the mark, and
what a frame contains can't be mistaken for it.
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
_HEADER = struct.Struct(">8sQII?3x")  # mark, key, length of the value, its CRC32C, whether its append goes on
_CRC = struct.Struct(">I")  # of that
_HEADER_BYTES = _HEADER.size + _CRC.size
_SEARCH_BYTES = 1 << 20
_BUFFERS = 512  # for one write; the kernel takes 1024
_WRITE_BYTES = 1 << 20  # at a time: for more, the kernel looks for larger pages, which it may have none of


class SpoolFileName(NamedTuple):
    """What a file's name says. end_key: the key after its last bundle; None while that isn't known."""

    first_key: int
    end_key: int | None
    marker: bytes

    def __str__(self) -> str:
        end = "" if self.end_key is None else f"-{self.end_key:020d}"
        return f"{self.first_key:020d}{end}.{self.marker.hex()}.bundles"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """None if it isn't the name of a file of the spool."""
        match = _NAME.fullmatch(name)
        return match and cls(int(match[1]), int(match[2]) if match[2] else None, bytes.fromhex(match[3]))

    @classmethod
    def new(cls, first_key: int) -> Self:
        """For a file that is yet to be written."""
        return cls(first_key, None, secrets.token_bytes(8))


class BatchLocation(NamedTuple):
    """Where a bundle lies in its file. size_bytes: with its header. append_continues: the append that it is from goes
    on after it."""

    key: int
    offset: int
    size_bytes: int
    crc: int
    append_continues: bool


class SpoolFileWriter:
    """Makes a file, or writes over one that is open, from its beginning. Raises OSError."""

    def __init__(self, directory: Path, name: SpoolFileName, fd: int | None = None) -> None:
        if fd is None:
            fd = os.open(directory / str(name), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.fd = fd
        self.size_bytes = 0
        self._marker = name.marker

    def append(self, key: int, values: Iterable[Sequence[bytes]]) -> int:
        """Write these, each in pieces, with the keys from `key` on: all of them, or none if it raises OSError.

        Gives how many.
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
        """Take back what was written beyond `size_bytes`."""
        self.size_bytes = size_bytes
        with contextlib.suppress(
            OSError
        ):  # what is left will be written over; beyond the last bundle it does no harm
            os.ftruncate(self.fd, size_bytes)


class SpoolFileReader:
    """Reads a file's bundles in order, passing over what is damaged. Raises OSError if it can't be opened."""

    def __init__(self, path: Path, name: SpoolFileName) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._marker = name.marker
        self._position = 0
        self._next_key = name.first_key

    def next_location(self, below_key: int) -> BatchLocation | None:
        """The next bundle's place; None if there is none (yet) with a key below that."""
        location = self._read_header(self._position) or self._resync()
        if location is None or location.key >= below_key:
            return None
        self._position, self._next_key = location.offset + location.size_bytes, location.key + 1
        return location

    def value(self, location: BatchLocation) -> bytes | None:
        """The bundle there; None if its bytes aren't those that were written."""
        try:
            value = os.pread(self._fd, location.size_bytes - _HEADER_BYTES, location.offset + _HEADER_BYTES)
        except OSError:  # a bad sector
            return None
        whole = len(value) == location.size_bytes - _HEADER_BYTES and google_crc32c.value(value) == location.crc
        return value if whole else None

    def locations(self) -> Iterator[BatchLocation]:
        """The places of all that are left and lie wholly in the file."""
        size = os.fstat(self._fd).st_size
        while (location := self.next_location(1 << 64)) is not None:
            if location.offset + location.size_bytes <= size:
                yield location

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def _read_header(self, offset: int) -> BatchLocation | None:
        try:
            raw = os.pread(self._fd, _HEADER_BYTES, offset)
        except OSError:  # a bad sector
            return None
        if len(raw) < _HEADER_BYTES:
            return None
        header = raw[: _HEADER.size]
        marker, key, length, crc, more = _HEADER.unpack(header)
        sound = marker == self._marker and _CRC.unpack_from(raw, _HEADER.size)[0] == google_crc32c.value(header)
        return (
            BatchLocation(key, offset, _HEADER_BYTES + length, crc, more) if sound and key >= self._next_key else None
        )

    def _resync(self) -> BatchLocation | None:
        """The next header, somewhere behind what can't be read."""
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
    """All of them, however little each call takes; gives the place behind them."""
    while pieces:
        count = os.pwritev(fd, pieces[:_BUFFERS], offset)
        offset += count
        while pieces and count >= len(pieces[0]):
            count -= len(pieces.pop(0))
        if count:
            pieces[0] = pieces[0][count:]
    return offset
