"""Where rebuilt files go: into a directory, beside what is there, or nowhere."""

import contextlib
import errno
import hashlib
import os
from collections import deque
from collections.abc import Container, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import StrEnum

from archiver.archive.location import Location
from archiver.archive.root import ArchiveRoot
from archiver.core.paths import REBUILT, PartialName
from archiver.recovery.salvage import DAMAGED
from archiver.replay.rebuilder import Content, Rebuilt
from archiver.storage import sha256sums
from archiver.storage.page_cache import begin_writeback
from g3stream.service.cancellation import Abandoned

_BATCHES_BEHIND = 4


class Outcome(StrEnum):
    """What became of a rebuilt file."""

    WRITTEN = "written"
    THERE = "already there"
    OTHER = "another file has its name; it was left"
    CHANGED = "not what was recorded, so not written"
    RETIRED = "retired, so not made again"


@dataclass(frozen=True, slots=True)
class Done:
    """A file that was rebuilt, and what became of it."""

    file: Rebuilt
    bytes: int
    outcome: Outcome | None


class Sized:
    """A file of which only the size is wanted."""

    def __init__(self) -> None:
        self.length = 0

    def write(self, parts: Sequence[bytes]) -> None:
        """Count these."""
        self.length += sum(map(len, parts))


class Compared(Sized):
    """A file whose name is taken: only its digest is wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.sha = hashlib.sha256()

    def write(self, parts: Sequence[bytes]) -> None:
        """Digest these."""
        super().write(parts)
        for part in parts:
            self.sha.update(part)


class New:
    """A file that is written: a partial of a name that no archiver takes for one of its own.

    Two threads, one that writes and one that digests, follow what is given to `write`, a few batches behind at most.
    """

    def __init__(self, archive: ArchiveRoot, stream: str, name: str, writer: Executor, digester: Executor) -> None:
        self.name = name
        self.length = 0
        with archive.private(stream) as private:
            self._path = private.path / name
            self._fd = private.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._writer, self._digester = writer, digester
        self._sha = hashlib.sha256()
        self._pending: list[bytes] = []
        self._under_way: deque[Future[None]] = deque()

    def write(self, parts: Sequence[bytes]) -> None:
        """Append these, from the next flush on."""
        self._pending += parts
        self.length += sum(map(len, parts))

    def flush(self) -> None:
        """Have written and digested what is pending. Raises OSError, also of earlier batches."""
        if self._pending:
            # In one piece: each call of a thread that is done has to wait for the interpreter.
            data = b"".join(self._pending)
            self._pending.clear()
            self._under_way.append(self._writer.submit(self._write, data, self.length - len(data)))
            self._under_way.append(self._digester.submit(self._sha.update, data))
        self._wait(_BATCHES_BEHIND)

    def finished(self) -> str:
        """Durable; gives the hex SHA-256. Raises OSError."""
        self._wait(0)
        os.fsync(self._fd)
        return self._sha.hexdigest()

    def close(self) -> None:
        """Let go of it."""
        wait(self._under_way)  # all, after an error too: what was written later would go to another file's descriptor
        os.close(self._fd)

    def _wait(self, most: int) -> None:
        while len(self._under_way) > most:
            self._under_way[0].result()  # it stays where `close` finds it, if this is interrupted
            self._under_way.popleft()

    def _write(self, data: bytes, at: int) -> None:
        done = 0
        with memoryview(data) as view:
            while done < len(data):
                try:
                    done += os.pwrite(self._fd, view[done:], at + done)
                except OSError as error:
                    raise OSError(error.errno, error.strerror, str(self._path)) from None
        begin_writeback(self._fd, at, done)


class LeftOut(Sized):
    """A file that isn't to be made."""


class DryRun:
    """A target that writes nothing. leave_out: paths of files that wouldn't be made."""

    def __init__(self, leave_out: Container[str] = ()) -> None:
        self.done: list[Done] = []
        self._leave_out = leave_out

    def begin(self, stream: str, path: str, first: int) -> Content:  # noqa: ARG002 - a Target's signature
        """A file of which only the size is wanted."""
        return LeftOut() if path in self._leave_out else Sized()

    def finish(self, file: Rebuilt) -> None:
        """It would be written."""
        assert file.content
        outcome = Outcome.RETIRED if isinstance(file.content, LeftOut) else None
        self.done.append(Done(file, file.content.length, outcome))

    def drop(self, file: Rebuilt) -> None:
        """It wouldn't."""

    def flush(self, file: Rebuilt | None) -> None:
        """Nothing is pending."""

    def leave(self, file: Rebuilt) -> str:  # noqa: ARG002
        """Nothing is left."""
        return ""

    def wait(self) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        """Nothing is open."""


