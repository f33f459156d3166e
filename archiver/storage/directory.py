"""A directory below a root, opened without following links.

Others may put anything below the data directory. So nothing is opened by its path: from the root on, each directory
is opened relative to the one above it (openat(2), O_NOFOLLOW), and each file relative to its directory.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from archiver.core.formatting import format_bytes
from archiver.storage.no_replace import NO_LINKS, link_or_rename
from g3stream.host.fsync import sync_names

_BLOCK = 1 << 19
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


class Directory:
    """An open directory; as a context manager it closes itself."""

    def __init__(self, root: Path, below: str, make: "Callable[[Directory], None] | None" = None) -> None:
        """Open the directory `below` the root ("" for the root itself). Raises OSError, with the whole path.

        make: if given, missing directories are created, durably; before, it is called with the root, and raises
        OSError if nothing may be created there, as it is an empty mount point.
        """
        self.path, self.below = root, below
        self.fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        """Its descriptor, while it is open."""
        at = root
        try:
            if make:
                make(self)
            self.path = root / below
            for name in filter(None, below.split("/")):
                at /= name
                self._enter(name, make=make is not None)
        except OSError as error:
            os.close(self.fd)
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise OSError(error.errno, "a link or a file is where a directory should be", str(at)) from None
            raise

    def lock(self, name: str, how: int) -> int:
        """Open a file, create it if missing, and lock it without waiting; returns the descriptor.

        how: fcntl.LOCK_EX or LOCK_SH. Closing the descriptor releases the lock. Raises BlockingIOError if another
        process holds a conflicting lock, OSError.
        """
        fd = self.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self.flock(fd, how, name)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def flock(self, fd: int, how: int, name: str) -> None:
        """Lock an open file without waiting; as `lock`. name: the file's, for error messages.

        Raises OSError also if the file system has no locks.
        """
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:
            why = error.strerror
            if error.errno in _NO_LOCKS:
                why = (
                    f"its file system has no locks (flock: {why}); mount it with them "
                    "(Lustre: -o flock; NFSv3: with a lock daemon), or choose another"
                )
            raise OSError(error.errno, why, str(self.path / name)) from None

    def open(self, name: str, flags: int, mode: int = 0o666) -> int:
        """Open or create a file in it; returns the descriptor. mode: of a new file, less the umask. Raises OSError.

        With O_NONBLOCK: opening a named pipe that somebody has put there would wait for its other end.
        """
        try:
            return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode, dir_fd=self.fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path / name)) from None

    @contextlib.contextmanager
    def opened(self, name: str, flags: int = os.O_RDONLY) -> Iterator[int]:
        """Open or create a file as `open` does, until the end of the with statement."""
        fd = self.open(name, flags)
        try:
            yield fd
        finally:
            os.close(fd)

    def read(self, name: str, most: int, at: int = 0) -> bytes:
        """Read at most `most` bytes of a regular file, from position `at` on. Raises OSError."""
        self._check_regular(name)
        with self.opened(name) as fd:
            return os.pread(fd, max(0, min(most, os.fstat(fd).st_size - at)), at)

    def blocks(self, name: str) -> Iterator[bytes]:
        """Read a regular file block by block. Raises OSError."""
        self._check_regular(name)
        with self.opened(name) as fd:
            while block := os.read(fd, _BLOCK):
                yield block

    def _check_regular(self, name: str) -> None:
        if self.stat(name) and not self.is_file(name):
            raise OSError(errno.EINVAL, "not a regular file", str(self.path / name))

    def names(self) -> list[str]:
        """The names of all that is in it. Raises OSError."""
        return os.listdir(self.fd)  # noqa: PTH208 - a Path has no descriptor

    def stat(self, name: str) -> os.stat_result | None:
        """Stat a name, without following a link; None if it doesn't exist. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        return None

    def is_file(self, name: str) -> bool:
        """Whether that name is a regular file, not a link. Raises OSError."""
        found = self.stat(name)
        return found is not None and stat.S_ISREG(found.st_mode)

    def publish(self, name: str, to: "Directory", new: str) -> None:
        """Give a file the name `new` in `to`, atomically and without replacing anything there.

        On a file system without hard links it loses its old name. Raises FileExistsError, FileNotFoundError, OSError
        (no_replace.py).
        """
        try:
            link_or_rename(name, self.fd, new, to.fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(to.path / new)) from None

    def link(self, name: str, new: str) -> bool:
        """Give a file a second name in the same directory; False without hard links. Raises OSError."""
        try:
            os.link(name, new, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return False
        return True

    def rename(self, name: str, to: "Directory", new: str) -> None:
        """Move a file to `to`, replacing a file that has the new name there. Raises OSError."""
        os.rename(name, new, src_dir_fd=self.fd, dst_dir_fd=to.fd)

    def move_aside(self, directory: "Directory", name: str, new: str) -> None:
        """Move anything from another directory to this one, durably, under the name `new`. Raises OSError.

        If that name is taken, a number is appended.
        """
        numbers = itertools.count(2)
        free = new
        while self.stat(free):
            free = f"{new}.{next(numbers)}"
        directory.rename(name, self, free)
        self.sync()
        directory.sync()

    def unlink(self, name: str) -> None:
        """Remove a file, if it exists. Raises OSError."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path / name)) from None

    @contextlib.contextmanager
    def temporary_file(self, name: str, data: bytes) -> Iterator[str]:
        """A new durable file with this content, to be given its name in the with statement, which then removes it.

        Yields its name, `name` with a random suffix. Raises OSError; then there is no such file.
        """
        temporary = f"{name}.{os.urandom(4).hex()}"
        try:
            with os.fdopen(self.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            self.unlink(temporary)

    def replace_file(
        self, name: str, data: bytes, *, scratch: "Directory | None" = None, prefix: str | None = None
    ) -> None:
        """Replace a file's content, durably and atomically. Raises OSError; then nothing has changed.

        scratch: where the temporary file is written, by default here; prefix: of its name, by default `name`.
        """
        scratch = scratch or self
        with scratch.temporary_file(prefix or name, data) as temporary:
            scratch.rename(temporary, self, name)
        self.sync()

    def check_free_space(self, count: int, name: str) -> None:
        """Raises OSError (ENOSPC) if there is no room for a copy of a file, of `count` bytes.

        Otherwise the copy would fill the disk for all who write there.
        """
        disk = os.fstatvfs(self.fd)
        free = disk.f_bavail * disk.f_frsize
        if free < count:
            needs = f"a copy of it needs {format_bytes(count)}, {format_bytes(free)} are free"
            raise OSError(errno.ENOSPC, needs, str(self.path / name))

    def sync(self) -> None:
        """Make its names durable, where the file system can do that (g3stream/host/fsync.py). Raises OSError."""
        sync_names(self.fd)

    def close(self) -> None:
        """Close its descriptor."""
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _enter(self, name: str, *, make: bool) -> None:
        try:
            new = self._subdirectory(name)
        except FileNotFoundError:
            if not make:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path)) from None
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=self.fd)
            sync_names(self.fd)
            new = self._subdirectory(name)
        os.close(self.fd)
        self.fd = new

    def _subdirectory(self, name: str) -> int:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
