"""Reuse of acknowledged spool files: one file is kept to be overwritten.

Overwriting pages in the kernel's page cache and allocated blocks takes a quarter of the time of new ones (0.1 instead
of 0.4 ms for 1 MB), and the next sync has no new block allocations to record.
"""

import contextlib
import os
from pathlib import Path


class FileRecycler:
    """Keeps at most one file of that directory for reuse. Not thread-safe.

    A file that an earlier ingest left is removed. Raises OSError.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "spare"
        self._has_file = False
        self._path.unlink(missing_ok=True)

    def offer(self, path: Path) -> bool:
        """Keep that file for reuse. Returns False if there is one already, or if it can't be renamed."""
        if self._has_file:
            return False
        with contextlib.suppress(OSError):
            path.rename(self._path)
            self._has_file = True
        return self._has_file

    def reuse(self, path: Path) -> int | None:
        """Rename the kept file to `path` and return it open for writing; None if there is none.

        Its old content stays until it is overwritten. Raises OSError if it can't be opened.
        """
        if not self._has_file:
            return None
        # Opened before it is renamed: a file that had its new name but couldn't be opened would, after a kill, be
        # taken for the next file, which begins with the same key.
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
        """Delete the kept file, to free its disk space."""
        if self._has_file:
            self._has_file = False
            with contextlib.suppress(OSError):
                os.truncate(self._path, 0)  # it may still be open, which would keep its space
                self._path.unlink()
