"""Durable files and directories: fsync(2), also on file systems that support only a part of it."""

import errno
import logging
import os
import stat
from pathlib import Path

log = logging.getLogger(__name__)

_NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Errors of a directory in which, as a rule, this process can't have created anything."""
_NOT_SUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def sync_data(fd: int) -> None:
    """Make a file's bytes durable, by fsync where fdatasync isn't supported. Raises OSError."""
    try:
        os.fdatasync(fd)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        os.fsync(fd)


def sync_names(fd: int) -> bool:
    """Make the names in an open directory durable. Raises OSError.

    Returns False if its file system can't sync a directory (EINVAL from some FUSE file systems, and from shared
    folders of virtual machines) and writes names at a time of its own. Nothing more can be done then; a program warns
    of it once, at its start (`warn_of_unsynced_names`).
    """
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        return False
    return True


def sync_directory(path: Path) -> bool:
    """Make the names in the directory at `path` durable, as `sync_names` does."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return sync_names(fd)
    finally:
        os.close(fd)


def warn_of_unsynced_names(path: Path) -> None:
    """Log a warning if the directory's file system can't sync it. Raises OSError."""
    if not sync_directory(path):
        log.warning("the file system of %s can't sync a directory: a power cut may take the names of new files", path)


def make_directory(path: Path, *, private: bool = False) -> None:
    """Create a directory and its missing parents, durably. Raises OSError.

    private: for this user only, also if the directory exists. All parents up to the mount point are synced, because
    an earlier start may have created some of them just before it was killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(0o700 if private else 0o777, exist_ok=True)
    found = path.stat()
    if private:
        _make_private(path, found)
    for above in path.resolve().parents:
        if above.stat().st_dev != found.st_dev:
            break
        try:
            sync_directory(above)
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise


def _make_private(path: Path, found: os.stat_result) -> None:
    """Make a directory accessible to this user only. Raises OSError.

    A symbolic link of another user is refused: it may lead to a directory of ours that is meant for everybody. A link
    of root's is followed, such as one that puts the spool on another disk. found: the link's target.
    """
    us = os.geteuid()
    link = path.lstat()
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (us, 0):
        raise OSError(errno.ELOOP, f"a symbolic link that another user (uid {link.st_uid}) has made", str(path))
    if found.st_uid not in (us, 0):
        text = (
            "%s belongs to another user (uid %d), who can prevent this program's start; give it to this user or root"
        )
        log.warning(text, path, found.st_uid)
    elif found.st_uid == us and found.st_mode & 0o077:
        path.chmod(0o700)


def private_file(path: Path) -> int:
    """Open a file for this user only, creating it if missing; return the descriptor. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if (found := os.fstat(fd)).st_uid == os.geteuid() and found.st_mode & 0o077:
        os.fchmod(fd, 0o600)
    return fd
