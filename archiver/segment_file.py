"""A file on its way: a partial that grows → durable → published under its name.

The promises: bytes go to explicit positions, so a zombie that wakes up writes what is there already; what was
reported durable survives; a finished file appears whole, once, and is never overwritten or changed.
"""

import ctypes
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import google_crc32c

from archiver import sums
from archiver.sums import fsync_directory

_BLOCK = 1 << 20
_FOLLOW_BYTES = 128 << 20  # at a time: about 0.1 s
_MOST_PARTS = 1024  # IOV_MAX
_WRITEBACK_BYTES = 1 << 20
_SYNC_FILE_RANGE_WRITE = 2

_sync_file_range = ctypes.CDLL(None).sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class PartialDamagedError(Exception):
    """The partial isn't what was committed; the message says how."""


class PartialHeldError(Exception):
    """Another process has the partial open: one that is frozen, and will find out when it thaws."""


class SegmentFile:
    """An open partial, locked by this process.

    `write` and `flush` are for one thread; `make_durable` and `follow` for others at the same time.
    written: bytes; crc: their CRC32C, of what was given to `write`, not of what can be read back.
    """

    def __init__(self, path: Path, fd: int, length: int, crc: int) -> None:
        self.path = path
        self.written, self.crc = length, crc
        self._fd = fd
        self._making_durable, self._following = threading.Lock(), threading.Lock()  # `close` waits for both
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._committed = (length, crc)
        self._sha, self._sha_at, self._check = hashlib.sha256(), 0, 0
        self._damaged = False

    @classmethod
    def create(cls, path: Path) -> Self:
        """Begin a new one; its directory is made if need be. Raises OSError."""
        if not path.parent.is_dir():
            make_directory(path.parent)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fsync_directory(path.parent)
        return cls(path, fd, 0, 0)

    @classmethod
    def reopen(cls, path: Path, length: int, crc: int) -> Self:
        """Go on with one of which `length` bytes, with that CRC32C, were committed; what follows them is cut off.

        The bytes are checked later, before `sha256` returns. Raises PartialDamagedError if it is missing or short,
        PartialHeldError, OSError.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise PartialDamagedError("it is missing") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = os.fstat(fd).st_size
            if size < length:
                raise PartialDamagedError(f"it has {size} bytes of {length}")
            os.ftruncate(fd, length)
        except BlockingIOError:
            os.close(fd)
            raise PartialHeldError(str(path)) from None
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd, length, crc)

    @classmethod
    def copy(cls, source: Path, path: Path, length: int, crc: int) -> Self:
        """Go on in a copy of a partial that another process holds. Raises as `reopen` does."""
        new = cls.create(path)
        try:
            with source.open("rb") as old, os.fdopen(os.dup(new._fd), "wb") as copy:
                shutil.copyfileobj(old, copy, _BLOCK)
            size = os.fstat(new._fd).st_size
            if size < length:
                raise PartialDamagedError(f"it has {size} bytes of {length}")
            os.ftruncate(new._fd, length)
        except BaseException:
            path.unlink()
            new.close()
            raise
        return cls(path, new._fd, length, crc)

    @property
    def length(self) -> int:
        """Its bytes, with those that `flush` is still to write."""
        return self.written + self._pending_bytes

    def write(self, parts: Sequence[bytes]) -> None:
        """Append these, at the next `flush`."""
        self._pending += parts
        for part in parts:
            self._pending_bytes += len(part)

    def flush(self) -> None:
        """Write what is pending. Raises OSError, and then all that isn't written yet is still pending."""
        before = self.written
        self._write_pending()
        _begin_writeback(self._fd, before, self.written - before)

    def _write_pending(self) -> None:
        while self._pending:
            count = os.pwritev(self._fd, self._pending[:_MOST_PARTS], self.written)
            self.written += count
            self._pending_bytes -= count
            done = 0
            for part in self._pending:
                if count < len(part):
                    break
                self.crc = google_crc32c.extend(self.crc, part)
                count -= len(part)
                done += 1
            del self._pending[:done]
            if count:
                self.crc = google_crc32c.extend(self.crc, self._pending[0][:count])
                self._pending[0] = self._pending[0][count:]

    def make_durable(self) -> None:
        """See to it that what is written survives. Raises OSError."""
        with self._making_durable:
            os.fdatasync(self._fd)

    def follow(self, length: int) -> None:
        """Bring the SHA-256 nearer to the first `length` bytes, so that it isn't far behind at the end.

        After a restart it has the committed bytes to catch up with, as it can't be carried on like the CRC, and
        checks them. Raises OSError, PartialDamagedError.
        """
        committed, crc = self._committed
        with self._following:
            until = min(length, self._sha_at + _FOLLOW_BYTES)
            while self._sha_at < until and not self._damaged:
                block = self._read(self._sha_at, committed if self._sha_at < committed else until)
                self._sha.update(block)
                self._sha_at += len(block)
                self._check = google_crc32c.extend(self._check, block)
                self._damaged = self._sha_at == committed and self._check != crc
            if self._damaged:
                raise PartialDamagedError(f"its first {committed} bytes have changed")

    def sha256(self) -> str:
        """The hex SHA-256 of all that is written, read back and found to be what was given to `write`.

        Raises OSError, PartialDamagedError.
        """
        self.follow(self.written)
        while self._sha_at < self.written:
            self.follow(self.written)
        if self._check != self.crc or os.fstat(self._fd).st_size != self.written:
            raise PartialDamagedError("its bytes aren't those that were written")
        return self._sha.hexdigest()

    def close(self) -> None:
        """Let go of it, and of the lock; what is pending is dropped."""
        with self._making_durable, self._following:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _read(self, at: int, end: int) -> bytes:
        block = os.pread(self._fd, min(_BLOCK, end - at), at)
        if not block:
            raise PartialDamagedError(f"it ends at {at} bytes, before {end}")
        return block


