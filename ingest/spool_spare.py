"""A file of the spool that nothing waits in any more, kept to be written over.

Pages that the kernel has in memory, and blocks that the disk has given, take a quarter of the time of new ones
(0.1 instead of 0.4 ms for 1 MB), and the next sync need not note where they are.
"""

import contextlib
import os
from pathlib import Path


class Spare:
    """At most one such file in that directory; one that an earlier ingest left is removed. Raises OSError."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "spare"
        self._there = False
        self._path.unlink(missing_ok=True)

    def keep(self, path: Path) -> bool:
        """Whether that file is the spare one now; not if there is one."""
        if self._there:
            return False
        with contextlib.suppress(OSError):
            path.rename(self._path)
            self._there = True
        return self._there

    def become(self, path: Path) -> None:
        """Give the file that name, if there is one. What is in it stays until it is written over."""
        if self._there:
            self._there = False
            with contextlib.suppress(OSError):
                self._path.rename(path)

    def drop(self) -> None:
        """Give its room back to the disk."""
        if self._there:
            self._there = False
            with contextlib.suppress(OSError):
                os.truncate(self._path, 0)  # it may be open still
                self._path.unlink()
