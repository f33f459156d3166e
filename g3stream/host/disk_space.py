"""How much room file systems have, asked on other threads: a dead NFS server never answers, and whoever watches must.

For one thread at a time.
"""

import os
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from pathlib import Path

_SECONDS = 0.5


class Disks:
    """Remembers what it has asked and got no answer to: nothing is asked twice meanwhile."""

    def __init__(self) -> None:
        self._asked: dict[Path, Future[os.statvfs_result]] = {}

    def space(self, path: Path) -> os.statvfs_result | None:
        """What statvfs says; None if that can't be had now."""
        # If one hangs, of many on the same disk, the others aren't waited for as long.
        seconds = _SECONDS if not self._asked else 0.0
        asked = self._asked.get(path)
        if asked is None:
            asked = self._asked[path] = Future()
            # A daemon: what hangs must not keep the process.
            threading.Thread(target=_ask, args=(path, asked), name="statvfs", daemon=True).start()
        try:
            return asked.result(seconds)
        except NotInTime:
            return None
        except OSError:  # it isn't there
            return None
        finally:
            if asked.done():
                self._asked.pop(path)


def _ask(path: Path, asked: "Future[os.statvfs_result]") -> None:
    try:
        asked.set_result(os.statvfs(path))
    except OSError as error:
        asked.set_exception(error)
