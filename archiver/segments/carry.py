"""The carry: the frames to repeat at the head of the next files, and their places on disk.

core/segmentation.py decides which types are carried, and in which order; this keeps their bytes. A checkpoint has
only their places, so after a restart they are read from the newest file or partial that has them, else from the
topic.
"""

import logging
import os
from collections.abc import Callable, Iterable, Mapping

import google_crc32c

from archiver.archive.location import Location, Within
from archiver.core.checkpoint import Checkpoint, FramePlace
from archiver.core.segmenter import CarriedFrame, Carry, crc_of
from g3stream.frames.layout import frame_type_name

log = logging.getLogger(__name__)


def load_carry(
    places: Mapping[int, FramePlace],
    location: Location,
    candidates: Callable[[str], Iterable[tuple[Within, str]]],
    fetch: Callable[[int], tuple[bytes, ...]],
) -> Carry:
    """Read the carried frames from their places. Frames that can't be found are left out.

    location: the archive's. candidates: returns the files, as directory and name, that may have the bytes of a
    path (a FramePlace's); one that can't be read is logged. fetch: returns a record's value from the topic, by
    its offset; empty if it isn't there. Raises what `fetch` raises.
    """
    carry = {}
    for code, place in places.items():
        value = _from_disk(place, location, candidates(place.path)) or fetch(place.offset)
        if crc_of(value) == place.crc:
            carry[code] = CarriedFrame(value, place)
    return carry


def carry_of(found: Checkpoint, location: Location, fetch: Callable[[int], tuple[bytes, ...]]) -> Carry:
    """Read the carried frames of a checkpoint, as `load_carry` does; those that can't be found are logged."""
    stream, partial = found.state.stream, found.partial

    def candidates(path: str) -> list[tuple[Within, str]]:
        parent, _, name = path.rpartition("/")
        places = [(Within(parent), name)]
        if partial and partial.path == path:
            places.insert(0, (Within(stream, private=True), partial.name))
        return places

    carry = load_carry(found.carry, location, candidates, fetch)
    for code in found.carry.keys() - carry.keys():
        name = frame_type_name(code)
        log.error("%s: the carried frame of type %s is lost: its next files begin without it", stream, name)
    return carry


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
