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
    """What a file's name says. end: the key after its last bundle; None while that isn't known."""

    first: int
    end: int | None
    mark: bytes

    def __str__(self) -> str:
        end = "" if self.end is None else f"-{self.end:020d}"
        return f"{self.first:020d}{end}.{self.mark.hex()}.bundles"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """None if it isn't the name of a file of the spool."""
        match = _NAME.fullmatch(name)
        return match and cls(int(match[1]), int(match[2]) if match[2] else None, bytes.fromhex(match[3]))

    @classmethod
    def new(cls, first: int) -> Self:
        """For a file that is yet to be written."""
        return cls(first, None, secrets.token_bytes(8))


class Place(NamedTuple):
    """Where a bundle lies in its file. bytes: with its header. more: the append that it is from goes on after it."""

    key: int
    at: int
    bytes: int
    crc: int
    more: bool


class SpoolFileWriter:
    """Makes a file, or writes over one that is open, from its beginning. Raises OSError."""

    def __init__(self, directory: Path, name: SpoolFileName, fd: int | None = None) -> None:
        if fd is None:
            fd = os.open(directory / str(name), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.fd = fd
        self.size = 0
        self._mark = name.mark

    def append(self, key: int, values: Iterable[Sequence[bytes]]) -> int:
        """Write these, each in pieces, with the keys from `key` on: all of them, or none if it raises OSError.

        Gives how many.
        """
        at, count, size = self.size, 0, 0
        pieces: list[bytes] = []
        coming = iter(values)
        value = next(coming, None)
        try:
            while value is not None:
                following = next(coming, None)
                length = crc = 0
                for piece in value:
                    length += len(piece)
                    crc = google_crc32c.extend(crc, piece)
                header = _HEADER.pack(self._mark, key + count, length, crc, following is not None)
                pieces += [header + _CRC.pack(google_crc32c.value(header)), *value]
                count += 1
                size += length
                if following is None or size >= _WRITE_BYTES or len(pieces) >= _BUFFERS:
                    at, size = _write(self.fd, pieces, at), 0
                    pieces = []
                value = following
        except OSError:
            self.cut(self.size)
            raise
        self.size = at
        return count

    def cut(self, size: int) -> None:
        """Take back what was written beyond `size`."""
        self.size = size
        with contextlib.suppress(
            OSError
        ):  # what is left will be written over; beyond the last bundle it does no harm
            os.ftruncate(self.fd, size)


class SpoolFileReader:
    """Reads a file's bundles in order, passing over what is damaged. Raises OSError if it can't be opened."""

    def __init__(self, path: Path, name: SpoolFileName) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._mark = name.mark
        self._at = 0
        self._least = name.first

    def find(self, below: int) -> Place | None:
        """The next bundle's place; None if there is none (yet) with a key below that."""
        place = self._header(self._at) or self._search()
        if place is None or place.key >= below:
            return None
        self._at, self._least = place.at + place.bytes, place.key + 1
        return place

    def value(self, place: Place) -> bytes | None:
        """The bundle there; None if its bytes aren't those that were written."""
        try:
            value = os.pread(self._fd, place.bytes - _HEADER_BYTES, place.at + _HEADER_BYTES)
        except OSError:  # a bad sector
            return None
        whole = len(value) == place.bytes - _HEADER_BYTES and google_crc32c.value(value) == place.crc
        return value if whole else None

    def places(self) -> Iterator[Place]:
        """The places of all that are left and lie wholly in the file."""
        size = os.fstat(self._fd).st_size
        while (place := self.find(1 << 64)) is not None:
            if place.at + place.bytes <= size:
                yield place

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def _header(self, at: int) -> Place | None:
        try:
            raw = os.pread(self._fd, _HEADER_BYTES, at)
        except OSError:  # a bad sector
            return None
        if len(raw) < _HEADER_BYTES:
            return None
        header = raw[: _HEADER.size]
        mark, key, length, crc, more = _HEADER.unpack(header)
        sound = mark == self._mark and _CRC.unpack_from(raw, _HEADER.size)[0] == google_crc32c.value(header)
        return Place(key, at, _HEADER_BYTES + length, crc, more) if sound and key >= self._least else None

    def _search(self) -> Place | None:
        """The next header, somewhere behind what can't be read."""
        at = self._at
        size = os.fstat(self._fd).st_size
        while at + _HEADER_BYTES <= size:
            try:
                piece = os.pread(self._fd, _SEARCH_BYTES, at)
            except OSError:  # a bad sector
                piece = bytes(_SEARCH_BYTES)
            found = piece.find(self._mark)
            while found >= 0:
                if place := self._header(at + found):
                    return place
                found = piece.find(self._mark, found + 1)
            at += max(1, len(piece) - len(self._mark) + 1)
        return None


def _write(fd: int, pieces: list[bytes], at: int) -> int:
    """All of them, however little each call takes; gives the place behind them."""
    while pieces:
        count = os.pwritev(fd, pieces[:_BUFFERS], at)
        at += count
        while pieces and count >= len(pieces[0]):
            count -= len(pieces.pop(0))
        if count:
            pieces[0] = pieces[0][count:]
    return at
