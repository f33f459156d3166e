"""The spool of a stream: on disk, every record that was received and that Kafka has not acknowledged yet.

Every record passes through the spool, in order. So reading from the socket never waits for Kafka, and a kill of
ingest loses nothing that was received. A power cut may lose what was written since the last sync, which follows each
write by about a second.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from g3stream.host.fsync import make_directory, private_file, sync_directory, warn_of_unsynced_names
from ingest.config import MIN_SPOOL_BYTES
from ingest.spool.cache import CACHE_BYTES, BatchCache
from ingest.spool.group_sync import GroupSync
from ingest.spool.ledger import Ledger
from ingest.spool.reader import Reader
from ingest.spool.recovery import recover
from ingest.spool.recycler import Recycler
from ingest.spool.writer import SpoolError, Writer

_FILE_BYTES = 16 << 20
"""One file is written, one is being acknowledged, one is kept for reuse: together they fit the processor's cache."""


class Spool:
    """The spool of one stream, in a directory of its own: opens and locks the directory, and makes its parts.

    size_bytes: about the most that it may take on disk. cache_bytes: memory for the newest batches. One thread
    appends with `writer`, another one reads with `reader` and acknowledges. Raises SpoolError.
    """

    def __init__(self, directory: Path, size_bytes: int, cache_bytes: int = CACHE_BYTES) -> None:
        if size_bytes < MIN_SPOOL_BYTES:
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
                self.group_sync = GroupSync(data, self.ledger)
                open_files.callback(self.group_sync.close)
                self._recycler = Recycler(data, file_bytes, self.ledger)
                self._recycler.reclaim()
                # Before anything is appended, so that a start after a power cut can detect it.
                self.ledger.write(clean_shutdown=False)
                self.ledger.sync()
                for path in (data, directory, directory.parent):
                    sync_directory(path)
                self.group_sync.start()  # in here: with too many threads it raises RuntimeError
            except OSError as error:
                raise SpoolError(f"the spool in {directory} can't be opened: {error}") from error
            self._open_files = open_files.pop_all()
        self.previous = state.last_record
        """Producer epoch and seq of the last record that an earlier ingest appended; None if the spool was new."""
        cache = BatchCache(cache_bytes)
        self.writer = Writer(directory, self.ledger, self._recycler, self.group_sync, cache)
        self.reader = Reader(self.ledger, self._recycler, cache)
        self._open_files.callback(self.reader.close)

    def acknowledge(self, keys: Iterable[int]) -> None:
        """Remove these batches, which Kafka has acknowledged."""
        self.ledger.acknowledge(keys)
        self.writer.complete_if_acknowledged()
        self._recycler.reclaim()
        self.group_sync.request()

    def close(self) -> None:
        """Shut down cleanly: everything is durable, and the ledger says so. Raises SpoolError."""
        with self._open_files:
            try:
                self.group_sync.stop()
                self.writer.close()
                self.group_sync.sync()
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
