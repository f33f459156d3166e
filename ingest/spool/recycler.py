"""A file of the spool that nothing waits in any more, kept to be written over.

Pages that the kernel has in memory, and blocks that the disk has given, take a quarter of the time of new ones
(0.1 instead of 0.4 ms for 1 MB), and the next sync need not note where they are.
"""

import contextlib
import os
from pathlib import Path


class FileRecycler:
    """At most one such file in that directory; one that an earlier ingest left is removed. Raises OSError.

    For one thread at a time."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "spare"
        self._has_file = False
        self._path.unlink(missing_ok=True)

    def offer(self, path: Path) -> bool:
        """Whether that file is the spare one now; not if there is one."""
        if self._has_file:
            return False
        with contextlib.suppress(OSError):
            path.rename(self._path)
            self._has_file = True
        return self._has_file

    def reuse(self, path: Path) -> int | None:
        """Give the file that name, and give it open, to be written, if there is one. What is in it stays until it is
        written over. Raises OSError if it can't be opened."""
        if not self._has_file:
            return None
        # Before it has its name: a file with a name that the spool doesn't know of would, after a kill, seem to be
        # what the next one is, which begins with the same key.
        fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            self._path.rename(path)
        except OSError:
            os.close(fd)
            return None
        finally:
            self._has_file = False
        return fd

    def discard(self) -> None:
        """Give its room back to the disk."""
        if self._has_file:
            self._has_file = False
            with contextlib.suppress(OSError):
                os.truncate(self._path, 0)  # it may be open still
                self._path.unlink()
