"""The spool of a stream: on disk, every record that was received and that Kafka has not acknowledged yet.

Every record passes through the spool, in order. So reading from the socket never waits for Kafka, and a kill of
ingest loses nothing that was received. A power cut may lose what was written since the last sync, which follows each
write by about a second.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from g3stream.host.fsync import make_directory, private_file, sync_directory, warn_of_unsynced_names
from ingest.receive.record_builder import PendingRecord
from ingest.spool.batch import Batch, make_batches
from ingest.spool.cache import CACHE_BYTES, BatchCache
from ingest.spool.group_sync import GroupSync
from ingest.spool.ledger import Ledger
from ingest.spool.reader import Reader
from ingest.spool.recovery import recover
from ingest.spool.recycler import Recycler
from ingest.spool.writer import Writer

MIN_SIZE_BYTES = 1 << 20

_FILE_BYTES = 16 << 20
"""One file is written, one is being acknowledged, one is kept for reuse: together they fit the processor's cache."""


class SpoolError(Exception):
    """The spool can't be used, or can't be written at the moment; the message says why and what to do."""


class Spool:
    """The spool of one stream, in a directory of its own: opens and locks the directory, and wires its parts.

    size_bytes: about the most that it may take on disk. cache_bytes: memory for the newest batches. One thread
    appends, another one reads and acknowledges. Raises SpoolError.
    """

    def __init__(self, directory: Path, size_bytes: int, cache_bytes: int = CACHE_BYTES) -> None:
        if size_bytes < MIN_SIZE_BYTES:
            raise SpoolError(f"a spool of {size_bytes} bytes is too small; --spool-size must be at least 1MiB")
        self._root = directory
        file_bytes = min(_FILE_BYTES, size_bytes // 32)
        with contextlib.ExitStack() as open_files:  # closed if this fails: the process may try again, or `close`
            open_files.callback(os.close, _lock_directory(directory))
            try:
                data = directory / "spool"
                data.mkdir(exist_ok=True)
                files, state, self.unclean_shutdown = recover(directory, data)
                """unclean_shutdown: whether the host has been rebooted, and an earlier ingest had not closed it."""
                self.ledger = Ledger(directory / "state", state, files, size_bytes)
                """What Kafka has not acknowledged, and the space it takes. For any thread."""
                open_files.callback(self.ledger.close)
                self._group_sync = GroupSync(data, self.ledger)
                open_files.callback(self._group_sync.close)
                self._recycler = Recycler(data, file_bytes, self.ledger)
                self._recycler.reclaim()
                # Before anything is appended, so that a start after a power cut can detect it.
                self.ledger.write(clean_shutdown=False)
                self.ledger.sync()
                for path in (data, directory, directory.parent):
                    sync_directory(path)
                self._group_sync.start()  # in here: with too many threads it raises RuntimeError
            except OSError as error:
                raise SpoolError(f"the spool in {directory} can't be opened: {error}") from error
            self._open_files = open_files.pop_all()
        self.previous = state.last_record
        """Producer epoch and seq of the last record that an earlier ingest appended; None if the spool was new."""
        self._cache = BatchCache(cache_bytes)
        self._writer = Writer(file_bytes, self.ledger, self._recycler, self._group_sync)
        self._reader = Reader(self.ledger, self._cache, self._recycler)
        self._open_files.callback(self._reader.close)
        self.sync_activity = self._group_sync.activity
        """What the thread that syncs is doing."""

    def append(self, pending: Sequence[PendingRecord]) -> None:
        """Append records: all of them, or none if it raises SpoolError. Those above CHUNK_BYTES are split."""
        # Step 1: encode them, each as it is written: the chunks of a large one needn't be in memory together.
        batches = make_batches(pending)
        last = next((record.headers for record in reversed(pending) if not record.rejected), None)
        # Step 2: write them to the disk.
        try:
            newest = self._writer.append(batches, last and (last.epoch, last.seq), self._cache.free_bytes)
        except OSError as error:
            raise SpoolError(f"the spool in {self._root} can't be written: {error}") from error
        # Step 3: keep them in memory, as far as they fit, for a publisher that keeps up.
        self._cache.put(newest)
        # Step 4: make them durable in about a second.
        self._group_sync.request()

    def read(self, after_key: int, max_bytes: int, *, from_disk: bool = True) -> list[Batch]:
        """Read the batches after key `after_key` (-1: from the first), in order, about `max_bytes` at most.

        What can't be read is logged, counted and skipped. from_disk: if false, only cached batches are returned.
        """
        return self._reader.read(after_key, max_bytes, from_disk=from_disk)

    def has_more(self, after_key: int) -> bool:
        """Whether a batch after key `after_key` waits."""
        return self.ledger.next_unacked(after_key + 1) is not None

    def acknowledge(self, keys: Iterable[int]) -> None:
        """Remove these batches, which Kafka has acknowledged."""
        self.ledger.acknowledge(keys)
        self._writer.complete_if_acknowledged()
        self._recycler.reclaim()
        self._group_sync.request()

    def close(self) -> None:
        """Shut down cleanly: everything is durable, and the ledger says so. Raises SpoolError."""
        with self._open_files:
            try:
                self._group_sync.stop()
                self._writer.close()
                self._group_sync.sync()
            except OSError as error:
                raise SpoolError(f"the spool in {self._root} can't be shut down cleanly: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lock_directory(directory: Path) -> int:
    """Create the directory and lock it. Returns the lock's file descriptor. Raises SpoolError.

    The kernel releases the lock when the process ends. No other user can open the lock file: one who could might take
    the lock and keep every ingest from starting.
    """
    try:
        make_directory(directory, private=True)
        lock = private_file(directory / "lock")
    except OSError as error:
        raise SpoolError(
            f"the spool's directory {directory} can't be used: {error.strerror}; choose another with --spool-dir"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            why = f"another ingest for this stream runs on this host (it holds {directory}/lock); stop that one first"
        else:
            why = f"the file system of {directory} has no locks (flock: {error.strerror}); "
            why += "choose a directory on a local disk with --spool-dir"
        raise SpoolError(why) from error
    warn_of_unsynced_names(directory)
    return lock
