"""A file on its way: a partial that grows → durable → published under its name.

The promises: bytes go to explicit positions, so a zombie that wakes up writes what is there already; what was
reported durable survives; a finished file appears whole, once, and is never overwritten or changed.
"""

import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import Self

import google_crc32c

from archiver.storage.directory import Directory
from archiver.storage.page_cache import begin_writeback, copy_bytes
from g3stream.host.fsync import sync_data, sync_names
from g3stream.service.cancellation import Abandoned

_BLOCK = 1 << 20
_FOLLOW_BYTES = 128 << 20  # at a time: about 0.1 s
_MOST_PARTS = 1024  # IOV_MAX
_WRITE_BYTES = 1 << 20  # at a time: for more, the kernel looks for larger pages, which it may have none of
_ASIDE_BYTES = 1 << 20  # that many take longer to write than another thread to wake


class PartialDamagedError(Exception):
    """The partial isn't what was committed; the message says how."""


class PartialHeldError(Exception):
    """Another process has the partial open: one that is frozen, and will find out when it thaws."""


class SyncError(OSError):
    """The disk failed to take what was written. Asking again proves nothing: the kernel may have dropped it.

    Or an NFS server has lost our lock, or all that it knew of open files, and refuses this descriptor for good.
    """


_LOST = frozenset({errno.EIO, errno.ESTALE})
"""What writing to a descriptor that an NFS server doesn't know any more comes to."""


class LetGoError(OSError):
    """It was closed meanwhile: whoever has the stream next goes on from what was committed."""


