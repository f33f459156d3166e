"""What was read from the socket and Kafka has not acknowledged yet, on disk.

Every record goes through here, in order, so reading never waits for Kafka, and a killed ingest loses nothing
that it had received. LMDB survives a kill of the process as it is; a power cut may take it back to the last
sync, which follows each write by about a second.
"""

import fcntl
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import lmdb

from ingest.reception import Entry
from ingest.topic import CHUNK_BYTES, Label, headers_spelled

STOP_AT, GO_ON_AT = 0.85, 0.75
"""Full, and no longer full, as parts of the size: LMDB needs free pages even to delete."""

_KEY = struct.Struct(">Q")
_PREFIX = struct.Struct("<BQHI")  # rejected, time in ms, lengths of the headers and of the value that follow
_PAGE = 4096
_SYNC_SECONDS = 1.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SpoolError(Exception):
    """The spool can't be used; the message says why and what to do."""


class Spooled(NamedTuple):
    """A record, or a chunk of one, as it lies in the spool. time: ms since the epoch."""

    rejected: bool
    time: int
    headers: list[tuple[str, str]]
    value: bytes


class Bundle(NamedTuple):
    """Records that came together, kept and removed together: to LMDB one large value costs less than many small."""

    key: int
    records: list[Spooled]


class Spool:
    """A stream's spool in a directory of its own, at most `size` bytes of it.

    `prev` is the epoch and the last seq that an earlier ingest put here; `unclean` says that the host has been
    started anew since then without that ingest's clean exit. Raises SpoolError.
    """

    def __init__(self, directory: Path, size: int) -> None:
        self._lock_file = _lock(directory)
        self._changed = threading.Condition()
        self._stopping = False
        self._closed = threading.Event()
        try:
            # Without WRITEMAP: with it a full disk is a SIGBUS. Without sync: the thread below does that.
            self._env = lmdb.open(
                str(directory / "spool"), map_size=size, max_dbs=2, sync=False, metasync=False, max_readers=8
            )
            self._records = self._env.open_db(b"records")
            self._meta = self._env.open_db(b"meta")
            boot = _BOOT_ID.read_bytes().strip()
            with self._env.begin(write=True) as txn:
                last = txn.get(b"last", db=self._meta)
                clean = txn.get(b"clean", db=self._meta) == b"1"
                same_boot = txn.get(b"boot", db=self._meta) == boot
                txn.put(b"clean", b"0", db=self._meta)
                txn.put(b"boot", boot, db=self._meta)
            self.bytes, self.bundles, self._next = self._measure()
        except (lmdb.Error, OSError, OverflowError) as error:
            os.close(self._lock_file)
            raise SpoolError(f"the spool in {directory} can't be opened: {error}") from error
        self.prev = _epoch_seq(last) if last else None
        self.unclean = bool(last) and not clean and not same_boot
        self._stop_at, self._go_on_at = int(STOP_AT * size), int(GO_ON_AT * size)
        self.full = False
        self._dirty = threading.Event()
        threading.Thread(target=self._sync, name="spool-sync", daemon=True).start()

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep these. Records above CHUNK_BYTES are split. All of them, or none if it raises (lmdb.Error)."""
        put, end = 0, self._next
        with self._env.begin(self._records, write=True) as txn:
            for bundle in _bundles(entries):
                txn.put(_KEY.pack(end), bundle, append=True)
                put += _pages(len(bundle))
                end += 1
            for entry in reversed(entries):
                if not entry.rejected:
                    last = b"%s:%d" % (entry.label.epoch.encode(), entry.label.seq)
                    txn.put(b"last", last, db=self._meta)
                    break
        with self._changed:
            self.bytes += put
            self.bundles += end - self._next
            self._next = end
            self.full = self.full or self.bytes > self._stop_at
            self._changed.notify_all()
        self._dirty.set()

    def wait_for_room(self) -> None:
        """Return when there is room for more, or when `stop` was called."""
        with self._changed:
            self._changed.wait_for(lambda: not self.full or self._stopping)

    def wait_for_more(self, after: int, seconds: float) -> bool:
        """Whether there is a bundle beyond key `after`; waits for one up to that long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._next > after + 1, seconds)

    def read(self, after: int, max_bytes: int) -> list[Bundle]:
        """The bundles beyond key `after` (-1: from the first), in order, up to about `max_bytes` of them."""
        found = []
        with (
            self._env.begin(self._records, buffers=True) as txn,
            txn.cursor() as cursor,
        ):
            here = cursor.set_range(_KEY.pack(after + 1))
            while here and max_bytes > 0:
                value = cursor.value()
                found.append(Bundle(_KEY.unpack(cursor.key())[0], list(_records(value))))
                max_bytes -= len(value)
                here = cursor.next()
        return found

    def remove(self, keys: Iterable[int]) -> None:
        """Forget these bundles: Kafka has them."""
        freed = count = 0
        with self._env.begin(self._records, write=True, buffers=True) as txn, txn.cursor() as cursor:
            for key in keys:
                if cursor.set_key(_KEY.pack(key)):
                    freed += _pages(len(cursor.value()))
                    count += 1
                    cursor.delete()
        with self._changed:
            self.bytes -= freed
            self.bundles -= count
            self.full = self.full and self.bytes > self._go_on_at
            self._changed.notify_all()
        self._dirty.set()

    def stop(self) -> None:
        """Let nobody wait for room any longer."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def close(self) -> None:
        """Leave it as a clean exit does: all of it on disk."""
        self._closed.set()
        self._dirty.set()
        with self._env.begin(self._meta, write=True) as txn:
            txn.put(b"clean", b"1")
        self._env.sync(True)
        self._env.close()
        os.close(self._lock_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _measure(self) -> tuple[int, int, int]:
        total = count = 0
        key = -1
        with self._env.begin(self._records, buffers=True) as txn, txn.cursor() as cursor:
            for raw, value in cursor:
                total += _pages(len(value))
                count += 1
                key = _KEY.unpack(raw)[0]
        return total, count, key + 1

    def _sync(self) -> None:
        while not self._closed.is_set():
            self._dirty.wait()
            self._dirty.clear()
            if self._closed.wait(_SYNC_SECONDS):
                return
            self._env.sync(True)


def _bundles(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The values to put for these entries: large records in chunks, small ones together."""
    parts: list[bytes | bytearray | memoryview] = []
    size = 0
    for entry in entries:
        for label, value in _chunks(entry):
            if parts and size + len(value) > CHUNK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
            said = label.spelled()
            parts += (_PREFIX.pack(entry.rejected, entry.time, len(said), len(value)), said, value)
            size += len(value)
    if parts:
        yield b"".join(parts)


