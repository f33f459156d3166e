"""Which partials no process is recording: those on which nobody has a lock."""

import fcntl
import logging
import os
from collections.abc import Iterable

from archiver.core.paths import PartialName
from archiver.storage.directory import Directory

log = logging.getLogger(__name__)


def unlocked_partials(directory: Directory, names: Iterable[str]) -> list[str]:
    """Those of these names that are partials, are there, and are locked by no process. Raises OSError.

    Who records a partial holds an exclusive lock on it. It is found by asking for a shared one, which

    - needs a descriptor open for reading only: NFS gives an exclusive lock to none that isn't open for writing
      (EBADF), and `verify` may not be allowed to write;
    - two who ask at the same time both get, so none of them takes the other for a recorder.

    The hazard: the shared lock is there for an instant, and an archiver that reopens the same partial in that instant
    takes it for another archiver's, and goes on in a copy. So ask only for partials that nobody may reopen now.
    """
    found = []
    for name in names:
        if PartialName.parse(name) is None or not directory.is_file(name):
            continue
        try:
            descriptor = directory.open(name, os.O_RDONLY)
        except FileNotFoundError:
            continue
        except PermissionError as error:  # somebody else's: it must not stop the stream
            log.warning("a partial that can't be read is left where it is: %s", error)
            continue
        try:
            directory.flock(descriptor, fcntl.LOCK_SH, name)
            found.append(name)
        except BlockingIOError:
            pass  # it is being recorded, or its recorder is frozen and finds out when it thaws
        finally:
            os.close(descriptor)
    return found
