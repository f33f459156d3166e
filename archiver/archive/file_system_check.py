"""A check, at the start, that the file system can do all that recording and finishing a file need.

Without it an archiver would record for ten minutes, fail to finish the file, and log the reason at night.
"""

import contextlib
import errno
import fcntl
import logging
import os
from pathlib import Path

from archiver.archive.location import Location
from archiver.core.paths import PRIVATE_DIRECTORY
from archiver.storage.directory import Directory
from archiver.storage.no_replace import on_other_mounts
from archiver.storage.page_cache import copy_bytes
from g3stream.host.fsync import sync_data, warn_of_unsynced_names

log = logging.getLogger(__name__)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_NAMELESS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.ENOSYS})
"""Errors of open(O_TMPFILE) on file systems without unnamed files."""
_BYTES = b"g3-recorder tries what this file system can do\n"


def check_disk(location: Location, name: str) -> None:
    """Check the private directory, and moving files from there to the data directory.

    name: of the scratch directory, not used by any other process; what a killed process has left in it is removed.

    Logs a warning if something is missing that isn't necessary. Raises OSError, which says what is missing. A full
    disk is no reason not to start: then the check is skipped.
    """
    try:
        with location.data() as data, location.private() as private:
            if on_other_mounts(private.fd, data.fd):
                what = f"the private directory {location.private_dir}" if location.private_dir else PRIVATE_DIRECTORY
                why = f"{what} is on another mount: files can't be moved out of it (docs/operate/systemd.md)"
                raise OSError(errno.EXDEV, why)
            _remove(private, name)
            try:
                with location.private(f"{name}/to", make=True) as to, location.private(name) as scratch:
                    _try_all(scratch, to, location.data_dir)
                    if location.private_dir:
                        _try_between(scratch, data, f".{name}")
            finally:
                _remove(private, name)
                if location.private_dir:
                    data.unlink(f".{name}")
    except OSError as error:
        if error.errno not in _FULL:
            raise
        text = "%s is full: the check of its file system is skipped, and records wait in Kafka until there is space"
        log.warning(text, location.data_dir)


def _try_all(scratch: Directory, to: Directory, root: Path) -> None:
    """Do what recording does, in the same order, with the files `a` and `b`. Raises OSError."""
    new = os.O_RDWR | os.O_CREAT | os.O_EXCL
    with scratch.opened("a", new) as fd:
        _try_locks(scratch, fd)
        os.pwrite(fd, _BYTES, 0)
        sync_data(fd)
        warn_of_unsynced_names(root)
        with scratch.opened("b", new) as copy:
            copy_bytes(fd, copy, 0, len(_BYTES), lambda: None)
            if os.pread(copy, len(_BYTES), 0) != _BYTES:
                raise OSError(errno.EIO, "a copy of a file has other bytes on this file system")
    scratch.publish("a", to, "final")
    with contextlib.suppress(FileExistsError):
        scratch.publish("b", to, "final")
        raise OSError(errno.EINVAL, "a file can't be renamed without replacing another (renameat2) there")
    scratch.rename("b", to, "final")
    _try_links(to)


def _try_between(scratch: Directory, data: Directory, name: str) -> None:
    """Check that a file of the private directory can get a name in the data directory. Raises OSError.

    Programs that read the data directory must find nothing in it but files of the layout. So an unnamed file is
    created there, and gets a name in the private directory: if that works, the reverse does, too. Where there are no
    unnamed files, a name exists there for an instant; what a kill leaves of it is removed at the next start.
    """
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=data.fd)
    except OSError as error:
        if error.errno not in _NO_NAMELESS:
            raise OSError(error.errno, error.strerror, str(data.path)) from None
    else:
        try:
            os.link(f"/proc/self/fd/{fd}", "between", dst_dir_fd=scratch.fd, follow_symlinks=True)
            return
        except OSError as error:
            if error.errno == errno.EXDEV:  # of other quotas, as of projects of XFS
                why = f"files can't be moved from {scratch.path.parent} to {data.path}: {error.strerror}"
                raise OSError(errno.EXDEV, why) from None
        finally:
            os.close(fd)
    data.unlink(name)
    os.close(scratch.open("between", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    scratch.publish("between", data, name)


def _try_locks(directory: Directory, fd: int) -> None:
    """Check locks as two archivers use them: one has `a` locked, the other checks that. Raises OSError."""
    directory.flock(fd, fcntl.LOCK_EX, "a")
    with directory.opened("a") as other, contextlib.suppress(BlockingIOError):
        directory.flock(other, fcntl.LOCK_SH, "a")
        raise OSError(errno.ENOLCK, "a locked file can be locked again there: locks (flock) protect nothing")


def _try_links(directory: Directory) -> None:
    """Check that nothing is opened through a link. Raises OSError."""
    try:
        os.symlink("final", "link", dir_fd=directory.fd)
    except OSError:
        return  # there are no links
    try:
        os.close(directory.open("link", os.O_RDONLY))
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    else:
        raise OSError(errno.ELOOP, "links are followed there though they must not be (O_NOFOLLOW)")


def _remove(private: Directory, name: str) -> None:
    """Remove the scratch directory, if it exists. Raises OSError."""
    for below in (f"{name}/to", name):
        with contextlib.suppress(FileNotFoundError):
            with Directory(private.path, below) as directory:
                for left in directory.names():
                    directory.unlink(left)
            os.rmdir(below, dir_fd=private.fd)
