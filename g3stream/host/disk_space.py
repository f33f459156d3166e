"""How much room file systems have, asked on other threads: a dead NFS server never answers, and whoever watches must.

For one thread at a time.
"""

import os
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from pathlib import Path

_TIMEOUT_SECONDS = 0.5


class DiskSpace:
    """Remembers what it has asked and got no answer to: nothing is asked twice meanwhile."""

    def __init__(self) -> None:
        self._queries: dict[Path, Future[os.statvfs_result]] = {}

    def of(self, path: Path) -> os.statvfs_result | None:
        """What statvfs says; None if that can't be had now."""
        # If one hangs, of many on the same disk, the others aren't waited for as long.
        seconds = _TIMEOUT_SECONDS if not self._queries else 0.0
        query = self._queries.get(path)
        if query is None:
            query = self._queries[path] = Future()
            # A daemon: what hangs must not keep the process.
            threading.Thread(target=_call_statvfs, args=(path, query), name="statvfs", daemon=True).start()
        try:
            return query.result(seconds)
        except NotInTime:
            return None
        except OSError:  # it isn't there
            return None
        finally:
            if query.done():
                self._queries.pop(path)


def _call_statvfs(path: Path, query: "Future[os.statvfs_result]") -> None:
    try:
        query.set_result(os.statvfs(path))
    except OSError as error:
        query.set_exception(error)
