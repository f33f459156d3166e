"""Partials that no process is recording: those that are not locked."""

import fcntl
import logging
from collections.abc import Iterable

from archiver.core.paths import PartialName
from archiver.storage.directory import Directory

log = logging.getLogger(__name__)


def unlocked_partials(directory: Directory, names: Iterable[str]) -> list[str]:
    """Find those of these names that are partials, exist, and are not locked by any process. Raises OSError.

    A recording process holds an exclusive lock on its partial. It is detected by requesting a shared lock, because

    - that needs a descriptor open for reading only: NFS grants no exclusive lock on a file that isn't open for
      writing (EBADF), and `verify` may not be allowed to write;
    - two processes that check at the same time both get it, so neither takes the other for a recorder.

    The hazard: the shared lock is held for an instant. An archiver that reopens the same partial in that instant
    believes that another archiver has it open, and continues in a copy. So check only partials that nobody may reopen
    now.
    """
    found = []
    for name in names:
        if PartialName.parse(name) is None or not directory.is_file(name):
            continue
        try:
            with directory.opened(name) as fd:
                directory.flock(fd, fcntl.LOCK_SH, name)
                found.append(name)
        except BlockingIOError:
            pass  # it is being recorded, or its recorder is frozen and will notice when it thaws
        except FileNotFoundError:
            pass
        except PermissionError as error:  # another user's: it must not stop the stream
            log.warning("a partial that can't be read is left where it is: %s", error)
    return found
