"""A segment file while it is written: the bytes of a partial, their CRC and digest.

What it guarantees: bytes are written at explicit positions, so a zombie that wakes up writes what is there already;
bytes that were reported durable survive.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Self

import google_crc32c

from archiver.storage.directory import Directory
from archiver.storage.page_cache import begin_writeback, copy_bytes
from g3stream.host.fsync import sync_data, sync_names
from g3stream.service.cancellation import CancellationToken

_BLOCK = 1 << 20
_DIGEST_STEP_BYTES = 128 << 20  # at a time: about 0.1 s
_MAX_PARTS = 1024  # IOV_MAX
_WRITE_BYTES = 1 << 20  # at a time: for more, the kernel looks for larger pages, and there may be none
_BACKGROUND_WRITE_BYTES = 1 << 20  # writing so many takes longer than waking another thread


class PartialDamagedError(Exception):
    """The partial doesn't have the bytes that were committed; the message says how."""


class PartialLockedError(Exception):
    """Another process has the partial open: one that is frozen, and will notice when it thaws."""


class SyncError(OSError):
    """A sync failed, so what was written isn't durable; repeating it proves nothing: the kernel may have dropped it.

    Or an NFS server has lost our lock, or its state of open files, and refuses this descriptor for good.
    """


_DESCRIPTOR_GONE = frozenset({errno.EIO, errno.ESTALE})
"""Errors of a descriptor that an NFS server no longer knows."""


class SegmentClosedError(OSError):
    """The file was closed meanwhile: the stream's next recording continues from what was committed."""


class ReadBackDigest:
    """The SHA-256 of a partial's bytes as they are read back, step by step; verifies those that were committed.

    It can't be continued like the CRC, so after a restart all committed bytes are read again.
    """

    def __init__(self, committed_bytes: int, committed_crc: int, *, md5: bool) -> None:
        self.lock = threading.Lock()
        """Held while bytes are read."""
        self.bytes = 0
        self.crc = 0
        self._committed_bytes, self._committed_crc = committed_bytes, committed_crc
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._damaged = False

    def advance(self, length: int, read: Callable[[int, int], bytes]) -> None:
        """Advance one step towards the first `length` bytes. Raises PartialDamagedError, and what `read` raises.

        read: returns bytes from one position on, up to another at most.
        """
        committed = self._committed_bytes
        with self.lock:
            until = min(length, self.bytes + _DIGEST_STEP_BYTES)
            while self.bytes < until and not self._damaged:
                block = read(self.bytes, committed if self.bytes < committed else until)
                self.sha256.update(block)
                if self.md5:
                    self.md5.update(block)
                self.bytes += len(block)
                self.crc = google_crc32c.extend(self.crc, block)
                self._damaged = self.bytes == committed and self.crc != self._committed_crc
            if self._damaged:
                raise PartialDamagedError(f"its first {committed} bytes have changed")


