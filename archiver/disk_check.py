"""Whether the file system of a data directory can do what recording and finishing take: tried once, at the start.

Else an archiver records for ten minutes, can't finish the file, and the reason is a line of its log at night.
"""

import contextlib
import errno
import fcntl
import logging
import os
from pathlib import Path

from archiver.copying import copy_bytes
from archiver.directory import Directory
from archiver.layout import PRIVATE_DIRECTORY
from archiver.naming import on_other_mounts
from ingest.syncs import sync_data, warn_of_unsynced_names

log = logging.getLogger(__name__)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_BYTES = b"g3-recorder tries what this file system can do\n"


def check_disk(root: Path, name: str) -> None:
    """Try it in `.archiver`. name: of this process only; what a killed one has left under it is removed first.

    Warns of what can be done without. Raises OSError that says what is missing. A full disk is no reason not to
    start: then nothing is tried.
    """
    try:
        with Directory(root, "") as top, Directory(root, PRIVATE_DIRECTORY) as private:
            if on_other_mounts(private.fd, top.fd):
                raise OSError(errno.EXDEV, f"{PRIVATE_DIRECTORY} is on another mount: files can't be moved out of it")
            _remove(private, name)
            try:
                made = f"{PRIVATE_DIRECTORY}/{name}"
                with Directory(root, f"{made}/to", make=True) as to, Directory(root, made) as scratch:
                    _try(scratch, to)
            finally:
                _remove(private, name)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        log.warning("%s is full: what its file system can do isn't tried", root)


def _try(scratch: Directory, to: Directory) -> None:
    """What recording does, in that order, with the files `a` and `b`. Raises OSError."""
    fd = scratch.open("a", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        _try_locks(scratch, fd)
        os.pwrite(fd, _BYTES, 0)
        sync_data(fd)
        warn_of_unsynced_names(scratch.path.parents[1])
        copy = scratch.open("b", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            copy_bytes(fd, copy, 0, len(_BYTES), lambda: None)
            if os.pread(copy, len(_BYTES), 0) != _BYTES:
                raise OSError(errno.EIO, "a copy of a file has other bytes there")
        finally:
            os.close(copy)
    finally:
        os.close(fd)
    scratch.publish("a", to, "final")
    with contextlib.suppress(FileExistsError):
        scratch.publish("b", to, "final")
        raise OSError(errno.EINVAL, "a file can't be named there without replacing another (renameat2)")
    scratch.rename("b", to, "final")
    _try_links(to)


def _try_locks(directory: Directory, fd: int) -> None:
    """As two archivers do: one has `a` locked, the other asks whether it is. Raises OSError."""
    directory.flock(fd, fcntl.LOCK_EX, "a")
    other = directory.open("a", os.O_RDONLY)
    try:
        with contextlib.suppress(BlockingIOError):
            directory.flock(other, fcntl.LOCK_SH, "a")
            raise OSError(errno.ENOLCK, "a locked file can be locked again there: locks (flock) protect nothing")
    finally:
        os.close(other)


def _try_links(directory: Directory) -> None:
    """Nothing may be opened through a link. Raises OSError."""
    try:
        os.symlink("final", "link", dir_fd=directory.fd)
    except OSError:
        return  # it has none
    try:
        os.close(directory.open("link", os.O_RDONLY))
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    else:
        raise OSError(errno.ELOOP, "links are followed there though they must not be (O_NOFOLLOW)")


def _remove(private: Directory, name: str) -> None:
    """Remove the scratch directory, if it is there. Raises OSError."""
    for below in (f"{name}/to", name):
        with contextlib.suppress(FileNotFoundError):
            with Directory(private.path, below) as directory:
                for left in directory.names():
                    directory.unlink(left)
            os.rmdir(below, dir_fd=private.fd)
