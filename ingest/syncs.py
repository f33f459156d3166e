"""fsync(2) and fdatasync(2), on file systems that don't have all of it."""

import errno
import os

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
