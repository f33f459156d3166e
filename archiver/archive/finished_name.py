"""Publishing a partial under the name of its finished file: durably, never replacing another file."""

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
    """Give a partial its path below the root, without replacing anything; returns the path that it got.

    That is `path`, or, if another file has it, the path with the next free number, of at most `most` that are tried.
    If a file of the same bytes has it, that is this file, published before; then the partial may be gone, or is moved
    now (on a file system without hard links). None if there is neither the partial nor such a file. Durable when this
    returns. Raises OSError, Cancelled.
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
                if partials.stat(name) is not None:  # others remove empty directories once files were copied away
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
                _sync_above(location, directory.below)  # it may have been made before a kill, and not be durable yet
                if partials.stat(name) is None:  # it was moved: after a power cut it must have one name, too
                    partials.sync()
                return path
    raise FileExistsError(errno.EEXIST, "another file has its name", path)


def _sync_above(location: Location, below: str) -> None:
    """Sync the names of the directories from the root to that one. Raises OSError."""
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
    """Whether the file of that name has the same content; it is read only if its length is the same."""
    found = directory.stat(name)
    if found is None or not stat.S_ISREG(found.st_mode):
        return False
    if partial and os.path.samestat(found, partial):
        return True
    try:
        return found.st_size == length and sha256sums.digest(directory, name, cancellation) == sha256
    except PermissionError:  # if it is ours, its event was published
        return False
