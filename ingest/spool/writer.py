"""Writing of records to the newest data file."""

import contextlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from ingest.receive.record_builder import PendingRecord
from ingest.spool.batch import Batch, make_batches
from ingest.spool.cache import BatchCache
from ingest.spool.data_file import encode_header, write_pieces
from ingest.spool.group_sync import GroupSync
from ingest.spool.ledger import DataFile, Ledger, SpoolState
from ingest.spool.recycler import Recycler


class SpoolError(Exception):
    """The spool can't be used, or can't be written at the moment; the message says why and what to do."""


class Writer:
    """Appends records. One thread appends; another one may complete the newest file.

    directory: the spool's.
    """

    def __init__(
        self, directory: Path, ledger: Ledger, recycler: Recycler, group_sync: GroupSync, cache: BatchCache
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._recycler = recycler
        self._group_sync = group_sync
        self._cache = cache
        self._lock = threading.Lock()  # guards the following
        self._file: DataFile | None = None  # the newest, if it is not complete

    def append(self, pending: Sequence[PendingRecord]) -> None:
        """Append records: all of them, or none if it raises SpoolError. Those above CHUNK_BYTES are split."""
        last = next((record.headers for record in reversed(pending) if not record.rejected), None)
        with self._lock:
            if self._ledger.state is SpoolState.CLOSED:
                raise SpoolError(f"the spool in {self._directory} can't be written: it is closed")
            try:
                # Step 1: a file with space: the newest, the one kept for reuse, or a new one.
                file = self._file_for_append()
                # Step 2: the batches. A kill from here on leaves an append that recovery drops or completes.
                count, size_bytes, newest = self._write(file, pending)
                # Step 3: the ledger. From here on, the publisher may read them.
                self._ledger.appended(count, size_bytes, last and (last.epoch, last.seq))
            except OSError as error:
                self._truncate()
                self._ledger.append_failed()
                self._recycler.discard()
                raise SpoolError(f"the spool in {self._directory} can't be written: {error}") from error
        # Step 4: the memory, as far as they fit, for a publisher that keeps up.
        self._cache.put(newest)
        # Step 5: the sync, in about a second.
        self._group_sync.request()

    def complete_if_acknowledged(self) -> None:
        """Complete the newest file if all of it is acknowledged, and it has its full size or its space is needed."""
        if self._is_acknowledged():  # asked first, as an append may hold the lock for as long as the disk takes
            with self._lock:
                if self._is_acknowledged():
                    self._complete()

    def close(self) -> None:
        """Complete the newest file, append nothing more, and record a clean shutdown. Raises OSError."""
        with self._lock:
            self._complete()
            self._recycler.reclaim()
            self._ledger.write(clean_shutdown=True)

    def _file_for_append(self) -> DataFile:
        if self._file and self._file.size_bytes >= self._recycler.file_bytes:
            self._complete()
        if self._file is None:
            self._file = self._recycler.new_file(self._ledger.saved.next_key)
            self._ledger.add(self._file)
            self._group_sync.add(self._file)
        return self._file

    def _write(self, file: DataFile, pending: Sequence[PendingRecord]) -> tuple[int, int, list[Batch]]:
        """Write the records in batches after the last one, each as soon as it is encoded.

        Returns their number, the file's new size, and the first ones, as far as the cache has space for them.
        """
        count, offset, keep_bytes = 0, file.size_bytes, self._cache.free_bytes
        kept: list[Batch] = []
        for batch in make_batches(pending):
            key = file.end_key + count
            header = encode_header(file.marker, key, batch.pieces, batch.append_continues)
            end_offset = write_pieces(file.fd, [header, *batch.pieces], offset)
            newest = Batch(key, batch.records, end_offset - offset - len(header))
            keep_bytes -= newest.memory_bytes
            if keep_bytes > 0:
                kept.append(newest)
            count, offset = count + 1, end_offset
        return count, offset, kept

    def _is_acknowledged(self) -> bool:
        file = self._file
        if file is None or file.unacked_batches:
            return False
        return file.size_bytes >= self._recycler.file_bytes or (file.size_bytes > 0 and self._ledger.needs_space)

    def _complete(self) -> None:
        """Complete the newest file: the next append begins another one."""
        if self._file:
            self._truncate()
            self._ledger.complete(self._file)
            self._file = None
            self._group_sync.request()

    def _truncate(self) -> None:
        """Discard what is in the newest file beyond its last batch: of an append that failed, or an earlier life."""
        # If it fails: what is left will be overwritten, and beyond the last batch it does no harm.
        if self._file:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fd, self._file.size_bytes)
