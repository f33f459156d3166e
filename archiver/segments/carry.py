"""The carry: the frames to repeat at the head of the next files, and their places on disk.

core/segmentation.py decides which types are carried, and in which order; this keeps their bytes. A checkpoint has
only their places, so after a restart they are read from the newest file or partial that has them, else from the
topic.
"""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import google_crc32c
from msgspec.structs import replace

from archiver.archive.location import Location, Within
from archiver.core.checkpoint import Checkpoint, FramePlace
from archiver.core.sequence import Record
from g3stream.frames.layout import frame_type_name

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Carried:
    value: tuple[bytes, ...]
    location: FramePlace


class Carry:
    """The carried frames of a stream, by their type codes."""

    def __init__(self) -> None:
        self._frames: dict[int, _Carried] = {}

    @classmethod
    def load(
        cls,
        places: Mapping[int, FramePlace],
        location: Location,
        candidates: Callable[[str], Iterable[tuple[Within, str]]],
        fetch: Callable[[int], tuple[bytes, ...]],
    ) -> "Carry":
        """Read the frames from their places. Frames that can't be found are left out.

        location: the archive's. candidates: returns the files, as directory and name, that may have the bytes of a
        path (a FramePlace's); one that can't be read is logged. fetch: returns a record's value from the topic, by
        its offset; empty if it isn't there. Raises what `fetch` raises.
        """
        carry = cls()
        for code, place in places.items():
            value = _from_disk(place, location, candidates(place.path)) or fetch(place.offset)
            if _crc(value) == place.crc:
                carry._frames[code] = _Carried(value, place)
        return carry

    @classmethod
    def from_checkpoint(
        cls, found: Checkpoint, location: Location, fetch: Callable[[int], tuple[bytes, ...]]
    ) -> "Carry":
        """Read the frames of a checkpoint, as `load` does; those that can't be found are logged."""
        stream, partial = found.state.stream, found.partial

        def candidates(path: str) -> list[tuple[Within, str]]:
            parent, _, name = path.rpartition("/")
            places = [(Within(parent), name)]
            if partial and partial.path == path:
                places.insert(0, (Within(stream, private=True), partial.name))
            return places

        carry = cls.load(found.carry, location, candidates, fetch)
        for code in found.carry.keys() - carry.places(found.carry).keys():
            name = frame_type_name(code)
            log.error("%s: the carried frame of type %s is lost: its next files begin without it", stream, name)
        return carry

    def store(self, code: int, record: Record, path: str, at: int) -> None:
        """Carry this frame, the latest of its type; it is being written to position `at` of the file `path`."""
        place = FramePlace(path, at, record.bytes, _crc(record.value), record.offset)
        self._frames[code] = _Carried(record.value, place)

    def repeat(self, code: int, path: str, at: int) -> tuple[bytes, ...]:
        """The bytes of a frame, which the caller repeats at position `at` of the file `path`."""
        carried = self._frames[code]
        self._frames[code] = _Carried(carried.value, replace(carried.location, path=path, at=at))
        return carried.value

    def update_places(self, places: Mapping[int, FramePlace]) -> None:
        """Set the places of the frames."""
        for code, place in places.items():
            if code in self._frames:
                self._frames[code] = _Carried(self._frames[code].value, place)

    def places(self, codes: Iterable[int]) -> dict[int, FramePlace]:
        """The places of those of these types that are carried."""
        return {code: self._frames[code].location for code in codes if code in self._frames}


def _from_disk(place: FramePlace, location: Location, candidates: Iterable[tuple[Within, str]]) -> tuple[bytes, ...]:
    for parent, name in candidates:
        try:
            data = _read(place, location, parent, name)
        except FileNotFoundError:
            continue
        except OSError as error:
            shown = location.shown(parent, name)
            log.warning("%s: can't read the frame to repeat in the next files: %s", shown, error)
            continue
        if data and google_crc32c.value(data) == place.crc:
            return (data,)
    return ()


def _read(place: FramePlace, location: Location, parent: Within, name: str) -> bytes:
    with location.open(parent) as directory:
        if not directory.is_file(name):
            return b""
        fd = directory.open(name, os.O_RDONLY)
        try:
            if place.at + place.length > os.fstat(fd).st_size:  # the committed length may be anything
                return b""
            return os.pread(fd, place.length, place.at)
        finally:
            os.close(fd)


def _crc(value: Iterable[bytes]) -> int:
    crc = 0
    for part in value:
        crc = google_crc32c.extend(crc, part)
    return crc
