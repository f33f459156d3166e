"""Targets of rebuilt files that write them: into a directory, or in their place in an archive."""

import contextlib
import errno
import hashlib
import os
from collections import deque
from collections.abc import Container, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait

from archiver.archive.location import Within
from archiver.archive.root import ArchiveRoot
from archiver.core.paths import REBUILT, PartialName
from archiver.recovery.salvage import DAMAGED
from archiver.replay.rebuilt import (
    FileContent,
    RebuildOutcome,
    RebuildResult,
    RebuildTarget,
    RebuiltFile,
)
from archiver.storage import sha256sums
from archiver.storage.directory import Directory
from archiver.storage.page_cache import begin_writeback
from g3stream.service.cancellation import CancellationToken

_TASKS_BEHIND = 2
"""Of the two threads: one batch is written and digested, while the next one is read."""
_LARGE_BYTES = 256 << 10


class DigestedContent(FileContent):
    """Content that is digested, and written to a partial, if it has one, under a name that archivers ignore.

    Two threads, one writing and one digesting, follow `write` by a few batches at most.
    """

    def __init__(
        self, writer: Executor, digester: Executor, private: Directory | None = None, name: str = ""
    ) -> None:
        super().__init__()
        self.name = name
        """Of the partial; empty if there is none, as the file's own name is taken."""
        self.path = private.path / name if private else None
        """Of the partial."""
        self._fd = private.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL) if private else None
        self._writer, self._digester = writer, digester
        self._sha256 = hashlib.sha256()
        self._pending: list[bytes] = []
        self._in_progress: deque[Future[None]] = deque()

    def write(self, parts: Sequence[bytes]) -> None:
        """Buffer these bytes until the next flush."""
        super().write(parts)
        self._pending += parts

    def flush(self) -> None:
        """Start to write and digest what is buffered. Raises OSError, also of earlier batches."""
        if self._pending:
            parts, self._pending = self._pending, []
            size = sum(map(len, parts))
            if size < len(parts) * _LARGE_BYTES:
                # In one piece: after each call, a thread has to wait for the interpreter lock. Not large ones: a copy
                # takes as long as a third of their digest, and memory.
                parts = [b"".join(parts)]
            if self._fd is not None:
                self._in_progress.append(self._writer.submit(self._write, self._fd, parts, self.length - size))
            self._in_progress.append(self._digester.submit(self._digest, parts))
        self._wait(_TASKS_BEHIND)

    def finish(self) -> str:
        """Make it durable, and return the hex SHA-256. Raises OSError."""
        self._wait(0)
        if self._fd is not None:
            os.fsync(self._fd)
        return self._sha256.hexdigest()

    def close(self) -> None:
        """Close the file."""
        # Wait for all, after an error too: a later write would go to another file's descriptor.
        wait(self._in_progress)
        if self._fd is not None:
            os.close(self._fd)

    def _wait(self, most: int) -> None:
        while len(self._in_progress) > most:
            self._in_progress[0].result()  # kept in the queue for `close`, if this is interrupted
            self._in_progress.popleft()

    def _write(self, fd: int, parts: Sequence[bytes], at: int) -> None:
        start = at
        for part in parts:
            left = memoryview(part)
            while left:
                try:
                    done = os.pwrite(fd, left, at)
                except OSError as error:
                    raise OSError(error.errno, error.strerror, str(self.path)) from None
                left, at = left[done:], at + done
        begin_writeback(fd, start, at - start)

    def _digest(self, parts: Sequence[bytes]) -> None:
        for part in parts:
            self._sha256.update(part)


