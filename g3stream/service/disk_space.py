"""Free space of file systems, queried on threads of their own, as a dead NFS server never answers.

The monitoring that needs it must not hang with the server. For one thread at a time.
"""

import os
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from g3stream.service.timeouts import start_call

_TIMEOUT_SECONDS = 0.5


class DiskSpace:
    """Queries of free space; a path with an unanswered query is not queried again meanwhile."""

    def __init__(self) -> None:
        self._queries: dict[Path, Future[os.statvfs_result]] = {}

    def of(self, path: Path) -> os.statvfs_result | None:
        """Return a path's statvfs; None if it fails or doesn't answer in time."""
        # If one of many paths on the same disk hangs, the others aren't waited for.
        seconds = _TIMEOUT_SECONDS if not self._queries else 0.0
        query = self._queries.get(path) or start_call("statvfs", partial(os.statvfs, path))
        self._queries[path] = query
        try:
            return query.result(seconds)
        except OSError:  # there is no such path; or a TimeoutError
            return None
        finally:
            if query.done():
                self._queries.pop(path)
