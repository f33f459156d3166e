"""The carry: the frames to repeat at the head of the next files, and their places on disk.

core/segmentation.py decides which types are carried, and in which order; this keeps their bytes. A checkpoint has
only their places, so after a restart they are read from the newest file or partial that has them, else from the
topic.
"""

import logging
from collections.abc import Callable, Iterable, Mapping

from archiver.archive.location import Location, Within
from archiver.core.checkpoint import Checkpoint, FramePlace, Partial
from archiver.core.segmenter import CarriedFrame, Carry, crc_of
from g3stream.frame_format.layout import frame_type_name

log = logging.getLogger(__name__)


def load_carry(
    places: Mapping[int, FramePlace],
    location: Location,
    fetch: Callable[[int], tuple[bytes, ...]],
    stream: str = "",
    partial: Partial | None = None,
) -> Carry:
    """Read the carried frames from their places. Frames that can't be found are left out.

    location: the archive's. fetch: returns a record's value from the topic, by its offset; empty if it isn't there.
    partial: the open file of the stream, which may have some of them. Raises what `fetch` raises.
    """
    carry = {}
    for code, place in places.items():
        parent, _, name = place.path.rpartition("/")
        files = [(Within(parent), name)]
        if partial and partial.path == place.path:
            files.insert(0, (Within(stream, private=True), partial.name))
        value = _from_disk(place, location, files) or fetch(place.offset)
        if crc_of(value) == place.crc:
            carry[code] = CarriedFrame(value, place)
    return carry


def carry_of(found: Checkpoint, location: Location, fetch: Callable[[int], tuple[bytes, ...]]) -> Carry:
    """Read the carried frames of a checkpoint, as `load_carry` does; those that can't be found are logged."""
    stream = found.state.stream
    carry = load_carry(found.carry, location, fetch, stream, found.partial)
    for code in found.carry.keys() - carry.keys():
        name = frame_type_name(code)
        log.error("%s: the carried frame of type %s is lost: its next files begin without it", stream, name)
    return carry


def _from_disk(place: FramePlace, location: Location, files: Iterable[tuple[Within, str]]) -> tuple[bytes, ...]:
    """Read it from one of these files; empty if none has it. One that can't be read is logged."""
    for parent, name in files:
        try:
            with location.open(parent) as directory:
                found = directory.stat(name)
                if found is None or place.at + place.length > found.st_size:  # the committed length may be anything
                    continue
                data = directory.read(name, place.length, place.at)
        except FileNotFoundError:
            continue
        except OSError as error:
            shown = location.shown(parent, name)
            text = "%s: can't read the frame to repeat in the next files: %s; reading it elsewhere, or from the topic"
            log.warning(text, shown, error)
            continue
        if data and crc_of((data,)) == place.crc:
            return (data,)
    return ()
