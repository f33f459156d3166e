"""Salvage: publish the whole frames of a partial that can be neither continued nor rebuilt.

Law 5: bytes that the topic no longer has are never deleted. The whole frames get the name that the file was to have.
The rest is kept beside, for inspection: a frame that was cut off, or good frames behind a damaged byte.
"""

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from archiver.archive.root import ArchiveRoot
from archiver.core.events import Event, FileSalvaged
from archiver.core.paths import PartialName
from archiver.storage import sha256sums
from archiver.storage.directory import Directory
from archiver.storage.page_cache import copy_bytes
from g3stream.frame_format.layout import FrameFormatError
from g3stream.frame_format.reader import FrameScanner
from g3stream.service.cancellation import CancellationToken

log = logging.getLogger(__name__)

DAMAGED = ".damaged"


@dataclass(frozen=True, slots=True)
class CompleteFrames:
    """How much of a file is whole frames, from its first byte on."""

    frames: int
    bytes: int
    """Of the whole frames."""
    last_start: int
    """Where the last whole frame begins; equal to `bytes` if there is none."""
    size_bytes: int
    """Of the file."""


def salvage(
    archive: ArchiveRoot,
    publish: Callable[[Event], None],
    stream: str,
    partial: str,
    why: str,
    cancellation: CancellationToken,
) -> FileSalvaged | None:
    """Publish the whole frames of a partial and their event; return the event, None if there are no whole frames.

    publish: called with the event; returns once Kafka has it, as EventPublisher.publish does.
    May be repeated after a kill, or an error, at any point. Raises OSError, KafkaException, Cancelled.
    """
    name = PartialName.parse(partial)
    assert name
    with archive.private(stream) as private:
        if not private.is_file(partial):
            return None
        whole = complete_frames(private, partial, cancellation)
        is_cut = whole.bytes < whole.size_bytes
        # Until then, what is published has a name that is no partial's: what a kill leaves isn't mistaken for one.
        # The partial keeps its name until all is done: after a kill in between, all is repeated.
        piece, rest = f"{partial}.piece", partial + DAMAGED
        private.unlink(piece)  # a kill may have left it
        event = None
        if whole.bytes:
            if is_cut or not private.link(partial, piece):
                private.check_free_space(whole.size_bytes, partial)
                _copy(private, partial, piece, 0, whole.bytes, cancellation)
            if is_cut:
                _copy(private, partial, rest, whole.bytes, whole.size_bytes, cancellation)
            sha256 = sha256sums.digest(private, piece, cancellation)
            path = archive.publish(stream, piece, name.path, whole.bytes, sha256, cancellation)
            assert path
            archive.add_checksum(stream, path, sha256)
            event = FileSalvaged(archive.group, stream, path, whole.frames, whole.bytes, sha256, why, archive.host)
            publish(event)
            log.error(
                "%s: published the %d frames that could be salvaged, as %s: %s", stream, whole.frames, path, why
            )
            private.unlink(piece)
        elif is_cut:
            private.rename(partial, private, rest)
        if is_cut:
            log.error("%s: bytes that are no whole frame are kept as %s", stream, private.path / rest)
        private.unlink(partial)
    return event


def complete_frames(directory: Directory, name: str, cancellation: CancellationToken) -> CompleteFrames:
    """Measure the whole frames with correct CRCs at the start of a file. Raises OSError, Cancelled."""
    stat = directory.stat(name)
    size = stat.st_size if stat else 0
    scanner = FrameScanner(size)
    last_start = end = 0
    with contextlib.suppress(FrameFormatError):
        for block in directory.blocks(name):
            cancellation.raise_if_cancelled(f"reading {name}")
            for frame in scanner.scan(block):
                last_start, end = end, frame.end
    return CompleteFrames(scanner.frames, end, last_start, size)


def _copy(directory: Directory, name: str, new: str, start: int, end: int, cancellation: CancellationToken) -> None:
    """Copy the bytes of a file from `start` to before `end` into a new one, durably."""
    directory.unlink(new)  # a kill may have left it
    with directory.opened(name) as old, directory.opened(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
        copy_bytes(old, fd, start, end - start, lambda: cancellation.raise_if_cancelled(f"copying {name}"))
    directory.sync()