class SegmentFile:
    """An open partial, locked by this process.

    `write` and the flushes are for one thread; `make_durable` and `advance_digest` for others at the same time.
    """

    def __init__(
        self, fd: int, length: int, crc: int, unsynced_directory: int | None = None, *, md5: bool = False
    ) -> None:
        """Take over the descriptor `fd`, of `length` bytes with that CRC32C.

        unsynced_directory: the descriptor of the directory in which its name isn't durable yet; this closes it.
        md5: whether to compute its MD5, too.
        """
        self.length_bytes = length
        """With pending bytes."""
        self.written_bytes = length
        self.crc = crc
        """CRC32C of the written bytes as they were given to `write`, not as they can be read back."""
        self._fd = fd
        self._unsynced_directory = unsynced_directory
        self._sync_lock = threading.Lock()  # `close` waits for it, and for the digest's
        self._closed = False
        self._pending: list[bytes] = []
        self._background_write: tuple[list[bytes], Future[None]] | None = None  # parts that another thread writes
        self._digest = ReadBackDigest(length, crc, md5=md5)

    @classmethod
    def create(cls, directory: Directory, name: str, *, md5: bool = False) -> Self:
        """Create a new partial; its name is made durable with its first bytes. Raises OSError."""
        with _locked(directory, name, os.O_CREAT | os.O_EXCL) as fd:
            return cls(fd, 0, 0, os.dup(directory.fd), md5=md5)

    @classmethod
    def reopen(cls, directory: Directory, name: str, length: int, crc: int, *, md5: bool = False) -> Self:
        """Continue a partial of which `length` bytes, with that CRC32C, were committed; the rest is cut off.

        The bytes are verified later, before `sha256` returns. Raises PartialDamagedError if it is missing, too short
        or no regular file, PartialLockedError, OSError.
        """
        if not directory.is_file(name):
            raise PartialDamagedError("it is missing" if directory.stat(name) is None else "it is no file")
        try:
            with _locked(directory, name) as fd:
                _check_length(os.fstat(fd).st_size, length)
                os.ftruncate(fd, length)
                return cls(fd, length, crc, md5=md5)
        except BlockingIOError:
            raise PartialLockedError(name) from None

    @classmethod
    def copy(
        cls,
        directory: Directory,
        name: str,
        copy: str,
        length: int,
        crc: int,
        cancellation: CancellationToken,
        *,
        md5: bool = False,
    ) -> Self:
        """Continue in a copy of a partial that another process has locked.

        The copy is durable when this returns: otherwise every stream's commit would wait for its gigabytes. Raises as
        `reopen` does, and Cancelled; then there is no copy.
        """
        with _locked(directory, copy, os.O_CREAT | os.O_EXCL) as fd, directory.opened(name) as old:
            size = copy_bytes(old, fd, 0, length, lambda: cancellation.raise_if_cancelled(f"copying {name}"))
            _check_length(size, length)
            directory.sync()
            return cls(fd, length, crc, md5=md5)

    def write(self, parts: Sequence[bytes]) -> None:
        """Append these bytes; they are written at the next `flush`."""
        self._pending += parts
        for part in parts:
            self.length_bytes += len(part)

    def flush(self, pool: Executor | None = None) -> None:
        """Write what is pending; if it is much, on a thread of the pool, whose error the next flush raises.

        Raises OSError; then all that isn't written is still pending.
        """
        if self._background_write:
            (parts, done), self._background_write = self._background_write, None
            try:
                done.result()
            finally:
                self._pending[:0] = parts  # those that it couldn't write
        if not self._pending:
            return
        if pool is None or self.length_bytes - self.written_bytes < _BACKGROUND_WRITE_BYTES:
            self._write_all(self._pending)
        else:
            parts, self._pending = self._pending, []
            self._background_write = parts, pool.submit(self._write_all, parts)

    def _write_all(self, parts: list[bytes]) -> None:
        """Write these, and remove from the list what is written. Raises OSError."""
        before = self.written_bytes
        while parts:
            try:
                count = os.pwritev(self._fd, _batch_for_writev(parts), self.written_bytes)
            except OSError as error:
                if error.errno in _DESCRIPTOR_GONE:
                    raise SyncError(error.errno, error.strerror) from error
                raise
            self.written_bytes += count
            done = 0
            for part in parts:
                if count < len(part):
                    break
                self.crc = google_crc32c.extend(self.crc, part)
                count -= len(part)
                done += 1
            del parts[:done]
            if count:
                self.crc = google_crc32c.extend(self.crc, parts[0][:count])
                parts[0] = parts[0][count:]
        begin_writeback(self._fd, before, self.written_bytes - before)

    def make_durable(self) -> None:
        """Sync what is written.

        Raises SyncError, after which only what was durable before counts, SegmentClosedError.
        """
        with self._sync_lock:
            self._check_open()
            try:
                if self._unsynced_directory is not None:
                    sync_names(self._unsynced_directory)
                    self._close_directory()
                sync_data(self._fd)
            except OSError as error:
                raise SyncError(error.errno, error.strerror) from error

    def advance_digest(self, length: int) -> None:
        """Advance the SHA-256 towards the first `length` bytes, so that it isn't far behind at the end.

        Raises OSError, PartialDamagedError, SegmentClosedError.
        """
        self._digest.advance(length, self._read)

    def sha256(self) -> str:
        """The hex SHA-256 of all that is written, read back and verified to be what was given to `write`.

        Raises OSError, PartialDamagedError, SegmentClosedError.
        """
        self.advance_digest(self.written_bytes)
        while self._digest.bytes < self.written_bytes:
            self.advance_digest(self.written_bytes)
        with self._digest.lock:
            self._check_open()
            size = os.fstat(self._fd).st_size
        if self._digest.crc != self.crc or size != self.written_bytes:
            raise PartialDamagedError("its bytes aren't those that were written")
        return self._digest.sha256.hexdigest()

    @property
    def md5(self) -> str | None:
        """The hex MD5 of the bytes that `sha256` has read back; None if it isn't computed."""
        return self._digest.md5.hexdigest() if self._digest.md5 else None

    def close(self) -> None:
        """Close it and release the lock; what is pending is dropped."""
        if self._background_write:
            self._background_write[1].exception()  # only to wait for it
        # First: a thread that reads gigabytes for the digest would take the lock again before we get it.
        self._closed = True
        with self._sync_lock, self._digest.lock:
            fd, self._fd = self._fd, -1
            os.close(fd)
            self._close_directory()

    def _check_open(self) -> None:
        """Raises SegmentClosedError once `close` has been called."""
        if self._closed:
            raise SegmentClosedError(errno.EBADF, "it has been closed")

    def _close_directory(self) -> None:
        if self._unsynced_directory is not None:
            os.close(self._unsynced_directory)
            self._unsynced_directory = None

    def _read(self, at: int, end: int) -> bytes:
        self._check_open()
        try:
            block = os.pread(self._fd, min(_BLOCK, end - at), at)
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise SyncError(error.errno, error.strerror) from error
            raise
        if not block:
            raise PartialDamagedError(f"it ends at {at} bytes, before {end}")
        return block


@contextlib.contextmanager
def _locked(directory: Directory, name: str, flags: int = 0) -> Iterator[int]:
    """Open a partial and lock it. If the with statement raises, it is closed again, and a new one is removed."""
    fd = directory.open(name, os.O_RDWR | flags)
    try:
        directory.flock(fd, fcntl.LOCK_EX, name)
        yield fd
    except BaseException:
        os.close(fd)
        if flags & os.O_CREAT:
            directory.unlink(name)
        raise


def _check_length(size: int, length: int) -> None:
    if size < length:
        raise PartialDamagedError(f"it has {size} bytes of {length}")


def _batch_for_writev(parts: list[bytes]) -> list[bytes]:
    """The first of these parts, as many as are written at a time."""
    size = 0
    for count, part in enumerate(parts[:_MAX_PARTS]):
        size += len(part)
        if count and size > _WRITE_BYTES:
            return parts[:count]
    return parts[:_MAX_PARTS]
