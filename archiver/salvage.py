"""What becomes of a partial that can't be gone on with, when the topic can't give its records again.

Law 5: bytes that the log can't give again are never deleted. The partial is cut to its last whole frame and gets the
name that it was to have; if it was damaged, it is kept beside, for whoever wants to look.
"""

import logging
import os
from dataclasses import dataclass
from typing import Protocol

from archiver import sums
from archiver.abandoned import Abandoned
from archiver.copying import copy_bytes
from archiver.directory import Directory
from archiver.event import Event, FileSalvaged
from archiver.finishing import ArchiveRoot
from archiver.layout import PartialName
from ingest.wire import Splitter, WireError, checked

log = logging.getLogger(__name__)

DAMAGED = ".damaged"
_MAX_FRAME_BYTES = 1 << 40  # whatever it was when it was received


@dataclass(frozen=True, slots=True)
class Whole:
    """How much of a file is whole frames, from its first byte on. size: of all of it. broken: what follows them
    isn't just cut off."""

    frames: int
    bytes: int
    size: int
    broken: bool


class Teller(Protocol):
    """Who publishes events; the Feed."""

    def tell(self, event: Event) -> None:
        """As Feed.tell."""


def salvage(
    archive: ArchiveRoot, teller: Teller, stream: str, partial: str, why: str, abandoned: Abandoned
) -> FileSalvaged | None:
    """Publish the whole frames of a partial; gives what was told of them, None if there was not one.

    May be repeated after a kill, or what it raises, at any point: OSError, KafkaException, AbandonedError.
    """
    name = PartialName.parse(partial)
    assert name
    with archive.private(stream) as private:
        if not private.is_file(partial):
            return None
        whole = whole_frames(private, partial, abandoned)
        piece = partial
        if 0 < whole.bytes < whole.size:
            piece = f"{partial}.piece"  # no partial's name: what a kill leaves of it is never taken for one
            private.unlink(piece)
            private.check_room(whole.bytes, partial)
            _copy(private, partial, piece, whole.bytes, abandoned)
        sha256 = sums.digest(private, piece, abandoned) if whole.frames else ""
    event = None
    if whole.frames:
        published = archive.publish(stream, piece, name.path, sha256, abandoned)
        assert published
        archive.add_sum(stream, published, sha256, abandoned)
        event = FileSalvaged(archive.group, stream, published, whole.frames, whole.bytes, sha256, why, archive.host)
        teller.tell(event)
        log.error("%s: published the %d frames that could be saved as %s: %s", stream, whole.frames, published, why)
    with archive.private(stream) as private:
        if piece != partial:
            private.unlink(piece)
        if whole.broken:
            private.rename(partial, private, partial + DAMAGED)
            log.error("%s: the damaged partial is kept as %s", stream, private.path / (partial + DAMAGED))
        else:
            private.unlink(partial)
    return event


def whole_frames(directory: Directory, name: str, abandoned: Abandoned) -> Whole:
    """How much of a file is whole frames with right CRCs. Raises OSError, AbandonedError."""
    frames = length = size = 0
    broken = False
    splitter = Splitter(_MAX_FRAME_BYTES)
    for block in directory.blocks(name):
        abandoned.check(f"reading {name}")
        size += len(block)
        if broken:
            continue
        with splitter.space() as space:
            space[: len(block)] = block
        splitter.filled(len(block))
        try:
            for frame in splitter.frames():
                broken = broken or checked(frame, {}) is None
                if not broken:
                    frames += 1
                    length += len(frame)
        except WireError:
            broken = True
    return Whole(frames, length, size, broken)


def _copy(directory: Directory, name: str, new: str, length: int, abandoned: Abandoned) -> None:
    """The first `length` bytes of a file into a new one, durably."""
    with (
        os.fdopen(directory.open(name, os.O_RDONLY), "rb") as old,
        os.fdopen(directory.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file,
    ):
        copy_bytes(old.fileno(), file.fileno(), length, lambda: abandoned.check(f"copying {name}"))
    directory.sync()
