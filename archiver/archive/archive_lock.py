"""The lock on a whole archive: shared by all programs that write to it, exclusive for one that moves it.

The lock file also names the data directory that belongs to the private directory: nobody may record into another one
with the same private directory at the same time. A data directory may be moved, so it is no part of the identity.
"""

import contextlib
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
    """Take the lock, shared with others that write to the same data directory; returns the descriptor.

    Closing that releases the lock. Raises OSError, also if the archive is being moved, or others write to another
    data directory.
    """
    noted = b""
    for attempt in range(_ATTEMPTS):
        lock = location.lock("", LOCK, fcntl.LOCK_SH, "it is being moved by `archiver relocate`")
        with contextlib.ExitStack() as unless_valid:
            unless_valid.callback(os.close, lock)
            noted, ours = os.pread(lock, _MAX_BYTES, 0), _note_of(location)
            same = noted.partition(b" ")[0] == ours.partition(b" ")[0]
            if location.private_dir is None or noted == ours or (same and attempt):
                unless_valid.pop_all()
                return lock
        if not _write_note(location, ours) and not same:
            time.sleep(_PAUSE_SECONDS)  # another program that starts at the same time may be writing the same note
    where = os.fsdecode(noted.partition(b" ")[2].strip())
    why = f"with the same private directory, {location.private_path}, another archiver records to {where} now"
    raise OSError(errno.EBUSY, why, str(location.data_dir))


def acquire_exclusive(location: Location) -> int:
    """Take the lock exclusively; as `acquire_shared`."""
    return location.lock("", LOCK, fcntl.LOCK_EX, "an archiver or a command is using it: stop that first")


def _write_note(location: Location, ours: bytes) -> bool:
    """Write our data directory into the lock file; False if another program holds the lock. Raises OSError."""
    with contextlib.suppress(BlockingIOError), location.private() as private:
        lock = private.lock(LOCK, fcntl.LOCK_EX)
        try:
            os.ftruncate(lock, 0)
            os.pwrite(lock, ours, 0)
        finally:
            os.close(lock)
        return True
    return False


def _note_of(location: Location) -> bytes:
    """The lock file's text: the data directory's inode, the same under every path and on every host, and its path."""
    with location.data() as data:
        return b"%d %s\n" % (os.fstat(data.fd).st_ino, os.fsencode(location.data_dir))
