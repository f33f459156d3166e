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
from g3stream.frames.layout import FrameFormatError
from g3stream.frames.scanner import FrameScanner
from g3stream.service.cancellation import CancellationToken

log = logging.getLogger(__name__)

DAMAGED = ".damaged"


@dataclass(frozen=True, slots=True)
class CompleteFrames:
    """How much of a file is whole frames, from its first byte on."""

    frames: int
    bytes: int
    """Of the whole frames."""
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

    publish: called with the event; returns once Kafka has it, as GroupConsumer.publish does.
    May be repeated after a kill, or an error, at any point. Raises OSError, KafkaException, Cancelled.
    """
    name = PartialName.parse(partial)
    assert name
    with archive.private(stream) as private:
        if not private.is_file(partial):
            return None
        whole = complete_frames(private, partial, cancellation)
        # Until then, what is published has a name that is no partial's: what a kill leaves isn't mistaken for one.
        # The partial keeps its name until all is done: after a kill in between, all is repeated.
        piece, rest = f"{partial}.piece", partial + DAMAGED
        if whole.bytes:
            private.unlink(piece)  # a kill may have left it
            if whole.bytes < whole.size_bytes or not private.link(partial, piece):
                private.check_free_space(whole.size_bytes, partial)
                _copy(private, partial, piece, 0, whole.bytes, cancellation)
        if 0 < whole.bytes < whole.size_bytes:
            _copy(private, partial, rest, whole.bytes, whole.size_bytes, cancellation)
        sha256 = sha256sums.digest(private, piece, cancellation) if whole.frames else ""
    event = None
    if whole.frames:
        published = archive.publish(stream, piece, name.path, whole.bytes, sha256, cancellation)
        assert published
        archive.add_checksum(stream, published, sha256)
        event = FileSalvaged(archive.group, stream, published, whole.frames, whole.bytes, sha256, why, archive.host)
        publish(event)
        log.error(
            "%s: published the %d frames that could be salvaged, as %s: %s", stream, whole.frames, published, why
        )
    with archive.private(stream) as private:
        private.unlink(piece)
        if whole.bytes < whole.size_bytes:
            if not whole.bytes:
                private.rename(partial, private, rest)
            log.error("%s: bytes that are no whole frame are kept as %s", stream, private.path / rest)
        private.unlink(partial)
    return event


def complete_frames(directory: Directory, name: str, cancellation: CancellationToken) -> CompleteFrames:
    """Measure the whole frames with correct CRCs at the start of a file. Raises OSError, Cancelled."""
    stat = directory.stat(name)
    size = stat.st_size if stat else 0
    scanner = FrameScanner(size)
    with contextlib.suppress(FrameFormatError):
        for block in directory.blocks(name):
            cancellation.raise_if_cancelled(f"reading {name}")
            for _ in scanner.scan(block):
                pass
    return CompleteFrames(scanner.frames, scanner.frame_start, size)


def _copy(directory: Directory, name: str, new: str, start: int, end: int, cancellation: CancellationToken) -> None:
    """Copy the bytes of a file from `start` to before `end` into a new one, durably."""
    directory.unlink(new)  # a kill may have left it
    with (
        os.fdopen(directory.open(name, os.O_RDONLY), "rb") as old,
        os.fdopen(directory.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file,
    ):
        copy_bytes(
            old.fileno(),
            file.fileno(),
            start,
            end - start,
            lambda: cancellation.raise_if_cancelled(f"copying {name}"),
        )
    directory.sync()
