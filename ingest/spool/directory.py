"""The directory of a spool: created durably, accessible to this user only, locked by one ingest."""

import fcntl
import os
from pathlib import Path

from g3stream.host.fsync import make_directory, private_file, warn_of_unsynced_names


class SpoolError(Exception):
    """The spool can't be used, or can't be written at the moment; the message says why and what to do."""


def lock_spool(directory: Path) -> int:
    """Create the directory and lock it. Returns the lock's file descriptor. Raises SpoolError.

    The kernel releases the lock when the process ends. No other user can open the lock file: one who could might take
    the lock and keep every ingest from starting.
    """
    try:
        make_directory(directory, private=True)
        lock = private_file(directory / "lock")
    except OSError as error:
        raise SpoolError(
            f"the spool's directory {directory} can't be used: {error.strerror}; choose another with --spool-dir"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise SpoolError(
            f"another ingest for this stream runs on this host (it holds {directory}/lock); stop that one first"
        ) from None
    except OSError as error:
        os.close(lock)
        raise SpoolError(
            f"the file system of {directory} has no locks (flock: {error.strerror}); "
            "choose a directory on a local disk with --spool-dir"
        ) from error
    warn_of_unsynced_names(directory)
    return lock