class IntoDirectory:
    """A target that publishes files as an archiver does, but replaces no file and takes no other name than its own.

    Finishing goes on on a thread of its own; `wait` raises what it raised. leave_out: paths of files not to be made.
    """

    def __init__(self, archive: ArchiveRoot, leave_out: Container[str] = ()) -> None:
        self.done: list[Done] = []
        self._leave_out = leave_out
        self._archive = archive
        self._finisher = ThreadPoolExecutor(1, "finishing")
        self._writer = ThreadPoolExecutor(1, "writing")
        self._digester = ThreadPoolExecutor(1, "digest")
        self._finishing: list[Future[Done]] = []
        self._begun: dict[New, str] = {}  # and their streams
        self._abandoned = Abandoned()

    def begin(self, stream: str, path: str, first: int) -> Content:
        """A new file; or, if its name is taken, one that is only compared. Raises OSError."""
        if path in self._leave_out and not exists(self._archive.location, path):
            return LeftOut()
        return Compared() if exists(self._archive.location, path) else self._new(stream, path, first)

    def _new(self, stream: str, path: str, first: int) -> New:
        name = f"{PartialName(path, first, os.urandom(4).hex())}{REBUILT}"
        new = New(self._archive, stream, name, self._writer, self._digester)
        self._begun[new] = stream
        return new

    def finish(self, file: Rebuilt) -> None:
        """Publish or compare it, in its turn. Raises OSError."""
        if isinstance(file.content, LeftOut):
            self.done.append(Done(file, file.content.length, Outcome.RETIRED))
            return
        self.flush(file)
        self._finishing.append(self._finisher.submit(self._finish, file))

    def drop(self, file: Rebuilt) -> None:
        """Remove it. Raises OSError."""
        if isinstance(file.content, New):
            del self._begun[file.content]
            self._remove(file.stream, file.content)

    def flush(self, file: Rebuilt | None) -> None:
        """Write what is pending of the open file. Raises OSError."""
        if file and isinstance(file.content, New):
            file.content.flush()
        while self._finishing and self._finishing[0].done():
            self.done.append(self._finishing.pop(0).result())

    def leave(self, file: Rebuilt) -> str:
        """Leave the open file as a partial; gives its path. Raises OSError."""
        if not isinstance(new := file.content, New):
            return ""
        new.flush()
        new.finished()
        del self._begun[new]
        new.close()
        with self._archive.private(file.stream) as private:
            return str(private.path / new.name)

    def wait(self) -> None:
        """Until all that was begun is finished. Raises OSError."""
        for finishing in self._finishing:
            self.done.append(finishing.result())
        self._finishing.clear()

    def close(self) -> None:
        """End the threads, and remove what isn't finished, as after an error."""
        self._abandoned.set()
        self._finisher.shutdown(cancel_futures=True)
        for new, stream in self._begun.items():
            with contextlib.suppress(OSError):  # the error that has ended all this is told; `tidy` sees to what stays
                self._remove(stream, new)
        for pool in (self._writer, self._digester):
            pool.shutdown(cancel_futures=True)

    def _remove(self, stream: str, new: New) -> None:
        new.close()
        self._archive.discard(stream, new.name)

    def _finish(self, file: Rebuilt) -> Done:
        content = file.content
        assert isinstance(content, New | Compared)
        sha256 = self._digest(content)
        length = content.length
        if file.told and file.told.sha256 != sha256:
            outcome = Outcome.CHANGED
        elif isinstance(content, New):
            outcome = self._publish(file, content, sha256)
        else:
            outcome = self._compare(file, length, sha256)
        self.drop(file)
        return Done(file, length, outcome)

    def _digest(self, content: New | Compared) -> str:
        return content.sha.hexdigest() if isinstance(content, Compared) else content.finished()

    def _publish(self, file: Rebuilt, new: New, sha256: str) -> Outcome:
        try:
            self._archive.publish_exactly(file.stream, new.name, file.path, new.length, sha256, self._abandoned)
        except FileExistsError:
            return Outcome.OTHER
        self._archive.add_sum(file.stream, file.path, sha256)
        return Outcome.WRITTEN

    def _compare(self, file: Rebuilt, length: int, sha256: str) -> Outcome:
        parent, _, name = file.path.rpartition("/")
        with self._archive.location.data(parent) as directory:
            found = directory.stat(name)
            if not (found and found.st_size == length and directory.is_file(name)) or (
                sha256sums.digest(directory, name, self._abandoned) != sha256
            ):
                return Outcome.OTHER
        self._archive.add_sum(file.stream, file.path, sha256)
        return Outcome.THERE


class IntoPlace(IntoDirectory):
    """A target that puts files where they belong in their archive, and keeps what was there: as NAME.damaged beside
    them, or, if the private directory isn't in the data directory, in that.

    For files that were told of: they are read back, and must be what was told, before anything is moved.
    """

    def begin(self, stream: str, path: str, first: int) -> Content:
        """A new file, whatever is at its path. Raises OSError."""
        return self._new(stream, path, first)

    def _publish(self, file: Rebuilt, new: New, sha256: str) -> Outcome:
        parent, _, name = file.path.rpartition("/")
        with (
            self._archive.private(file.stream) as private,
            self._archive.location.data(parent, make=True) as directory,
        ):
            if sha256sums.digest(private, new.name, self._abandoned) != sha256:
                raise OSError(
                    errno.EIO, "the disk gives back other bytes than were written", str(private.path / new.name)
                )
            found = directory.stat(name)
            if (
                found
                and (found.st_size == new.length and directory.is_file(name))
                and (sha256sums.digest(directory, name, self._abandoned) == sha256)
            ):
                return self._compare(
                    file, new.length, sha256
                )  # mended by another repair since it was found to be broken
            if found:
                if self._archive.private_dir:  # whoever reads the data directory finds nothing but files in it
                    private.keep(directory, name, f"{file.path.replace('/', '.')}{DAMAGED}")
                else:
                    directory.keep(directory, name, f"{name}{DAMAGED}")
            private.publish(new.name, directory, name)
            directory.sync()
        self._archive.add_sum(file.stream, file.path, sha256)
        return Outcome.WRITTEN


def exists(location: Location, path: str) -> bool:
    """Whether something has that path below the data directory. Raises OSError."""
    parent, _, name = path.rpartition("/")
    try:
        with location.data(parent) as directory:
            return directory.stat(name) is not None
    except FileNotFoundError:
        return False


def tidy(archive: ArchiveRoot, stream: str) -> None:
    """Remove what a replay or a repair left behind that was killed; for who is alone with that. Raises OSError."""
    with archive.private(stream) as private:
        for name in private.names():
            if name.endswith(REBUILT):
                private.unlink(name)