class SegmentFile:
    """An open partial, locked by this process.

    `write` and the flushes are for one thread; `make_durable` and `follow` for others at the same time.
    length: bytes, with those that are still to be written; written: those that are; crc: their CRC32C, of what was
    given to `write`, not of what can be read back.
    """

    def __init__(self, fd: int, length: int, crc: int, new_in: int | None = None, *, md5: bool = False) -> None:
        """new_in: the descriptor of the directory in which its name isn't durable yet; this closes it.
        md5: whether its MD5 is wanted, too."""
        self.length = self.written = length
        self.crc = crc
        self._fd = fd
        self._new_in = new_in
        self._making_durable, self._following = threading.Lock(), threading.Lock()  # `close` waits for both
        self._let_go = False
        self._pending: list[bytes] = []
        self._aside: tuple[list[bytes], Future[None]] | None = None  # what another thread writes
        self._committed = (length, crc)
        self._sha, self._sha_at, self._check = hashlib.sha256(), 0, 0
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._damaged = False

    @classmethod
    def create(cls, directory: Directory, name: str, *, md5: bool = False) -> Self:
        """Begin a new one; its name is made durable with its first bytes. Raises OSError."""
        fd = directory.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            directory.flock(fd, fcntl.LOCK_EX, name)
            return cls(fd, 0, 0, directory.descriptor(), md5=md5)
        except BaseException:
            os.close(fd)
            directory.unlink(name)
            raise

    @classmethod
    def reopen(cls, directory: Directory, name: str, length: int, crc: int, *, md5: bool = False) -> Self:
        """Go on with one of which `length` bytes, with that CRC32C, were committed; what follows them is cut off.

        The bytes are checked later, before `sha256` returns. Raises PartialDamagedError if it is missing, short or
        no file, PartialHeldError, OSError.
        """
        if not directory.is_file(name):
            raise PartialDamagedError("it is missing" if directory.stat(name) is None else "it is no file")
        fd = directory.open(name, os.O_RDWR)
        try:
            directory.flock(fd, fcntl.LOCK_EX, name)
            size = os.fstat(fd).st_size
            if size < length:
                raise PartialDamagedError(f"it has {size} bytes of {length}")
            os.ftruncate(fd, length)
        except BlockingIOError:
            os.close(fd)
            raise PartialHeldError(name) from None
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, length, crc, md5=md5)

    @classmethod
    def copy(
        cls,
        directory: Directory,
        name: str,
        copy: str,
        length: int,
        crc: int,
        abandoned: Abandoned,
        *,
        md5: bool = False,
    ) -> Self:
        """Go on in a copy of a partial that another process holds, durable when this returns: gigabytes that are
        not would have every stream's commit wait for them.

        Raises as `reopen` does, and AbandonedError; and then there is no copy.
        """
        new = cls.create(directory, copy, md5=md5)
        try:
            old = directory.open(name, os.O_RDONLY)
            try:
                size = copy_bytes(old, new._fd, 0, length, lambda: abandoned.check(f"copying {name}"))
            finally:
                os.close(old)
            if size < length:
                raise PartialDamagedError(f"it has {size} bytes of {length}")
            new.make_durable()
        except BaseException:
            directory.unlink(copy)
            new.close()
            raise
        new.length = new.written = length
        new.crc = crc
        new._committed = (length, crc)
        return new

    def write(self, parts: Sequence[bytes]) -> None:
        """Append these, at the next `flush`."""
        self._pending += parts
        for part in parts:
            self.length += len(part)

    def flush(self) -> None:
        """Write what is pending. Raises OSError, and then all that isn't written yet is still pending."""
        self._end_flush()
        self._write_all(self._pending)

    def begin_flush(self, pool: Executor) -> None:
        """The same; but if it is much, another thread does it, and what that comes to, the next flush tells."""
        self._end_flush()
        if self.length - self.written < _ASIDE_BYTES:
            self._write_all(self._pending)
        else:
            parts, self._pending = self._pending, []
            self._aside = parts, pool.submit(self._write_all, parts)

    def _end_flush(self) -> None:
        if self._aside:
            (parts, done), self._aside = self._aside, None
            try:
                done.result()
            finally:
                self._pending[:0] = parts  # those that it couldn't write

    def _write_all(self, parts: list[bytes]) -> None:
        """Write these, and take from the list those that are written. Raises OSError."""
        before = self.written
        while parts:
            try:
                count = os.pwritev(self._fd, _at_once(parts), self.written)
            except OSError as error:
                if error.errno in _LOST:
                    raise SyncError(error.errno, error.strerror) from error
                raise
            self.written += count
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
        begin_writeback(self._fd, before, self.written - before)

    def make_durable(self) -> None:
        """See to it that what is written survives.

        Raises SyncError: go back to what was durable before; LetGoError.
        """
        with self._making_durable:
            self._check_held()
            try:
                if self._new_in is not None:
                    sync_names(self._new_in)
                    self._forget_directory()
                sync_data(self._fd)
            except OSError as error:
                raise SyncError(error.errno, error.strerror) from error

    def follow(self, length: int) -> None:
        """Bring the SHA-256 nearer to the first `length` bytes, so that it isn't far behind at the end.

        After a restart it has the committed bytes to catch up with, as it can't be carried on like the CRC, and
        checks them. Raises OSError, PartialDamagedError, LetGoError.
        """
        committed, crc = self._committed
        with self._following:
            until = min(length, self._sha_at + _FOLLOW_BYTES)
            while self._sha_at < until and not self._damaged:
                self._check_held()
                block = self._read(self._sha_at, committed if self._sha_at < committed else until)
                self._sha.update(block)
                if self._md5:
                    self._md5.update(block)
                self._sha_at += len(block)
                self._check = google_crc32c.extend(self._check, block)
                self._damaged = self._sha_at == committed and self._check != crc
            if self._damaged:
                raise PartialDamagedError(f"its first {committed} bytes have changed")

    def sha256(self) -> str:
        """The hex SHA-256 of all that is written, read back and found to be what was given to `write`.

        Raises OSError, PartialDamagedError, LetGoError.
        """
        self.follow(self.written)
        while self._sha_at < self.written:
            self.follow(self.written)
        with self._following:
            self._check_held()
            size = os.fstat(self._fd).st_size
        if self._check != self.crc or size != self.written:
            raise PartialDamagedError("its bytes aren't those that were written")
        return self._sha.hexdigest()

    @property
    def md5(self) -> str | None:
        """The hex MD5 of the bytes that `sha256` has read back; None if it wasn't asked for."""
        return self._md5.hexdigest() if self._md5 else None

    def close(self) -> None:
        """Let go of it, and of the lock; what is pending is dropped."""
        if self._aside:
            self._aside[1].exception()  # only to wait for it
        self._let_go = True  # whoever reads gigabytes for the digest has the lock again before we get it, else
        with self._making_durable, self._following:
            fd, self._fd = self._fd, -1
            os.close(fd)
            self._forget_directory()

    def _check_held(self) -> None:
        """Raises LetGoError once `close` has been called."""
        if self._let_go:
            raise LetGoError(errno.EBADF, "it has been let go of")

    def _forget_directory(self) -> None:
        if self._new_in is not None:
            os.close(self._new_in)
            self._new_in = None

    def _read(self, at: int, end: int) -> bytes:
        try:
            block = os.pread(self._fd, min(_BLOCK, end - at), at)
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise SyncError(error.errno, error.strerror) from error
            raise
        if not block:
            raise PartialDamagedError(f"it ends at {at} bytes, before {end}")
        return block


def _at_once(parts: list[bytes]) -> list[bytes]:
    """The first of these, as many as are written at a time."""
    size = 0
    for count, part in enumerate(parts[:_MOST_PARTS]):
        size += len(part)
        if count and size > _WRITE_BYTES:
            return parts[:count]
    return parts[:_MOST_PARTS]
