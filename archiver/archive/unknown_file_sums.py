"""Lines in SHA256SUMS for unknown files beside ours: best effort, on a thread that nothing waits for.

With them `sha256sum -c` verifies a directory as a whole. But such a file may be huge, slow, still being copied, or
unreadable: so they are read only after our own file has its line and its event, one at a time, and a skipped file is
logged once.
"""

import hashlib
import logging
import os
import queue
import stat
import threading
import time

from archiver.archive import checksums
from archiver.archive.location import Checksums, Location
from archiver.core.formatting import format_bytes
from archiver.storage import sha256sums
from archiver.storage.directory import Directory
from g3stream.service.cancellation import CancellationToken, Cancelled

log = logging.getLogger(__name__)

_UNCHANGED_SECONDS = 60.0
"""A file that was written to more recently may still be being copied."""
_MAX_BYTES = 100 * 10**9
_MAX_SECONDS = 900.0
"""Of reading one file: 100 GB at 110 MB/s."""
_PAUSE = 20
"""Wait so many times as long as the last listing of a directory took, before the next: 50,000 names take 0.1 s."""
_STOP_SECONDS = 1.0
_MAX_REMEMBERED = 100_000
"""Files that are remembered, to log each skipped one once; with more they are logged again."""


_Version = tuple[int, int, int]
"""A file's inode, size and mtime in ns, to notice when it changes."""


class UnknownFileChecksums:
    """Adds the lines for one archive, on its own thread."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._stopping = CancellationToken()
        self._requests: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._waiting: set[str] = set()  # directories that are in the queue
        self._seen: dict[str, _Version] = {}  # by path: those skipped for good, or given a line by us
        self._unlisted: dict[str, str] = {}  # directories whose files can't be listed, and why, as it was logged
        self._thread: threading.Thread | None = None

    def enqueue(self, stream: str, path: str) -> None:
        """Process the files beside that one of ours, soon; for one thread. Never waits, never raises."""
        parent = path.rpartition("/")[0]
        if parent in self._waiting or self._location.checksums is Checksums.OFF:
            return
        self._waiting.add(parent)
        self._requests.put((stream, parent))
        if self._thread is None:
            # A daemon: a read from a hanging disk can't be interrupted, and must not keep the process from exiting.
            self._thread = threading.Thread(target=self._run, name="unknown-sums", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop the thread, waiting a second at most; afterwards it writes nothing that it hasn't begun."""
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
            begun = listed = time.monotonic()
            try:
                missing = self.missing_lines(parent)
                listed = time.monotonic()
                for name in missing:
                    self.add(stream, parent, name)
            except Cancelled:
                return
            except OSError as error:
                if self._unlisted.get(parent) != str(error):
                    log.warning("%s: unknown files get no line in SHA256SUMS: %s; still trying", parent, error)
                self._unlisted[parent] = str(error)
            except Exception:
                text = "%s: unknown files get no line in SHA256SUMS: an error of this program; recording continues"
                log.exception(text, parent)
            self._stopping.wait(_PAUSE * (listed - begun))

    def missing_lines(self, parent: str) -> list[str]:
        """The files without a line, and those that may have changed since we added theirs. Raises OSError."""
        lines = checksums.lines(self._location, parent)
        with self._location.data(parent) as directory:
            names = [name for name in directory.names() if _is_valid_in_line(name)]
        return sorted(name for name in names if name not in lines or f"{parent}/{name}" in self._seen)

    def add(self, stream: str, parent: str, name: str) -> None:
        """Add a file's line, if that can be done now. Raises Cancelled."""
        path = f"{parent}/{name}"
        try:
            with self._location.data(parent) as directory:
                found = directory.stat(name)
                if found is None or self._seen.get(path) == (version := _version(found)):
                    return
                if abs(time.time() - found.st_mtime) < _UNCHANGED_SECONDS:
                    return  # it may still be being copied; it is checked again when our next file is finished
                if len(self._seen) >= _MAX_REMEMBERED:
                    self._seen.clear()
                self._seen[path] = version
                sha256 = self._digest(directory, name, found)
                now = directory.stat(name)
                if now is None or _version(now) != version:
                    del self._seen[path]
                    return
                checksums.add(self._location, stream, path, sha256)
                log.info("added a line to SHA256SUMS for an unknown file: %r", path)
        except (sha256sums.ChecksumsUnusable, OSError) as error:
            text = "no line in SHA256SUMS for the unknown file %r: %s; no recorded file is affected"
            log.warning(text, path, error)

    def _digest(self, directory: Directory, name: str, found: os.stat_result) -> str:
        """Compute its SHA-256. Raises OSError, also if the file gets no line, Cancelled."""
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it isn't a regular file")
        if found.st_size > _MAX_BYTES:
            raise OSError(f"it has {format_bytes(found.st_size)}, more than {format_bytes(_MAX_BYTES)}")
        sha256, until = hashlib.sha256(), time.monotonic() + _MAX_SECONDS
        for block in directory.blocks(name):
            self._stopping.raise_if_cancelled(f"reading {name}")
            if time.monotonic() > until:
                raise OSError(f"it takes more than {_MAX_SECONDS:.0f} s to read")
            sha256.update(block)
        return sha256.hexdigest()


def _version(found: os.stat_result) -> _Version:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _is_valid_in_line(name: str) -> bool:
    # `sha256sum` escapes other names; none of ours is one.
    return name.endswith(".g3") and name.isprintable() and "\\" not in name