def _chunks(entry: Entry) -> list[tuple[Label, bytes | bytearray | memoryview]]:
    if len(entry.value) <= CHUNK_BYTES:
        return [(entry.label, entry.value)]
    count = -(-len(entry.value) // CHUNK_BYTES)
    each = -(-len(entry.value) // count)
    view = memoryview(entry.value)
    return [(entry.label._replace(chunk=(k + 1, count)), view[k * each : (k + 1) * each]) for k in range(count)]


def _records(bundle: memoryview) -> Iterator[Spooled]:
    at = 0
    while at < len(bundle):
        rejected, time, said, length = _PREFIX.unpack_from(bundle, at)
        at += _PREFIX.size
        headers = headers_spelled(bytes(bundle[at : at + said]))
        at += said + length
        yield Spooled(bool(rejected), time, headers, bytes(bundle[at - length : at]))


def _pages(length: int) -> int:
    """About what a value of that many bytes takes of the map."""
    return -(-(length + 64) // _PAGE) * _PAGE


def _epoch_seq(text: bytes) -> tuple[str, int]:
    epoch, _, seq = text.partition(b":")
    return epoch.decode(), int(seq)


def _lock(directory: Path) -> int:
    """Make the directory and take its lock, which the kernel frees with the process. Raises SpoolError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SpoolError(
            f"the spool's directory {directory} can't be used: {error.strerror}; choose another with --spool-dir"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise SpoolError(
            f"another ingest for this stream runs on this host (it holds {directory}/lock); stop that one first"
        ) from None
    return lock
