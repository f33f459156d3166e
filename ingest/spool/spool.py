"""The spool of a stream: on disk, every record that was received and that Kafka has not acknowledged yet.

Every record passes through the spool, in order. So reading from the socket never waits for Kafka, and a kill of
ingest loses nothing that was received. A power cut may lose what was written since the last sync, which follows each
write by about a second.

Data files are only appended to, and removed when Kafka has acknowledged all their records. So a full disk affects
only what can't be written, and a damaged file only what can't be read. The layout on disk: see this package's
docstring.
"""

import bisect
import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from g3stream.host.activity import Activity
from g3stream.host.fsync import sync_data, sync_directory
from ingest.receive.record_builder import PendingRecord
from ingest.spool.batch import Batch, decode_batch, make_batches
from ingest.spool.cache import CACHE_BYTES, BatchCache
from ingest.spool.data_file import SpoolFileWriter
from ingest.spool.directory import SpoolError as SpoolError  # exported for users of Spool
from ingest.spool.directory import lock_spool
from ingest.spool.group_sync import GroupSync
from ingest.spool.index import SpoolFile, find_last_record, open_ledger, quarantine, recover_files
from ingest.spool.ledger import Ledger, boot_id
from ingest.spool.reader import Cursor
from ingest.spool.recycler import FileRecycler

log = logging.getLogger(__name__)

HIGH_WATERMARK, LOW_WATERMARK = 0.85, 0.75
"""The fractions of the size at which the spool becomes full, and is no longer full. What was read when it became full
is still appended."""

MIN_SIZE_BYTES = 1 << 20

_FILE_BYTES = 16 << 20
"""One file is written, one is being acknowledged, one is kept for reuse: together they fit the processor's cache."""


