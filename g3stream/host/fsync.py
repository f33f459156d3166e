"""Files and directories that outlive a power cut: fsync(2), on file systems that don't have all of it, too."""

import errno
import logging
import os
import stat
from pathlib import Path

log = logging.getLogger(__name__)

_NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Of a directory in which we, as a rule, can't have made anything."""
_NOT_SUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def sync_data(fd: int) -> None:
    """Make a file's bytes durable: by fsync where there is no fdatasync. Raises OSError."""
    try:
        os.fdatasync(fd)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        os.fsync(fd)


def sync_names(fd: int) -> bool:
    """Make the names in an open directory durable. Raises OSError.

    False: its file system can't sync a directory (EINVAL from some of FUSE, and from shared folders of virtual
    machines), and writes names when it likes to. There is nothing better to do then: who starts there says so, once.
    """
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        return False
    return True


def sync_directory(path: Path) -> bool:
    """As sync_names, of the directory at that path."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return sync_names(fd)
    finally:
        os.close(fd)


def warn_of_unsynced_names(path: Path) -> None:
    """Say so if the directory's file system can't sync it. Raises OSError."""
    if not sync_directory(path):
        log.warning(
            "the file system of %s can't sync a directory: after a power cut, files may be without their names", path
        )


def make_directory(path: Path, *, private: bool = False) -> None:
    """Make a directory, and what is missing above it, durably. private: for this user only, also if it was there.

    What an earlier start made just before it was killed is made durable, too: so all directories above are synced,
    up to the mount point, beyond which nothing was made. Raises OSError.
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
    """A link that another user has put there isn't followed: it may lead to a directory of ours that everybody is to
    use. One of the administrator's may, as the spool's to another disk. found: where it leads. Raises OSError."""
    us = os.geteuid()
    link = path.lstat()
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (us, 0):
        raise OSError(errno.ELOOP, f"a link that another user (uid {link.st_uid}) has put there", str(path))
    if found.st_uid not in (us, 0):
        log.warning("%s is another user's (uid %d), who can keep this from starting", path, found.st_uid)
    elif found.st_uid == us and found.st_mode & 0o077:
        path.chmod(0o700)


def private_file(path: Path) -> int:
    """Open a file that only this user may open, made if missing; gives the descriptor. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if (found := os.fstat(fd)).st_uid == os.geteuid() and found.st_mode & 0o077:
        os.fchmod(fd, 0o600)
    return fd
