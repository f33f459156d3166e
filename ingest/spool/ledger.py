"""The spool's ledger: its data files, what Kafka has not acknowledged of them, and whether there is space.

What a start can't find out from the data files is also in a small file, which is overwritten in place (LedgerState).
"""

import bisect
import contextlib
import logging
import os
import struct
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, Self

import google_crc32c

from ingest.spool.data_file import BatchScanner, add_end_to_name

log = logging.getLogger(__name__)

HIGH_WATERMARK, LOW_WATERMARK = 0.85, 0.75
"""The fractions of the size at which the spool becomes full, and is no longer full. What was read when it became full
is still appended."""

_MAGIC = b"g3spool1"
_LEDGER = struct.Struct(">8sQQ?36s16sq")  # magic, then as LedgerState; an empty epoch: no last record
_CRC = struct.Struct(">I")
_end_key = attrgetter("end_key")


class LedgerState(NamedTuple):
    """The content of the ledger's file."""

    first_unacked: int
    """The key of the first batch that Kafka has not acknowledged."""
    next_key: int
    """The key of the next batch to be appended."""
    clean_shutdown: bool
    """Whether ingest closed the spool itself."""
    boot_id: bytes
    """Identifies the boot of the host in which ingest ran, 36 bytes; empty if it couldn't be read."""
    last_record: tuple[str, int] | None
    """Producer epoch and seq of the last record ever appended. The ledger keeps it after the record itself has been
    acknowledged: the first record of the next epoch refers to it (header `prev`)."""

    def packed(self) -> bytes:
        """Encode it. The length is constant and less than a sector, so it is never half written."""
        epoch, seq = self.last_record or ("", 0)
        packed = _LEDGER.pack(_MAGIC, *self[:4], epoch.encode(), seq)
        return packed + _CRC.pack(google_crc32c.value(packed))

    @classmethod
    def unpacked(cls, data: bytes) -> Self | None:
        """Decode it. Returns None if it is damaged."""
        packed = data[: _LEDGER.size]
        if data[_LEDGER.size :] != _CRC.pack(google_crc32c.value(packed)) or not packed.startswith(_MAGIC):
            return None
        _, first_unacked, next_key, clean_shutdown, boot_id, epoch, seq = _LEDGER.unpack(packed)
        last_record = (epoch.decode("ascii"), seq) if epoch.strip(b"\0") else None
        return cls(first_unacked, next_key, clean_shutdown, boot_id, last_record)


class FileState(Enum):
    """The state of a data file, in the order of its life."""

    WRITTEN = auto()
    """Batches are appended to it; its name has no end."""
    COMPLETE = auto()
    """The next append begins another file."""
    RECLAIMED = auto()
    """It is no longer a file of the spool, as Kafka has all its batches."""


@dataclass(slots=True, eq=False)
class DataFile:
    """A data file, and which of its batches Kafka has not acknowledged."""

    path: Path
    marker: bytes
    first_key: int
    end_key: int
    """The key after its last batch."""
    first_unacked: int
    """All its batches with a lower key are acknowledged."""
    size_bytes: int = 0
    state: FileState = FileState.WRITTEN
    damaged: bool = False
    """Whether some of its batches can't be read."""
    acked: set[int] = field(default_factory=set)
    """Keys after `first_unacked` that are acknowledged."""
    fd: int = -1
    """Descriptor for writing, which the group sync closes."""

    @property
    def unacked_batches(self) -> int:
        """Count its batches that aren't acknowledged."""
        return self.end_key - self.first_unacked - len(self.acked)

    def acknowledge(self, key: int) -> bool:
        """Record that Kafka has that batch. Returns False if that is known, or the batch isn't in this file."""
        if not self.first_unacked <= key < self.end_key or key in self.acked:
            return False
        self.acked.add(key)
        while self.first_unacked in self.acked:
            self.acked.remove(self.first_unacked)
            self.first_unacked += 1
        return True


class SpoolState(Enum):
    """Whether the spool takes records; it begins WRITABLE.

    from              event                                                        to
    WRITABLE, FAILED  an append succeeds, and more than HIGH_WATERMARK is used     FULL
    FAILED            an append succeeds otherwise                                 WRITABLE
    WRITABLE, FULL    an append fails, as a rule because the disk is full          FAILED
    FULL              files are reclaimed, and at most LOW_WATERMARK is used       WRITABLE
    any               the spool is closed                                          CLOSED
    """

    WRITABLE = auto()
    FULL = auto()
    """Reading from the socket must stop."""
    FAILED = auto()
    CLOSED = auto()
    """Another Spool may use its files by now, and its file descriptors may be other files."""


