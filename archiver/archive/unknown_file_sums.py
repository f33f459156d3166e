"""Lines in SHA256SUMS for files that others have put beside ours: best effort, on a thread that nothing waits for.

They make `sha256sum -c` prove a directory as a whole. But such a file may be huge, slow, still being copied, or
unreadable: so it is looked at only after our own file has its line and its event, one at a time, and what is skipped
is said once.
"""

import logging
import os
import queue
import stat
import threading
import time
from typing import NamedTuple, Self

from archiver.archive import checksums
from archiver.archive.location import Checksums, Location
from archiver.core.formatting import format_bytes
from archiver.storage import sha256sums
from archiver.storage.directory import Directory
from g3stream.service.cancellation import CancellationToken, Cancelled

log = logging.getLogger(__name__)

_UNCHANGED_SECONDS = 60.0
"""A file that has been written to since is taken to be still copied."""
_MAX_BYTES = 100 * 10**9
_MAX_SECONDS = 900.0
"""Of reading one file: 100 GB at 110 MB/s."""
_PAUSE = 20
"""How much longer than the last listing of a directory took to wait before the next: 50,000 names take 0.1 s."""
_STOP_SECONDS = 1.0
_MAX_REMEMBERED = 100_000
"""Files that are remembered, to say once what is skipped; more are said again."""


class _Version(NamedTuple):
    """What tells whether a file is still the one that was looked at. mtime: ns."""

    inode: int
    size: int
    mtime: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """That of a file."""
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


class Skipped(Exception):
    """A file gets no line; the message says why."""


class ForeignChecksums:
    """The thread, of one archive."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._stopping = CancellationToken()
        self._requests: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._waiting: set[str] = set()  # directories that are in the queue
        self._seen: dict[str, _Version] = {}  # by path: skipped for good, or given a line by us
        self._unlisted: dict[str, str] = {}  # directories, and why their files can't be listed, as it was said
        self._thread: threading.Thread | None = None

    def enqueue(self, stream: str, path: str) -> None:
        """Look at what lies beside that file of ours, soon; for one thread. Never waits, never raises."""
        parent = path.rpartition("/")[0]
        if parent in self._waiting or self._location.checksums is Checksums.OFF:
            return
        self._waiting.add(parent)
        self._requests.put((stream, parent))
        if self._thread is None:
            # A daemon: a read of a disk that hangs can't be interrupted, and must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="foreign-sums", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread, if that can be done within a second; it writes nothing afterwards that isn't under way."""
        self._stopping.set()
        self._requests.put(("", ""))
        if self._thread:
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while True:
            stream, parent = self._requests.get()
            if self._stopping.is_set():
                return
            self._waiting.discard(parent)
            begun = time.monotonic()
            try:
                lacking = self.missing_lines(parent)
                listed = time.monotonic()
                for name in lacking:
                    self.add(stream, parent, name)
            except Cancelled:
                return
            except OSError as error:
                listed = time.monotonic()
                if self._unlisted.get(parent) != str(error):
                    log.warning("%s: files beside ours get no line in SHA256SUMS: %s", parent, error)
                self._unlisted[parent] = str(error)
            except Exception:
                log.exception("%s: files beside ours get no line in SHA256SUMS: an error of this program", parent)
                listed = time.monotonic()
            self._stopping.wait(_PAUSE * (listed - begun))

    def missing_lines(self, parent: str) -> list[str]:
        """The files of a directory that have no line, or another than ours since they changed. Raises OSError."""
        said = checksums.lines(self._location, parent)
        with self._location.data(parent) as directory:
            names = [name for name in directory.names() if _is_valid_in_line(name)]
        return sorted(name for name in names if name not in said or f"{parent}/{name}" in self._seen)

    def add(self, stream: str, parent: str, name: str) -> None:
        """Give a file its line, if that can be done now. Raises Cancelled."""
        path = f"{parent}/{name}"
        try:
            with self._location.data(parent) as directory:
                found = directory.stat(name)
                if found is None or self._seen.get(path) == _Version.of(found):
                    return
                if abs(time.time() - found.st_mtime) < _UNCHANGED_SECONDS:
                    return  # it may still be copied; when the next file here is finished it is looked at again
                if len(self._seen) >= _MAX_REMEMBERED:
                    self._seen.clear()
                self._seen[path] = _Version.of(found)
                sha256 = self._digest(directory, name, found)
                now = directory.stat(name)
                if now is None or _Version.of(now) != _Version.of(found):
                    del self._seen[path]
                    return
                checksums.add(self._location, stream, path, sha256)
                log.info("%r isn't ours; it has a line in SHA256SUMS now", path)
        except (Skipped, sha256sums.ChecksumsUnusable, OSError) as error:
            log.warning("%r isn't ours, and gets no line in SHA256SUMS: %s", path, error)

    def _digest(self, directory: Directory, name: str, found: os.stat_result) -> str:
        """Its SHA-256. Raises Skipped, OSError, Cancelled."""
        if not stat.S_ISREG(found.st_mode):
            raise Skipped("it is no file")
        if found.st_size > _MAX_BYTES:
            raise Skipped(f"it has {format_bytes(found.st_size)}, more than {format_bytes(_MAX_BYTES)}")
        return sha256sums.digest(directory, name, _ReadLimit(self._stopping))


class _ReadLimit(CancellationToken):
    """Ends the reading of one file when the thread is to stop, or after a while."""

    def __init__(self, stopping: CancellationToken) -> None:
        super().__init__()
        self._stopping = stopping
        self._until = time.monotonic() + _MAX_SECONDS

    def raise_if_cancelled(self, what: str) -> None:
        """Raises Cancelled, Skipped."""
        self._stopping.raise_if_cancelled(what)
        if time.monotonic() > self._until:
            raise Skipped(f"it takes more than {_MAX_SECONDS:.0f} s to read")


def _is_valid_in_line(name: str) -> bool:
    # `sha256sum` escapes the names that can't stand in a line as they are; none of ours is one.
    return name.endswith(".g3") and name.isprintable() and "\\" not in name
