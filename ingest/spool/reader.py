"""Reading of the batches that wait, from memory or else from the data files."""

import contextlib
import errno

from ingest.spool.batch import Batch, decode_batch
from ingest.spool.cache import BatchCache
from ingest.spool.data_file import BatchScanner
from ingest.spool.ledger import DataFile, Ledger
from ingest.spool.recycler import Recycler


class Reader:
    """Reads what Kafka has not acknowledged, with one data file open. For one thread at a time."""

    def __init__(self, ledger: Ledger, recycler: Recycler, cache: BatchCache) -> None:
        self._ledger = ledger
        self._recycler = recycler
        self._cache = cache
        self._file: DataFile | None = None  # the one that is open
        self._scanner: BatchScanner | None = None

    def read(self, after_key: int, max_bytes: int, *, from_disk: bool = True) -> list[Batch]:
        """Read the batches after key `after_key` (-1: from the first), in order, about `max_bytes` at most.

        What can't be read is logged, counted and skipped. from_disk: if false, only cached batches are returned.
        """
        found: list[Batch] = []
        with contextlib.suppress(OSError):  # too many files are open: the next read tries again
            while max_bytes > 0 and (waiting := self._ledger.next_unacked(after_key + 1)):
                file, key = waiting
                batch = self._cache.pop(key)
                if not (batch or from_disk):
                    break
                if batch := batch or self._read_from_disk(file, key):  # else it was given up: it waits no longer
                    found.append(batch)
                    after_key = key
                    max_bytes -= batch.bytes
        return found

    def close(self) -> None:
        """Close the file that is open."""
        if self._scanner:
            self._scanner.close()
        self._file = self._scanner = None

    def _read_from_disk(self, file: DataFile, key: int) -> Batch | None:
        """Read a batch from its file. Returns None if it is damaged; then it was given up.

        Raises OSError if it can't be read only now.
        """
        end_key = file.end_key
        following = None
        try:
            scanner = self._open(file)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise
        else:
            location = scanner.find(key, end_key)
            if location and location.key == key and (value := scanner.value(location)) is not None:
                return Batch(key, [*decode_batch(value)], len(value))
            following = scanner.find(key + 1, end_key)
        self._ledger.give_up(file, key, following.key if following else end_key)
        self._recycler.reclaim()
        return None

    def _open(self, file: DataFile) -> BatchScanner:
        if self._scanner is None or file is not self._file:
            self.close()
            self._file, self._scanner = file, self._ledger.scan(file)
        return self._scanner
