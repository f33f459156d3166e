"""A lock on a whole archive: all who write to it share it; who moves it has it alone.

It also says which data directory belongs to the private directory now: nobody may record into another one with the
same private directory at the same time. As a data directory may be moved, that is no part of the archive's identity.
"""

import errno
import fcntl
import os
import time

from archiver.archive.location import Location

LOCK = "archive.lock"
_MAX_BYTES = 4096
_ATTEMPTS = 40
_PAUSE_SECONDS = 0.05


def acquire_shared(location: Location) -> int:
    """Take the lock beside others who write to the same data directory; gives the descriptor, whose closing frees it.

    Raises OSError, also if the archive is being moved, or others write to another data directory.
    """
    said = b""
    for attempt in range(_ATTEMPTS):
        lock = _lock(location, fcntl.LOCK_SH)
        if lock is None:
            raise OSError(errno.EBUSY, "it is being moved by `archiver relocate`", str(location.data_dir))
        try:
            said, ours = os.pread(lock, _MAX_BYTES, 0), _of(location)
        except BaseException:
            os.close(lock)
            raise
        same = said.partition(b" ")[0] == ours.partition(b" ")[0]
        if location.private_dir is None or said == ours or (same and attempt):
            return lock
        os.close(lock)
        if not _note(location, ours) and not same:
            time.sleep(_PAUSE_SECONDS)  # somebody who starts at the same time may be about to note the same
    where = os.fsdecode(said.partition(b" ")[2].strip())
    why = f"with the same private directory, {location.private_path}, another archiver records to {where} now"
    raise OSError(errno.EBUSY, why, str(location.data_dir))


def acquire_exclusive(location: Location) -> int:
    """Take the lock alone; as `acquire_shared`."""
    lock = _lock(location, fcntl.LOCK_EX)
    if lock is None:
        raise OSError(errno.EBUSY, "an archiver, or a command, works on it: stop that first", str(location.data_dir))
    return lock


def _note(location: Location, ours: bytes) -> bool:
    """Note whose data directory it is; False if somebody works on it now. Raises OSError."""
    lock = _lock(location, fcntl.LOCK_EX)
    if lock is None:
        return False
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, ours, 0)
    finally:
        os.close(lock)
    return True


def _lock(location: Location, how: int) -> int | None:
    """None if it is held otherwise. Raises OSError."""
    try:
        with location.private() as private:
            return private.lock(LOCK, how)
    except BlockingIOError:
        return None


def _of(location: Location) -> bytes:
    """What it says: the data directory's inode, which is the same under every path and on every host; its path."""
    with location.data() as data:
        return b"%d %s\n" % (os.fstat(data.fd).st_ino, os.fsencode(location.data_dir))
