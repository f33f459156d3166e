"""What was read from the socket and Kafka has not acknowledged yet, on disk.

Every record goes through here, in order, so reading never waits for Kafka, and a killed ingest loses nothing that it
had received. It lies in files that are only ever appended to, and let go of when Kafka has all of their records: so a
full disk or a damaged file harms nothing but what was to be written, or can't be read. A power cut may take it back
to the last sync, which follows each write by about a second.
"""

import bisect
import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from g3stream.host.activity import Activity
from g3stream.host.fsync import sync_data, sync_directory
from ingest.receive.record_builder import PendingRecord
from ingest.spool.batch import Batch, decode_batch, make_batches
from ingest.spool.cache import CACHE_BYTES, BatchCache
from ingest.spool.data_file import SpoolFileWriter
from ingest.spool.directory import SpoolError as SpoolError  # whoever uses a spool has its error from here
from ingest.spool.directory import lock_spool
from ingest.spool.group_sync import GroupSync
from ingest.spool.index import (
    Cursor,
    SpoolFile,
    find_last_record,
    open_ledger,
    quarantine,
    recover_files,
)
from ingest.spool.ledger import Ledger, boot_id
from ingest.spool.recycler import FileRecycler

log = logging.getLogger(__name__)

HIGH_WATERMARK, LOW_WATERMARK = 0.85, 0.75
"""Full, and no longer full, as parts of the size; what was read when it became full is put in on top."""

MIN_SIZE_BYTES = 1 << 20

_FILE_BYTES = 16 << 20
"""One is written, one is acknowledged, one is spare: little enough to stay in the processor's cache."""


