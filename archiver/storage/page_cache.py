"""A large file copied at the pace of its disk, so that those who write beside it hardly notice.

Left to itself the kernel takes gigabytes into memory at once, and then makes everybody who writes anything wait until
the disk has taken most of them. Here it never has more than two blocks that the disk has not.
"""

import errno
import os
from collections.abc import Callable

from archiver.storage.writeback import begin_writeback, end_writeback
from g3stream.host.fsync import sync_data

_BLOCK = 8 << 20
_NOT_IN_THE_KERNEL = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def copy_bytes(source: int, target: int, start: int, length: int, going_on: Callable[[], None]) -> int:
    """Copy `length` bytes of an open file, from `start` on, to the beginning of another one, durably; gives how many
    there were.

    going_on: called before each block; what it raises ends the copy. Raises OSError.
    """
    done = before = 0
    while done < length:
        going_on()
        count = _copy_block(source, target, start + done, done, min(_BLOCK, length - done))
        if not count:
            break
        begin_writeback(target, done, count)
        end_writeback(target, before, done - before)
        before, done = done, done + count
    sync_data(target)
    return done


def _copy_block(source: int, target: int, at: int, to: int, count: int) -> int:
    """Copy what is at `at` in one file to `to` in the other, `count` bytes at most; gives how many, 0 at the end."""
    try:
        # XFS and Btrfs need not copy anything: both files may have the same blocks, until one of them is written to.
        if copied := os.copy_file_range(source, target, count, at, to):
            return copied  # 0 is the end, or a file system that can't say how long its files are
    except OSError as error:
        if error.errno not in _NOT_IN_THE_KERNEL:
            raise
    data = os.pread(source, count, at)
    written = 0
    while written < len(data):
        written += os.pwrite(target, data[written:], to + written)
    return written