class DirectoryTarget(RebuildTarget):
    """A target that publishes files as an archiver does, but replaces no file, and uses no other name than their own.

    Files are finished on another thread; `wait` raises its errors.
    skip: paths of files not to be rebuilt.
    """

    def __init__(self, archive: ArchiveRoot, stream: str, skip: Container[str] = ()) -> None:
        super().__init__(skip)
        self._archive, self._stream = archive, stream
        self._finisher = ThreadPoolExecutor(1, "finishing")
        self._writer = ThreadPoolExecutor(1, "writing")
        self._digester = ThreadPoolExecutor(1, "digest")
        self._pending_results: list[Future[RebuildResult]] = []
        self._open: set[DigestedContent] = set()
        self._cancellation = CancellationToken()

    def begin(self, path: str, first_ms: int) -> FileContent:
        """Create a file; if its name is taken, it is only compared. Raises OSError."""
        parent, _, name = path.rpartition("/")
        if not self._archive.location.exists(Within(parent), name):
            return FileContent() if path in self._skip else self._create(path, first_ms)
        self._open.add(content := DigestedContent(self._writer, self._digester))
        return content

    def _create(self, path: str, first_ms: int) -> DigestedContent:
        name = f"{PartialName(path, first_ms, os.urandom(4).hex())}{REBUILT}"
        with self._archive.private(self._stream) as private:
            self._open.add(content := DigestedContent(self._writer, self._digester, private, name))
        return content

    def finish(self, file: RebuiltFile) -> None:
        """Publish or compare the file, after those before it. Raises OSError."""
        if isinstance(file.content, DigestedContent):
            self.flush(file)
            self._pending_results.append(self._finisher.submit(self._finalize, file, file.content))
        else:
            super().finish(file)

    def drop(self, file: RebuiltFile) -> None:
        """Remove the file. Raises OSError."""
        if isinstance(file.content, DigestedContent):
            self._open.remove(file.content)
            self._remove(file.content)

    def flush(self, file: RebuiltFile | None) -> None:
        """Write what is buffered of the open file. Raises OSError."""
        if file and isinstance(file.content, DigestedContent):
            file.content.flush()
        while self._pending_results and self._pending_results[0].done():
            self.results.append(self._pending_results.pop(0).result())

    def keep_partial(self, file: RebuiltFile) -> str:
        """Keep the open file as a partial, and return its path. Raises OSError."""
        if not isinstance(content := file.content, DigestedContent) or content.path is None:
            return ""
        content.flush()
        content.finish()
        self._open.remove(content)
        content.close()
        return str(content.path)

    def wait(self) -> None:
        """Wait until all files are finished. Raises OSError."""
        for finishing in self._pending_results:
            self.results.append(finishing.result())
        self._pending_results.clear()

    def close(self) -> None:
        """End the threads, and remove unfinished files, as after an error."""
        self._cancellation.set()
        self._finisher.shutdown(cancel_futures=True)
        for content in self._open:
            # The first error is reported already; `remove_leftovers` removes what stays.
            with contextlib.suppress(OSError):
                self._remove(content)
        for pool in (self._writer, self._digester):
            pool.shutdown(cancel_futures=True)

    def _remove(self, content: DigestedContent) -> None:
        content.close()
        if content.name:
            self._archive.discard(self._stream, content.name)

    def _finalize(self, file: RebuiltFile, content: DigestedContent) -> RebuildResult:
        sha256 = content.finish()
        if file.event and file.event.sha256 != sha256:
            outcome = RebuildOutcome.CHANGED
        else:
            outcome = (self._publish if content.name else self._compare)(file.path, content, sha256)
            if outcome is not RebuildOutcome.NAME_TAKEN:
                self._archive.add_checksum(self._stream, file.path, sha256)
        self.drop(file)
        return RebuildResult(file, content.length, outcome)

    def _publish(self, path: str, content: DigestedContent, sha256: str) -> RebuildOutcome:
        partial, length = content.name, content.length
        try:
            self._archive.publish(self._stream, partial, path, length, sha256, self._cancellation, exactly=True)
        except FileExistsError:
            return RebuildOutcome.NAME_TAKEN
        return RebuildOutcome.WRITTEN

    def _compare(self, path: str, content: DigestedContent, sha256: str) -> RebuildOutcome:
        parent, _, name = path.rpartition("/")
        with self._archive.location.data(parent) as directory:
            is_same = sha256sums.has_content(directory, name, content.length, sha256, self._cancellation)
        return RebuildOutcome.ALREADY_THERE if is_same else RebuildOutcome.NAME_TAKEN


class InPlaceTarget(DirectoryTarget):
    """A target that puts recorded files in their place in the archive, and keeps what was there.

    That is kept as NAME.damaged beside the file; in the private directory, if that isn't in the data directory.
    Each rebuilt file is read back, and must match its event, before anything is moved.
    """

    def begin(self, path: str, first_ms: int) -> FileContent:
        """Create a file, whatever is at its path. Raises OSError."""
        return self._create(path, first_ms)

    def _publish(self, path: str, content: DigestedContent, sha256: str) -> RebuildOutcome:
        parent, _, name = path.rpartition("/")
        with (
            self._archive.private(self._stream) as private,
            self._archive.location.data(parent, make=True) as directory,
        ):
            if sha256sums.digest(private, content.name, self._cancellation) != sha256:
                raise OSError(errno.EIO, "the disk returned other bytes than were written", str(content.path))
            if sha256sums.has_content(directory, name, content.length, sha256, self._cancellation):
                return RebuildOutcome.ALREADY_THERE  # repaired by another process meanwhile
            if directory.stat(name):
                if self._archive.location.private_dir:  # readers of the data directory find only recorded files in it
                    private.move_aside(directory, name, f"{path.replace('/', '.')}{DAMAGED}")
                else:
                    directory.move_aside(directory, name, f"{name}{DAMAGED}")
            private.publish(content.name, directory, name)
            directory.sync()
        return RebuildOutcome.WRITTEN


def remove_leftovers(archive: ArchiveRoot, stream: str) -> None:
    """Remove what a killed replay or repair left behind. The caller holds the stream's exclusive claim.

    Raises OSError.
    """
    with archive.private(stream) as private:
        for name in private.names():
            if name.endswith(REBUILT):
                private.unlink(name)