class Spool:
    """A stream's spool in a directory of its own, about `size_bytes` bytes of it at most.

    `previous` is the epoch and the last seq that an earlier ingest put here; `unclean_shutdown` says that the host
    has been started anew since then without that ingest's clean exit. `waiting_batches` and `waiting_bytes` wait;
    above `limit_bytes` bytes on disk it is `full`; `stopping` after `stop`; `unreadable_batches` counts the bundles
    that were given up as damaged. cache_bytes: how much of what was just put in is kept in memory, too. One thread
    appends, one reads and removes. Raises SpoolError.
    """

    def __init__(self, directory: Path, size_bytes: int, cache_bytes: int = CACHE_BYTES) -> None:
        if size_bytes < MIN_SIZE_BYTES:
            raise SpoolError(f"a spool of {size_bytes} bytes is too small; --spool-size must be at least 1MiB")
        self.limit_bytes, self._low_watermark_bytes = (
            int(HIGH_WATERMARK * size_bytes),
            int(LOW_WATERMARK * size_bytes),
        )
        self._file_bytes = min(_FILE_BYTES, size_bytes // 32)
        self._root, self._directory = directory, directory / "spool"
        self._lock_file = lock_spool(directory)
        self._changed = threading.Condition()
        self._write_lock = threading.Lock()  # taken before _changed, if both are
        self._write_failed = self.full = self.stopping = self._closed = False
        self.waiting_bytes = self.waiting_batches = self.unreadable_batches = 0
        self.sync_activity = Activity()  # of whoever makes it durable
        self._used_bytes = 0  # of the disk
        self._writer: SpoolFileWriter | None = None  # of the last of the files
        self._unsynced: list[tuple[SpoolFileWriter, SpoolFile]] = []  # no longer written
        self._batch_bytes: dict[int, int] = {}  # of what was read and not removed yet
        self._cache = BatchCache(cache_bytes)
        with contextlib.ExitStack() as if_it_fails:  # one of many streams tries again and again in the same process
            if_it_fails.callback(os.close, self._lock_file)
            try:
                self._directory.mkdir(exist_ok=True)
                self._ledger_file, ledger = open_ledger(directory, self._directory)
                if_it_fails.callback(self._ledger_file.close)
                self._files = recover_files(self._directory, ledger)
                self._recycler = FileRecycler(self._directory)
                self._restore(ledger)
            except OSError as error:
                raise SpoolError(f"the spool in {directory} can't be opened: {error}") from error
            self._cursor = Cursor(self._changed)
            self._group_sync = GroupSync(directory, self._sync)
            if_it_fails.pop_all()

    def append(self, pending: Sequence[PendingRecord]) -> None:
        """Keep these. Records above CHUNK_BYTES are split. All of them, or none if it raises SpoolError."""
        if not pending:
            return
        recorded = [record.headers for record in pending if not record.rejected]
        with self._write_lock:
            if self._closed:
                # By now its files may be another Spool's, and the numbers of its descriptors other files'.
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
        """Return when there is room for more, or when `stop` was called."""
        with self._changed:
            self._changed.wait_for(lambda: not self.full or self.stopping)

    def wait_for_acknowledgement(self, timeout_s: float) -> None:
        """Return when something was removed, `stop` was called, or that time has passed."""
        with self._changed:
            self._changed.wait(timeout_s)

    def has_more(self, after_key: int) -> bool:
        """Whether there is a bundle beyond key `after_key`."""
        least = self._cursor.next_key(after_key)
        with self._changed:
            return self._next_key > least

    def read(self, after_key: int, max_bytes: int, *, from_disk: bool = True) -> list[Batch]:
        """The bundles beyond key `after_key` (-1: from the first), in order, up to about `max_bytes` of them.

        What can't be read is told, counted, and passed over. from_disk: else only what is in memory still.
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
        """Forget these bundles: Kafka has them."""
        with self._changed:
            for key in keys:
                at = bisect.bisect_right(self._files, key, key=lambda file: file.name.first_key) - 1
                if at >= 0 and self._files[at].acknowledge(key, self._next_key):
                    self.waiting_batches -= 1
                    self.waiting_bytes -= self._batch_bytes.pop(key, 0)
            self._drop_acknowledged_files()
            in_the_way = self._last_file_should_be_sealed()
        if in_the_way:
            with self._write_lock, self._changed:
                if self._last_file_should_be_sealed():
                    self._seal_last_file()
                    self._drop_acknowledged_files()
        self._group_sync.request()

    def stop(self) -> None:
        """Let nobody wait for room any longer."""
        with self._changed:
            self.stopping = True
            self._changed.notify_all()

    def close(self) -> None:
        """Leave it as a clean exit does: all of it on disk. Raises SpoolError."""
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
            raise SpoolError(f"the spool in {self._root} can't be closed as it should: {error}") from error
        finally:
            for unsynced, _ in self._unsynced:
                os.close(unsynced.fd)
            self._cursor.close()
            self._ledger_file.close()
            os.close(self._lock_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- opening

    def _restore(self, ledger: Ledger | None) -> None:
        known_key = ledger.next_key if ledger else 0
        self._next_key = max([known_key, *(file.end_key or 0 for file in self._files)])
        self.previous = ledger.last_record if ledger else None
        if self._next_key > known_key:  # killed between a write and its entry in the state
            self.previous = find_last_record(self._files, known_key) or self.previous
        self._boot_id = boot_id()
        lost_track = ledger is None and bool(self._files)
        self.unclean_shutdown = lost_track or (
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
        # Before anything is appended: so that a start after a power cut can see that there was one.
        self._ledger_file.write(self._ledger())
        self._ledger_file.sync()
        for path in (self._directory, self._root, self._root.parent):
            sync_directory(path)
        self._directory_changed = False

    # -- with _writing held

    def _writer_for_append(self) -> SpoolFileWriter:
        if self._writer and self._writer.size_bytes >= self._file_bytes:
            with self._changed:
                self._seal_last_file()
        if self._writer is None:
            file = SpoolFile.new(self._directory, self._next_key)
            with self._changed:
                spare = self._recycler.reuse(file.path)
            writer = SpoolFileWriter(self._directory, file.name, spare)
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
        """The last file is written no longer. With _changed held, too."""
        if self._writer is None:
            return
        file = self._files[-1]
        file.end_key = self._next_key
        self._writer.truncate(self._writer.size_bytes)  # what it was before it was spare
        # The name matters only if a later file is lost.
        with contextlib.suppress(OSError):
            file.rename_with_end()
        self._unsynced.append((self._writer, file))
        self._writer = None
        self._directory_changed = True

    # -- with _changed held

    def _ledger(self) -> Ledger:
        return Ledger(self._first_unacked, self._next_key, self._clean_shutdown, self._boot_id, self._last_record)

    def _drop_acknowledged_files(self) -> None:
        """Remove files that nothing waits in, and remember from where on something does."""
        done = [file for file in self._files if file.end_key is not None and not file.unacked_batches(self._next_key)]
        self._first_unacked = min(
            (file.first_unacked for file in self._files if file.unacked_batches(self._next_key)),
            default=self._next_key,
        )
        # If it can't be written, Kafka gets some records again after a restart: no harm, and `append` will tell.
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
                log.error("a damaged file of the spool is set aside: %s", quarantine(file.path, self._root))
            elif not self._is_recyclable(file) or not self._recycler.offer(file.path):
                os.truncate(file.path, 0)  # it may be open still, and would keep its room
                file.path.unlink()
        except OSError as error:
            log.error("%s can't be removed: %s", file.path, error)

    def _is_recyclable(self, file: SpoolFile) -> bool:
        """Whether to write over it: not where its room is needed, nor if a large frame made it larger than most."""
        return not (self._write_failed or self.full) and self._file_bytes <= file.size_bytes <= 2 * self._file_bytes

    def _last_file_should_be_sealed(self) -> bool:
        """Whether the last file takes room that is needed, and nothing waits in it."""
        if self._writer is None or self._files[-1].unacked_batches(self._next_key):
            return False
        size = self._files[-1].size_bytes
        return size >= self._file_bytes or (size > 0 and (self.full or self._write_failed))

    def _mark_unreadable(self, file: SpoolFile, first_key: int, end_key: int) -> None:
        with self._changed:
            count = sum(file.acknowledge(key, self._next_key) for key in range(first_key, end_key))
            if not count:
                return  # they had been removed
            file.damaged = True
            self.waiting_batches -= count
            self.unreadable_batches += count
            log.error(
                "%s is damaged: %d bundles of records (%d to %d) can't be read; the others are published",
                file.path,
                count,
                first_key,
                end_key - 1,
            )
            self._drop_acknowledged_files()

    # -- syncing

    def _sync(self) -> None:
        """All that was written until now. Raises OSError."""
        with self._changed:
            done = [old for old, file in self._unsynced if file.disposed]
            unsynced = [(old, file) for old, file in self._unsynced if not file.disposed]
            self._unsynced = list(unsynced)
            writer, names = self._writer, self._directory_changed
            self._directory_changed = False
        for old in done:  # first, however often the sync fails
            os.close(old.fd)
        try:
            with self.sync_activity.track("a sync of the spool"):
                for old, _ in unsynced:
                    sync_data(old.fd)
                if writer:
                    sync_data(writer.fd)
                if names:
                    sync_directory(self._directory)
                self._ledger_file.sync()
        except OSError:
            self._directory_changed = self._directory_changed or names
            raise
        with self._changed:
            del self._unsynced[: len(unsynced)]
        for old, _ in unsynced:
            os.close(old.fd)
