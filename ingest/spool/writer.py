"""Writing of batches to the newest data file."""

import contextlib
import os
import threading
from collections.abc import Iterable

from ingest.spool.batch import Batch, EncodedBatch
from ingest.spool.data_file import WRITE_BYTES, WRITE_PIECES, encode_header, write_pieces
from ingest.spool.group_sync import GroupSync
from ingest.spool.ledger import DataFile, Ledger, SpoolState
from ingest.spool.recycler import Recycler


class Writer:
    """Appends batches. One thread appends; another one may complete the newest file. Raises OSError.

    file_bytes: the size from which on a file is complete.
    """

    def __init__(self, file_bytes: int, ledger: Ledger, recycler: Recycler, group_sync: GroupSync) -> None:
        self._file_bytes = file_bytes
        self._ledger = ledger
        self._recycler = recycler
        self._group_sync = group_sync
        self._lock = threading.Lock()  # guards the following
        self._file: DataFile | None = None  # the newest, if it is not complete

    def append(
        self, batches: Iterable[EncodedBatch], last_record: tuple[str, int] | None, keep_bytes: int
    ) -> list[Batch]:
        """Append the batches of one append: all of them, or none if it raises OSError.

        last_record: producer epoch and seq of the last record that isn't rejected, if any. Returns the first
        batches, as far as they take less than `keep_bytes` of memory.
        """
        with self._lock:
            if self._ledger.state is SpoolState.CLOSED:
                raise OSError("it is closed")
            try:
                # Step 1: a file with space: the newest, the one kept for reuse, or a new one.
                file = self._file_for_append()
                # Step 2: the batches. A kill from here on leaves an append that recovery drops or completes.
                count, size_bytes, kept = self._write(file, batches, keep_bytes)
                # Step 3: the ledger. From here on, the publisher may read them.
                self._ledger.appended(count, size_bytes, last_record)
            except OSError:
                self._truncate()
                self._ledger.append_failed()
                self._recycler.discard()
                raise
        return kept

    def complete_if_acknowledged(self) -> None:
        """Complete the newest file if all of it is acknowledged, and it has its full size or its space is needed."""
        if self._is_acknowledged():  # asked first, as an append may hold the lock for as long as the disk takes
            with self._lock:
                if self._is_acknowledged():
                    self._complete()

    def close(self) -> None:
        """Complete the newest file, append nothing more, and record a clean shutdown."""
        with self._lock:
            self._complete()
            self._recycler.reclaim()
            self._ledger.write(clean_shutdown=True)

    def _file_for_append(self) -> DataFile:
        if self._file and self._file.size_bytes >= self._file_bytes:
            self._complete()
        if self._file is None:
            self._file = self._recycler.new_file(self._ledger.saved.next_key)
            self._ledger.add(self._file)
            self._group_sync.add(self._file)
        return self._file

    def _write(
        self, file: DataFile, batches: Iterable[EncodedBatch], keep_bytes: int
    ) -> tuple[int, int, list[Batch]]:
        """Write batches after the last one. Returns their number, the file's new size, and what is to be kept."""
        count, offset, unwritten_bytes = 0, file.size_bytes, 0
        pieces: list[bytes] = []
        kept: list[Batch] = []
        for batch in batches:
            key, value_bytes = file.end_key + count, sum(map(len, batch.pieces))
            cached = Batch(key, batch.records, value_bytes)
            keep_bytes -= cached.memory_bytes
            if keep_bytes > 0:
                kept.append(cached)
            pieces += encode_header(file.marker, key, batch.pieces, batch.append_continues), *batch.pieces
            count += 1
            unwritten_bytes += value_bytes
            if not batch.append_continues or unwritten_bytes >= WRITE_BYTES or len(pieces) >= WRITE_PIECES:
                offset = write_pieces(file.fd, pieces, offset)
                pieces, unwritten_bytes = [], 0
        return count, offset, kept

    def _is_acknowledged(self) -> bool:
        file = self._file
        if file is None or file.unacked_batches:
            return False
        return file.size_bytes >= self._file_bytes or (file.size_bytes > 0 and self._ledger.needs_space)

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
