"""Gives a partial the name of its finished file: durably, and without ever replacing another file."""

import errno
import os
import stat
from pathlib import Path

from archiver.archive.location import Location
from archiver.storage import sha256sums
from archiver.storage.directory import Directory
from g3stream.service.cancellation import CancellationToken

_MAX_SUFFIXES = 100_000


def publish(
    partials: Directory,
    name: str,
    location: Location,
    path: str,
    length: int,
    sha256: str,
    cancellation: CancellationToken,
    most: int = _MAX_SUFFIXES,
) -> str | None:
    """Give a partial its path below the root, without replacing anything; gives the path that it has got.

    That is `path`, or, where another file has it, the one with the next free number, of `most` that are tried. A path
    taken by the same bytes is this file, published before; the partial may be gone then, or be moved now (on a file
    system without hard links). None if neither the partial nor such a file is there. Durable when this returns.
    Raises OSError, Cancelled.
    """
    stem, _, number = path.removesuffix(".g3").rpartition("_")
    with location.data(str(Path(path).parent), make=True) as directory:
        for suffix in range(int(number), int(number) + most):
            path = f"{stem}_{suffix:03d}.g3"
            final = Path(path).name
            given = False
            try:
                partials.publish(name, directory, final)
                given = True
            except FileNotFoundError:
                if partials.stat(name) is not None:  # others remove empty directories, where files were copied away
                    raise OSError(errno.ENOENT, "its directory was removed just now", path) from None
                if directory.stat(final) is None:
                    return None
            except FileExistsError:
                pass
            if given or _is_same_content(partials.stat(name), directory, final, length, sha256, cancellation):
                fd = directory.open(final, os.O_RDONLY)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
                directory.sync()
                _sync_above(location, directory.below)  # it may be there since a kill, and not durable yet
                if partials.stat(name) is None:  # it was moved: it shall have one name after a power cut, too
                    partials.sync()
                return path
    raise FileExistsError(errno.EEXIST, "another file has its name", path)


def _sync_above(location: Location, below: str) -> None:
    """Make durable the names of the directories from the root to that one. Raises OSError."""
    while below:
        below = below.rpartition("/")[0]
        with location.data(below) as above:
            above.sync()


def _is_same_content(
    partial: os.stat_result | None,
    directory: Directory,
    name: str,
    length: int,
    sha256: str,
    cancellation: CancellationToken,
) -> bool:
    """Whether the file of that name is ours. One that is somebody else's is read only if it is as long as ours."""
    found = directory.stat(name)
    if found is None or not stat.S_ISREG(found.st_mode):
        return False
    if partial and os.path.samestat(found, partial):
        return True
    try:
        return found.st_size == length and sha256sums.digest(directory, name, cancellation) == sha256
    except PermissionError:  # if it was ours, its event tells so
        return False