class Ledger:
    """What a spool contains; the only one to change its data files' attributes. For any thread.

    path: of its file, created if missing. saved: its content, as recovered. files: the data files, in order.
    size_bytes: about the most that these may take. Raises OSError.
    """

    def __init__(self, path: Path, saved: LedgerState, files: Sequence[DataFile], size_bytes: int) -> None:
        self.limit_bytes = int(HIGH_WATERMARK * size_bytes)
        """How much may be used on disk before the spool is full."""
        self._low_watermark_bytes = int(LOW_WATERMARK * size_bytes)
        self._changed = threading.Condition()  # guards the following, the state of the files, and the ledger's file
        self.saved = saved
        """What its file contains."""
        self._files = list(files)
        self._used_bytes = sum(file.size_bytes for file in files)  # on disk
        self.state = SpoolState.WRITABLE
        self.stopping = False
        """Whether `stop` was called."""
        self.waiting_batches = sum(file.unacked_batches for file in files)
        """How many batches Kafka has not acknowledged."""
        self.unreadable_batches = 0
        """How many batches were given up as damaged."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)

    # -- its file

    def write(self, *, clean_shutdown: bool) -> None:
        """Write the file: at the start, and at a clean shutdown, after which nothing can be appended."""
        with self._changed:
            if clean_shutdown:
                self.state = SpoolState.CLOSED
            self._write(self.saved._replace(clean_shutdown=clean_shutdown))

    def sync(self) -> None:
        """Make the file durable."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _write(self, state: LedgerState) -> None:
        os.pwrite(self._fd, state.packed(), 0)
        self.saved = state

    # -- the writer

    def add(self, file: DataFile) -> None:
        """Add a new file."""
        with self._changed:
            self._files.append(file)

    def appended(self, batches: int, size_bytes: int, last_record: tuple[str, int] | None) -> None:
        """Record that the newest file has that many more batches, and now that size.

        last_record: producer epoch and seq of the last record of these that isn't rejected, if any.
        """
        with self._changed:
            file = self._files[-1]
            first_unacked, next_key, clean, boot_id, last_before = self.saved
            self._write(LedgerState(first_unacked, next_key + batches, clean, boot_id, last_record or last_before))
            self._used_bytes += size_bytes - file.size_bytes
            file.end_key += batches
            file.size_bytes = size_bytes
            self.waiting_batches += batches
            if self._used_bytes > self.limit_bytes:
                self.state = SpoolState.FULL
            elif self.state is SpoolState.FAILED:
                self.state = SpoolState.WRITABLE

    def append_failed(self) -> None:
        """Record that nothing could be appended."""
        with self._changed:
            self.state = SpoolState.FAILED

    def complete(self, file: DataFile) -> None:
        """Complete the newest file."""
        with self._changed:
            file.state = FileState.COMPLETE
            file.path = add_end_to_name(file.path, file.first_key, file.end_key, file.marker)

    # -- the reader

    def next_unacked(self, key: int) -> tuple[DataFile, int] | None:
        """Return the first batch from `key` on that isn't acknowledged, as its file and key; None if all are."""
        if key >= self.saved.next_key:  # most calls
            return None
        with self._changed:
            if self.state is SpoolState.CLOSED:
                return None  # a publisher that hung while the spool was closed
            for n in range(bisect.bisect_right(self._files, key, key=_end_key), len(self._files)):
                file = self._files[n]
                key = max(key, file.first_unacked)
                while key in file.acked:
                    key += 1
                if key < file.end_key:
                    return file, key
        return None

    def scan(self, file: DataFile) -> BatchScanner:
        """Open a file to read it; without the lock, it might be renamed meanwhile. Raises OSError."""
        with self._changed:
            return BatchScanner(file.path, file.marker)

    def give_up(self, file: DataFile, first_key: int, end_key: int) -> None:
        """Record that these batches of a file can't be read: they no longer wait."""
        with self._changed:
            file.damaged = True
            count = sum(file.acknowledge(key) for key in range(first_key, end_key))
            self.waiting_batches -= count
            self.unreadable_batches += count
        what = f"{file.path} is damaged: {count} batches of records ({first_key} to {end_key - 1}) can't be read"
        log.error("%s; the others are published, and the archiver reports these as lost", what)

    # -- acknowledgement

    def acknowledge(self, keys: Iterable[int]) -> None:
        """Record that Kafka has these batches."""
        with self._changed:
            for key in keys:
                at = bisect.bisect_right(self._files, key, key=_end_key)
                if at < len(self._files) and self._files[at].acknowledge(key):
                    self.waiting_batches -= 1

    def pop_acknowledged(self) -> list[DataFile]:
        """Remove and return the complete files whose batches are all acknowledged, and record what still waits."""
        with self._changed:
            if self.state is SpoolState.CLOSED:
                return []  # a publisher that hung while the spool was closed: `_fd` may be another file by now
            done = [file for file in self._files if file.state is FileState.COMPLETE and not file.unacked_batches]
            for file in done:
                self._files.remove(file)
                file.state = FileState.RECLAIMED
            unacked = (file.first_unacked for file in self._files if file.unacked_batches)
            self.saved = self.saved._replace(first_unacked=next(unacked, self.saved.next_key))
            # If this fails, the next write contains it; and after a kill before that, Kafka gets some records again,
            # which is harmless.
            with contextlib.suppress(OSError):
                self._write(self.saved)
            return done

    def freed(self, size_bytes: int) -> None:
        """Record that removed files took that much space, and wake up who waits for space."""
        with self._changed:
            self._used_bytes -= size_bytes
            if self.state is SpoolState.FULL and self._used_bytes <= self._low_watermark_bytes:
                self.state = SpoolState.WRITABLE
            self._changed.notify_all()

    # -- status

    @property
    def full(self) -> bool:
        """Whether reading from the socket must stop: more than `limit_bytes` are used on disk."""
        return self.state is SpoolState.FULL

    @property
    def needs_space(self) -> bool:
        """Whether acknowledged files must make space, rather than be kept for reuse."""
        return self.state in (SpoolState.FULL, SpoolState.FAILED)

    @property
    def waiting_bytes(self) -> int:
        """Their size, estimated within a file. Without the lock, which a dead disk may hold."""
        files = list(self._files)
        return sum(file.size_bytes * file.unacked_batches // max(1, file.end_key - file.first_key) for file in files)

    def wait_for_space(self) -> None:
        """Wait until the spool is not full, or `stop` was called."""
        with self._changed:
            self._changed.wait_for(lambda: not self.full or self.stopping)

    def wait_for_freed_space(self, timeout_s: float) -> None:
        """Wait until files were removed, `stop` was called, or the timeout has passed."""
        with self._changed:
            self._changed.wait(timeout_s)

    def stop(self) -> None:
        """End the waiting for space."""
        with self._changed:
            self.stopping = True
            self._changed.notify_all()
