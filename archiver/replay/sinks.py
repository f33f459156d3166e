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
    SkippedContent,
)
from archiver.storage import sha256sums
from archiver.storage.page_cache import begin_writeback
from g3stream.service.cancellation import CancellationToken

_TASKS_BEHIND = 2
"""Of the two threads: one batch is written and digested, while the next one is read."""
_LARGE_BYTES = 256 << 10


class DigestOnly(FileContent):
    """Content of which only the digest is computed, as its name is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.sha256 = hashlib.sha256()

    def write(self, parts: Sequence[bytes]) -> None:
        """Digest these bytes."""
        super().write(parts)
        for part in parts:
            self.sha256.update(part)


class PartialContent(FileContent):
    """Content that is written to a partial, under a name that archivers ignore.

    Two threads, one writing and one digesting, follow `write` by a few batches at most.
    """

    def __init__(self, archive: ArchiveRoot, stream: str, name: str, writer: Executor, digester: Executor) -> None:
        super().__init__()
        self.name = name
        with archive.private(stream) as private:
            self._path = private.path / name
            self._fd = private.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
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
            self._in_progress.append(self._writer.submit(self._write, parts, self.length - size))
            self._in_progress.append(self._digester.submit(self._digest, parts))
        self._wait(_TASKS_BEHIND)

    def finish(self) -> str:
        """Make it durable, and return the hex SHA-256. Raises OSError."""
        self._wait(0)
        os.fsync(self._fd)
        return self._sha256.hexdigest()

    def close(self) -> None:
        """Close the file."""
        # Wait for all, after an error too: a later write would go to another file's descriptor.
        wait(self._in_progress)
        os.close(self._fd)

    def _wait(self, most: int) -> None:
        while len(self._in_progress) > most:
            self._in_progress[0].result()  # kept in the queue for `close`, if this is interrupted
            self._in_progress.popleft()

    def _write(self, parts: Sequence[bytes], at: int) -> None:
        start = at
        for part in parts:
            left = memoryview(part)
            while left:
                try:
                    done = os.pwrite(self._fd, left, at)
                except OSError as error:
                    raise OSError(error.errno, error.strerror, str(self._path)) from None
                left, at = left[done:], at + done
        begin_writeback(self._fd, start, at - start)

    def _digest(self, parts: Sequence[bytes]) -> None:
        for part in parts:
            self._sha256.update(part)


class DirectoryTarget(RebuildTarget):
    """A target that publishes files as an archiver does, but replaces no file, and uses no other name than their own.

    Files are finished on another thread; `wait` raises its errors.
    skip: paths of files not to be rebuilt.
    """

    def __init__(self, archive: ArchiveRoot, skip: Container[str] = ()) -> None:
        super().__init__(skip)
        self._archive = archive
        self._finisher = ThreadPoolExecutor(1, "finishing")
        self._writer = ThreadPoolExecutor(1, "writing")
        self._digester = ThreadPoolExecutor(1, "digest")
        self._pending_results: list[Future[RebuildResult]] = []
        self._open_partials: dict[PartialContent, str] = {}  # with their streams
        self._cancellation = CancellationToken()

    def begin(self, stream: str, path: str, first_ms: int) -> FileContent:
        """Create a file; if its name is taken, it is only compared. Raises OSError."""
        parent, _, name = path.rpartition("/")
        if self._archive.location.exists(Within(parent), name):
            return DigestOnly()
        return SkippedContent() if path in self._skip else self._new(stream, path, first_ms)

    def _new(self, stream: str, path: str, first_ms: int) -> PartialContent:
        name = f"{PartialName(path, first_ms, os.urandom(4).hex())}{REBUILT}"
        new = PartialContent(self._archive, stream, name, self._writer, self._digester)
        self._open_partials[new] = stream
        return new

    def finish(self, file: RebuiltFile) -> None:
        """Publish or compare the file, after those before it. Raises OSError."""
        if isinstance(file.content, SkippedContent):
            super().finish(file)
            return
        self.flush(file)
        self._pending_results.append(self._finisher.submit(self._finalize, file))

    def drop(self, file: RebuiltFile) -> None:
        """Remove the file. Raises OSError."""
        if isinstance(file.content, PartialContent):
            del self._open_partials[file.content]
            self._remove(file.stream, file.content)

    def flush(self, file: RebuiltFile | None) -> None:
        """Write what is buffered of the open file. Raises OSError."""
        if file and isinstance(file.content, PartialContent):
            file.content.flush()
        while self._pending_results and self._pending_results[0].done():
            self.results.append(self._pending_results.pop(0).result())

    def keep_partial(self, file: RebuiltFile) -> str:
        """Keep the open file as a partial, and return its path. Raises OSError."""
        if not isinstance(new := file.content, PartialContent):
            return ""
        new.flush()
        new.finish()
        del self._open_partials[new]
        new.close()
        with self._archive.private(file.stream) as private:
            return str(private.path / new.name)

    def wait(self) -> None:
        """Wait until all files are finished. Raises OSError."""
        for finishing in self._pending_results:
            self.results.append(finishing.result())
        self._pending_results.clear()

    def close(self) -> None:
        """End the threads, and remove unfinished files, as after an error."""
        self._cancellation.set()
        self._finisher.shutdown(cancel_futures=True)
        for new, stream in self._open_partials.items():
            # The first error is reported already; `remove_leftovers` removes what stays.
            with contextlib.suppress(OSError):
                self._remove(stream, new)
        for pool in (self._writer, self._digester):
            pool.shutdown(cancel_futures=True)

    def _remove(self, stream: str, new: PartialContent) -> None:
        new.close()
        self._archive.discard(stream, new.name)

    def _finalize(self, file: RebuiltFile) -> RebuildResult:
        content = file.content
        assert isinstance(content, PartialContent | DigestOnly)
        sha256 = self._digest(content)
        length = content.length
        if file.event and file.event.sha256 != sha256:
            outcome = RebuildOutcome.CHANGED
        elif isinstance(content, PartialContent):
            outcome = self._publish(file, content, sha256)
        else:
            outcome = self._compare(file, length, sha256)
        self.drop(file)
        return RebuildResult(file, length, outcome)

    def _digest(self, content: PartialContent | DigestOnly) -> str:
        return content.sha256.hexdigest() if isinstance(content, DigestOnly) else content.finish()

    def _publish(self, file: RebuiltFile, new: PartialContent, sha256: str) -> RebuildOutcome:
        content = new.name, file.path, new.length, sha256
        try:
            self._archive.publish(file.stream, *content, self._cancellation, exactly=True)
        except FileExistsError:
            return RebuildOutcome.NAME_TAKEN
        self._archive.add_checksum(file.stream, file.path, sha256)
        return RebuildOutcome.WRITTEN

    def _compare(self, file: RebuiltFile, length: int, sha256: str) -> RebuildOutcome:
        parent, _, name = file.path.rpartition("/")
        with self._archive.location.data(parent) as directory:
            if not sha256sums.has_content(directory, name, length, sha256, self._cancellation):
                return RebuildOutcome.NAME_TAKEN
        self._archive.add_checksum(file.stream, file.path, sha256)
        return RebuildOutcome.ALREADY_THERE


class InPlaceTarget(DirectoryTarget):
    """A target that puts recorded files in their place in the archive, and keeps what was there.

    That is kept as NAME.damaged beside the file; in the private directory, if that isn't in the data directory.
    Each rebuilt file is read back, and must match its event, before anything is moved.
    """

    def begin(self, stream: str, path: str, first_ms: int) -> FileContent:
        """Create a file, whatever is at its path. Raises OSError."""
        return self._new(stream, path, first_ms)

    def _publish(self, file: RebuiltFile, new: PartialContent, sha256: str) -> RebuildOutcome:
        parent, _, name = file.path.rpartition("/")
        with (
            self._archive.private(file.stream) as private,
            self._archive.location.data(parent, make=True) as directory,
        ):
            if sha256sums.digest(private, new.name, self._cancellation) != sha256:
                raise OSError(
                    errno.EIO, "the disk returned other bytes than were written", str(private.path / new.name)
                )
            if sha256sums.has_content(directory, name, new.length, sha256, self._cancellation):
                return self._compare(file, new.length, sha256)  # repaired by another process meanwhile
            if directory.stat(name):
                if self._archive.location.private_dir:  # readers of the data directory find only recorded files in it
                    private.move_aside(directory, name, f"{file.path.replace('/', '.')}{DAMAGED}")
                else:
                    directory.move_aside(directory, name, f"{name}{DAMAGED}")
            private.publish(new.name, directory, name)
            directory.sync()
        self._archive.add_checksum(file.stream, file.path, sha256)
        return RebuildOutcome.WRITTEN


def remove_leftovers(archive: ArchiveRoot, stream: str) -> None:
    """Remove what a killed replay or repair left behind. The caller holds the stream's exclusive claim.

    Raises OSError.
    """
    with archive.private(stream) as private:
        for name in private.names():
            if name.endswith(REBUILT):
                private.unlink(name)
