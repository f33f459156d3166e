"""Free space of file systems, queried on threads of their own, as a dead NFS server never answers.

The monitoring that needs it must not hang with the server. For one thread at a time.
"""

import os
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from pathlib import Path

_TIMEOUT_SECONDS = 0.5


class DiskSpace:
    """Queries of free space; a path with an unanswered query is not queried again meanwhile."""

    def __init__(self) -> None:
        self._queries: dict[Path, Future[os.statvfs_result]] = {}

    def of(self, path: Path) -> os.statvfs_result | None:
        """Return a path's statvfs; None if it fails or doesn't answer in time."""
        # If one of many paths on the same disk hangs, the others aren't waited for.
        seconds = _TIMEOUT_SECONDS if not self._queries else 0.0
        query = self._queries.get(path)
        if query is None:
            query = self._queries[path] = Future()
            # A daemon thread: one that hangs must not keep the process from ending.
            threading.Thread(target=_call_statvfs, args=(path, query), name="statvfs", daemon=True).start()
        try:
            return query.result(seconds)
        except NotInTime:
            return None
        except OSError:  # there is no such path
            return None
        finally:
            if query.done():
                self._queries.pop(path)


def _call_statvfs(path: Path, query: "Future[os.statvfs_result]") -> None:
    try:
        query.set_result(os.statvfs(path))
    except OSError as error:
        query.set_exception(error)
