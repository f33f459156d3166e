"""A directory of the archive, reached from its root without following a link.

What lies below the data directory may have been put there by others. So nothing is opened by a path: from the root
on, each directory is opened in the one before it (openat(2), O_NOFOLLOW), and files by their names in those.
"""

import contextlib
import errno
import fcntl
import io
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from archiver.core.formatting import format_bytes
from archiver.core.paths import PRIVATE_DIRECTORY
from archiver.storage.no_replace import NO_LINKS, link_or_rename
from g3stream.host.fsync import make_directory, sync_names

_BLOCK = 1 << 19
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


def make_private_directory(root: Path, private: Path | None = None) -> None:
    """Make a data directory and its private directory (None: `.archiver` in it), durably. Raises OSError.

    That is for its user only: whoever could open a lock or a partial could lock it, and keep archivers from starting,
    or let them take it for another archiver's.
    """
    make_directory(root)
    make_directory(private or root / PRIVATE_DIRECTORY, private=True)


def _check_private(root: "Directory") -> None:
    """A root without `.archiver`, which is made once when an archiver starts, is an empty mount point."""
    if root.stat(PRIVATE_DIRECTORY) is None:
        why = f"no {PRIVATE_DIRECTORY} in it: is its disk mounted? Has the archive another --private-dir?"
        raise OSError(errno.ENODEV, why, str(root.path))


class Directory:
    """An open directory; a context manager that closes it. below: its path from the root, "" for the root itself.

    make: make what is missing on the way, durably. check: raises OSError if nothing is to be made in that root, as it
    is an empty mount point. Raises OSError, with the whole path.
    """

    def __init__(
        self, root: Path, below: str, *, make: bool = False, check: "Callable[[Directory], None]" = _check_private
    ) -> None:
        self.path, self.below = root, below
        self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        at = root
        try:
            if make:
                check(self)
            self.path = root / below
            for name in filter(None, below.split("/")):
                at /= name
                self._enter(name, make)
        except OSError as error:
            os.close(self._fd)
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise OSError(error.errno, "a link or a file is where a directory should be", str(at)) from None
            raise

    def lock(self, name: str, how: int) -> int:
        """Open a file there, made if missing, and lock it without waiting. how: fcntl.LOCK_EX or LOCK_SH. Gives the
        descriptor; closing it frees the lock. Raises BlockingIOError if it is held otherwise, OSError."""
        fd = self.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self.flock(fd, how, name)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def flock(self, fd: int, how: int, name: str) -> None:
        """Lock an open file without waiting. how: as for `lock`. name: the file's, for what is said of it. Raises
        BlockingIOError if it is held otherwise, OSError, also if the file system has no locks."""
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
        """Open, or create, a file in it; gives the descriptor. mode: of a new one, less the umask. Raises OSError.

        Without blocking: a named pipe that somebody has put there would be opened when its other end is, or never.
        """
        try:
            return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode, dir_fd=self._fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path / name)) from None

    def read(self, name: str, most: int) -> bytes:
        """A regular file's bytes, up to `most` of them. Raises OSError."""
        with io.BufferedReader(self._reader(name)) as file:
            return file.read(most)

    def blocks(self, name: str) -> Iterator[bytes]:
        """A regular file's bytes, a block after the other. Raises OSError."""
        with self._reader(name) as file:
            while block := file.read(_BLOCK):
                yield block

    def _reader(self, name: str) -> io.FileIO:
        if self.stat(name) and not self.is_file(name):
            raise OSError(errno.EINVAL, "no file", str(self.path / name))
        return io.FileIO(self.open(name, os.O_RDONLY))

    def names(self) -> list[str]:
        """What is in it. Raises OSError."""
        return os.listdir(self._fd)  # noqa: PTH208 - a Path has no descriptor

    def stat(self, name: str) -> os.stat_result | None:
        """What that name is, a link itself if it is one; None if there is none. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        return None

    def is_file(self, name: str) -> bool:
        """Whether that is a file, and no link. Raises OSError."""
        found = self.stat(name)
        return found is not None and stat.S_ISREG(found.st_mode)

    def publish(self, name: str, to: "Directory", new: str) -> None:
        """Give a file the name `new` in `to`, whole at once and without replacing anything there; on a file system
        without hard links it loses its old one. Raises FileExistsError, FileNotFoundError, OSError
        (no_replace.py)."""
        try:
            link_or_rename(name, self._fd, new, to._fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(to.path / new)) from None

    def link(self, name: str, new: str) -> bool:
        """Give a file a second name in the same directory; False if there are no hard links. Raises OSError."""
        try:
            os.link(name, new, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return False
        return True

    def rename(self, name: str, to: "Directory", new: str) -> None:
        """Move a file to `to`; one that has the new name there is replaced. Raises OSError."""
        os.rename(name, new, src_dir_fd=self._fd, dst_dir_fd=to._fd)

    def move_aside(self, directory: "Directory", name: str, new: str) -> None:
        """Move what has that name in another directory to this one, durably, as `new`, or, if something is called so,
        with a number after it. Raises OSError."""
        numbers = itertools.count(2)
        free = new
        while self.stat(free):
            free = f"{new}.{next(numbers)}"
        directory.rename(name, self, free)
        self.sync()
        directory.sync()

    def unlink(self, name: str) -> None:
        """Remove a file, if it is there. Raises OSError."""
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path / name)) from None

    def check_free_space(self, count: int, name: str) -> None:
        """Whether a copy of that file, of `count` bytes, has room: one that doesn't would fill the disk for all who
        write there. Raises OSError (ENOSPC)."""
        disk = os.fstatvfs(self._fd)
        free = disk.f_bavail * disk.f_frsize
        if free < count:
            needs = f"a copy of it needs {format_bytes(count)}, {format_bytes(free)} are free"
            raise OSError(errno.ENOSPC, needs, str(self.path / name))

    def sync(self) -> None:
        """Make its names durable, where that can be done (g3stream/host/fsync.py). Raises OSError."""
        sync_names(self._fd)

    @property
    def fd(self) -> int:
        """Its descriptor, as long as it is open."""
        return self._fd

    def descriptor(self) -> int:
        """One of its own for whoever is to make its names durable later, and then closes it. Raises OSError."""
        return os.dup(self._fd)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _enter(self, name: str, make: bool) -> None:
        try:
            new = self._subdirectory(name)
        except FileNotFoundError:
            if not make:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path)) from None
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=self._fd)
            sync_names(self._fd)
            new = self._subdirectory(name)
        os.close(self._fd)
        self._fd = new

    def _subdirectory(self, name: str) -> int:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