class Spool:
    """The spool of one stream, in a directory of its own.

    size_bytes: about the most that it may take on disk. cache_bytes: memory for the newest batches. One thread
    appends, another one reads and acknowledges. Raises SpoolError.
    """

    previous: tuple[str, int] | None
    """Producer epoch and seq of the last record that an earlier ingest appended; None if the spool was new."""
    unclean_shutdown: bool
    """Whether the host has been rebooted since, and that ingest had not closed the spool."""

    def __init__(self, directory: Path, size_bytes: int, cache_bytes: int = CACHE_BYTES) -> None:
        if size_bytes < MIN_SIZE_BYTES:
            raise SpoolError(f"a spool of {size_bytes} bytes is too small; --spool-size must be at least 1MiB")
        self.limit_bytes = int(HIGH_WATERMARK * size_bytes)
        self._low_watermark_bytes = int(LOW_WATERMARK * size_bytes)
        self._file_bytes = min(_FILE_BYTES, size_bytes // 32)
        self._root, self._directory = directory, directory / "spool"
        self._lock_file = lock_spool(directory)
        self._changed = threading.Condition()
        self._write_lock = threading.Lock()  # acquired before _changed, if both are needed
        self._write_failed = self._closed = False
        self.full = False
        """Whether reading from the socket must stop: more than `limit_bytes` are used on disk."""
        self.stopping = False
        """Whether `stop` was called."""
        self.waiting_bytes = self.waiting_batches = 0
        """What Kafka has not acknowledged."""
        self.unreadable_batches = 0
        """Batches that were given up as damaged."""
        self.sync_activity = Activity()
        """What the thread that syncs is doing."""
        self._used_bytes = 0  # on disk
        self._writer: SpoolFileWriter | None = None  # of the last data file
        self._unsynced: list[tuple[SpoolFileWriter, SpoolFile]] = []  # complete, but not synced yet
        self._batch_bytes: dict[int, int] = {}  # by key, of batches that were read and aren't acknowledged yet
        self._cache = BatchCache(cache_bytes)
        with contextlib.ExitStack() as on_failure:  # one of several streams retries in the same process
            on_failure.callback(os.close, self._lock_file)
            try:
                self._directory.mkdir(exist_ok=True)
                self._ledger_file, ledger = open_ledger(directory, self._directory)
                on_failure.callback(self._ledger_file.close)
                self._files = recover_files(self._directory, ledger)
                self._recycler = FileRecycler(self._directory)
                self._restore(ledger)
            except OSError as error:
                raise SpoolError(f"the spool in {directory} can't be opened: {error}") from error
            self._cursor = Cursor(self._changed)
            self._group_sync = GroupSync(directory, self._sync)
            on_failure.pop_all()

    def append(self, pending: Sequence[PendingRecord]) -> None:
        """Append records: all of them, or none if it raises SpoolError. Those above CHUNK_BYTES are split."""
        if not pending:
            return
        recorded = [record.headers for record in pending if not record.rejected]
        with self._write_lock:
            if self._closed:
                # Another Spool may use its files by now, and its file descriptors may be other files.
                raise SpoolError(f"the spool in {self._root} is closed")
            try:
                writer = self._writer_for_append()
                size_before = writer.size_bytes
                count = writer.append(self._next_key, self._cache.stage(make_batches(pending)))
                with self._changed:
                    first_key = self._next_key
                    self._commit_append(
                        count, writer, size_before, (recorded[-1].epoch, recorded[-1].seq) if recorded else None
                    )
                    self._cache.commit(first_key)
            except OSError as error:
                self._write_failed = True
                with self._changed:
                    self._recycler.discard()
                raise SpoolError(f"the spool in {self._root} can't be written: {error}") from error
            self._write_failed = False
        self._group_sync.request()

    def wait_for_space(self) -> None:
        """Wait until the spool is no longer full, or `stop` was called."""
        with self._changed:
            self._changed.wait_for(lambda: not self.full or self.stopping)

    def wait_for_acknowledgement(self, timeout_s: float) -> None:
        """Wait until something was acknowledged, `stop` was called, or the timeout has passed."""
        with self._changed:
            self._changed.wait(timeout_s)

    def has_more(self, after_key: int) -> bool:
        """Whether there is a batch after key `after_key`."""
        least = self._cursor.next_key(after_key)
        with self._changed:
            return self._next_key > least

    def read(self, after_key: int, max_bytes: int, *, from_disk: bool = True) -> list[Batch]:
        """Read the batches after key `after_key` (-1: from the first), in order, about `max_bytes` at most.

        What can't be read is logged, counted and skipped. from_disk: if false, only cached batches are returned.
        """
        found = []
        while max_bytes > 0:
            with self._changed:
                if cached := self._cache.pop(after_key + 1):
                    after_key += 1
                    self._batch_bytes[after_key] = cached.bytes
                    found.append(Batch(after_key, cached.records))
                    max_bytes -= cached.bytes
                    continue
                if not from_disk:
                    break
                files, end = list(self._files), self._next_key
            found_batch, damaged = self._cursor.read(files, after_key, end)
            for file, first_key, end_key in damaged:
                self._mark_unreadable(file, first_key, end_key)
            if found_batch is None:
                break
            after_key, value = found_batch
            with self._changed:
                self._cache.pop(after_key)
            self._batch_bytes[after_key] = len(value)
            found.append(Batch(after_key, list(decode_batch(value))))
            max_bytes -= len(value)
        return found

    def acknowledge(self, keys: Iterable[int]) -> None:
        """Remove these batches, which Kafka has acknowledged."""
        with self._changed:
            for key in keys:
                at = bisect.bisect_right(self._files, key, key=lambda file: file.name.first_key) - 1
                if at >= 0 and self._files[at].acknowledge(key, self._next_key):
                    self.waiting_batches -= 1
                    self.waiting_bytes -= self._batch_bytes.pop(key, 0)
            self._drop_acknowledged_files()
            should_seal = self._last_file_should_be_sealed()
        if should_seal:
            with self._write_lock, self._changed:
                if self._last_file_should_be_sealed():
                    self._seal_last_file()
                    self._drop_acknowledged_files()
        self._group_sync.request()

    def stop(self) -> None:
        """End the waiting for space and for acknowledgements."""
        with self._changed:
            self.stopping = True
            self._changed.notify_all()

    def close(self) -> None:
        """Shut down cleanly: everything is durable, and the ledger says so. Raises SpoolError."""
        self._group_sync.close()
        try:
            with self._write_lock, self._changed:
                self._closed = True
                self._seal_last_file()
                self._drop_acknowledged_files()
                self._clean_shutdown = True
                self._ledger_file.write(self._ledger())
            self._sync()
        except OSError as error:
            raise SpoolError(f"the spool in {self._root} can't be shut down cleanly: {error}") from error
        finally:
            for unsynced, _ in self._unsynced:
                os.close(unsynced.fd)
            self._cursor.close()
            self._ledger_file.close()
            os.close(self._lock_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- opening

    def _restore(self, ledger: Ledger | None) -> None:
        known_key = ledger.next_key if ledger else 0
        self._next_key = max([known_key, *(file.end_key or 0 for file in self._files)])
        self.previous = ledger.last_record if ledger else None
        if self._next_key > known_key:  # killed between a write of data and that of the ledger
            self.previous = find_last_record(self._files, known_key) or self.previous
        self._boot_id = boot_id()
        ledger_missing = ledger is None and bool(self._files)
        self.unclean_shutdown = ledger_missing or (
            ledger is not None
            and ledger.last_record is not None
            and not ledger.clean_shutdown
            and ledger.boot_id != self._boot_id
        )
        self._clean_shutdown = False
        self._last_record = self.previous
        self._used_bytes = sum(file.size_bytes for file in self._files)
        self.waiting_bytes = sum(file.unacked_bytes for file in self._files)
        self.waiting_batches = sum(file.unacked_batches(self._next_key) for file in self._files)
        self._first_unacked = self._next_key
        with self._changed:
            self._drop_acknowledged_files()
        # Before anything is appended, so that a start after a power cut can detect it.
        self._ledger_file.write(self._ledger())
        self._ledger_file.sync()
        for path in (self._directory, self._root, self._root.parent):
            sync_directory(path)
        self._directory_changed = False

    # -- with _write_lock held

    def _writer_for_append(self) -> SpoolFileWriter:
        if self._writer and self._writer.size_bytes >= self._file_bytes:
            with self._changed:
                self._seal_last_file()
        if self._writer is None:
            file = SpoolFile.new(self._directory, self._next_key)
            with self._changed:
                recycled_fd = self._recycler.reuse(file.path)
            writer = SpoolFileWriter(self._directory, file.name, recycled_fd)
            with self._changed:
                self._writer = writer
                self._files.append(file)
                self._directory_changed = True
        return self._writer

    def _commit_append(
        self, count: int, writer: SpoolFileWriter, size_before: int, last_record: tuple[str, int] | None
    ) -> None:
        restore = self._next_key, self._last_record
        self._next_key, self._last_record = self._next_key + count, last_record or self._last_record
        try:
            self._ledger_file.write(self._ledger())
        except OSError:
            self._next_key, self._last_record = restore
            writer.truncate(size_before)
            raise
        written_bytes = writer.size_bytes - size_before
        self._files[-1].size_bytes = writer.size_bytes
        self._used_bytes += written_bytes
        self.waiting_bytes += written_bytes
        self.waiting_batches += count
        self.full = self.full or self._used_bytes > self.limit_bytes
        self._changed.notify_all()

    def _seal_last_file(self) -> None:
        """Complete the last data file: the next append begins another one. With _changed held, too."""
        if self._writer is None:
            return
        file = self._files[-1]
        file.end_key = self._next_key
        self._writer.truncate(self._writer.size_bytes)  # removes old data, if the file is a recycled one
        # The end in the name is needed only if a later file is missing.
        with contextlib.suppress(OSError):
            file.rename_with_end()
        self._unsynced.append((self._writer, file))
        self._writer = None
        self._directory_changed = True

    # -- with _changed held

    def _ledger(self) -> Ledger:
        return Ledger(self._first_unacked, self._next_key, self._clean_shutdown, self._boot_id, self._last_record)

    def _drop_acknowledged_files(self) -> None:
        """Remove data files whose batches are all acknowledged, and update the ledger."""
        done = [file for file in self._files if file.end_key is not None and not file.unacked_batches(self._next_key)]
        self._first_unacked = min(
            (file.first_unacked for file in self._files if file.unacked_batches(self._next_key)),
            default=self._next_key,
        )
        # If this fails, Kafka gets some records again after a restart: harmless, and `append` will report the error.
        with contextlib.suppress(OSError):
            self._ledger_file.write(self._ledger())
        for file in done:
            self._files.remove(file)
            self._dispose_of(file)
        if not self.waiting_batches:
            self.waiting_bytes = 0
        self.full = self.full and self._used_bytes > self._low_watermark_bytes
        self._changed.notify_all()

    def _dispose_of(self, file: SpoolFile) -> None:
        self._directory_changed = file.disposed = True
        self._used_bytes -= file.size_bytes
        try:
            if file.damaged:
                log.error("a damaged file of the spool was moved to %s", quarantine(file.path, self._root))
            elif not self._is_recyclable(file) or not self._recycler.offer(file.path):
                os.truncate(file.path, 0)  # it may still be open, which would keep its space
                file.path.unlink()
        except OSError as error:
            log.error("%s can't be removed: %s", file.path, error)

    def _is_recyclable(self, file: SpoolFile) -> bool:
        """Whether to keep it for reuse: not if its space is needed, nor if a large frame made it unusually large."""
        return not (self._write_failed or self.full) and self._file_bytes <= file.size_bytes <= 2 * self._file_bytes

    def _last_file_should_be_sealed(self) -> bool:
        """Whether all batches of the last file are acknowledged, and it is complete or its space is needed."""
        if self._writer is None or self._files[-1].unacked_batches(self._next_key):
            return False
        size = self._files[-1].size_bytes
        return size >= self._file_bytes or (size > 0 and (self.full or self._write_failed))

    def _mark_unreadable(self, file: SpoolFile, first_key: int, end_key: int) -> None:
        with self._changed:
            count = sum(file.acknowledge(key, self._next_key) for key in range(first_key, end_key))
            if not count:
                return  # they had been acknowledged
            file.damaged = True
            self.waiting_batches -= count
            self.unreadable_batches += count
            log.error(
                "%s is damaged: %d batches of records (%d to %d) can't be read; the others are published",
                file.path,
                count,
                first_key,
                end_key - 1,
            )
            self._drop_acknowledged_files()

    # -- syncing

    def _sync(self) -> None:
        """Make durable all that was written until now. Raises OSError."""
        with self._changed:
            disposed = [writer for writer, file in self._unsynced if file.disposed]
            unsynced = [(writer, file) for writer, file in self._unsynced if not file.disposed]
            self._unsynced = list(unsynced)
            current, directory_changed = self._writer, self._directory_changed
            self._directory_changed = False
        for writer in disposed:  # first, however often the sync fails
            os.close(writer.fd)
        try:
            with self.sync_activity.track("a sync of the spool"):
                for writer, _ in unsynced:
                    sync_data(writer.fd)
                if current:
                    sync_data(current.fd)
                if directory_changed:
                    sync_directory(self._directory)
                self._ledger_file.sync()
        except OSError:
            self._directory_changed = self._directory_changed or directory_changed
            raise
        with self._changed:
            del self._unsynced[: len(unsynced)]
        for writer, _ in unsynced:
            os.close(writer.fd)