def _begin_writeback(fd: int, at: int, count: int) -> None:
    """Have the kernel begin to write these bytes to the disk, without waiting for it.

    Else all of a second's bytes wait for the sync, which holds up the writes meanwhile: 2.4 GB took 3.4 to 5.1 s
    instead of 2.9 to 3.3 s (ext4). PostgreSQL does the same (checkpoint_flush_after).
    """
    if count >= _WRITEBACK_BYTES:
        # Only a hint: an error of the disk comes back from the sync.
        _sync_file_range(fd, at, count, _SYNC_FILE_RANGE_WRITE)


def publish(partial: Path, root: Path, path: str, sha256: str) -> str | None:
    """Give the partial its name, without replacing anything; gives the path that it has got.

    That is `path`, or, where another file has that name, the one with the next free number. A name taken by the
    same bytes is this file, published before. None if neither the partial nor such a file is there. Durable when
    this returns. Raises OSError.
    """
    stem, _, number = path.removesuffix(".g3").rpartition("_")
    for suffix in range(int(number), int(number) + 100_000):
        name = f"{stem}_{suffix:03d}.g3"
        target = root / name
        if not target.parent.is_dir():
            make_directory(target.parent)
        try:
            os.link(partial, target)
        except FileNotFoundError:
            if not os.path.lexists(target):
                return None
        except FileExistsError:
            pass
        if _same(target, partial, sha256):
            _fsync(target)
            fsync_directory(target.parent)
            return name
    raise OSError(f"no free name for {path}")


def remove_stale(directory: Path, keep: str | None) -> list[str]:
    """Remove the partials that no process holds, but for `keep`; gives their names. Raises OSError.

    Only for a stream whose committed state is known: every byte of a partial that isn't in it will come again.
    """
    removed = []
    for entry in directory.iterdir() if directory.is_dir() else ():
        if entry.name == keep or entry.is_symlink() or not entry.is_file():
            continue
        fd = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            entry.unlink(missing_ok=True)
            removed.append(entry.name)
        except BlockingIOError:
            pass  # a frozen process's, which finds out when it thaws
        finally:
            os.close(fd)
    return removed


def make_directory(directory: Path) -> None:
    """Make a directory and its parents, durably. Raises OSError."""
    if not directory.parent.is_dir():
        make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    fsync_directory(directory.parent)


def _same(target: Path, partial: Path, sha256: str) -> bool:
    try:
        if os.path.samestat(target.lstat(), partial.lstat()):
            return True
    except FileNotFoundError:
        pass
    return target.is_file() and not target.is_symlink() and sums.digest(target) == sha256


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
