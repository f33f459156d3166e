"""Group sync of the spool: one sync about a second after a write makes durable all that was written until then."""

import logging
import os
import threading
import time
from pathlib import Path

from g3stream.host.activity import Activity
from g3stream.host.fsync import sync_data, sync_directory
from g3stream.log.throttle import LogThrottle
from ingest.spool.ledger import DataFile, FileState, Ledger

log = logging.getLogger(__name__)

_DELAY_SECONDS = 1.0


class GroupSync(threading.Thread):
    """A thread that syncs the spool after writes, and retries if that fails. For any thread.

    directory: of the data files.
    """

    def __init__(self, directory: Path, ledger: Ledger) -> None:
        super().__init__(name=f"{directory.parent.name} spool-sync", daemon=True)
        self.activity = Activity()
        """What it is doing."""
        self._directory = directory
        self._ledger = ledger
        self._requested, self._closed = threading.Event(), threading.Event()
        self._names_changed = threading.Event()  # of files in the directory
        # Those to be synced. The writer only appends to it, which is atomic; the rest is for one thread at a time.
        self._files: list[DataFile] = []

    def add(self, file: DataFile) -> None:
        """Take charge of a new data file: it is closed when it is complete and durable, or reclaimed."""
        self._files.append(file)
        self._names_changed.set()

    def request(self) -> None:
        """Schedule a sync, as something was written."""
        self._requested.set()

    def run(self) -> None:
        """The thread's work."""
        throttle = LogThrottle()
        while not self._closed.is_set():  # asked last: `stop` may come just before the request is cleared
            self._requested.wait()
            if self._closed.wait(_DELAY_SECONDS):
                return
            self._requested.clear()
            try:
                self.sync()
                throttle.reset()
            except OSError as error:
                self._requested.set()
                self._names_changed.set()
                if throttle.due(time.monotonic()):
                    spool = self._directory.parent
                    text = "the spool in %s can't be made durable (%s); still trying: a power cut now loses frames"
                    log.error(text, spool, error)

    def sync(self) -> None:
        """Make durable all that was written until now. Not while the thread runs. Raises OSError."""
        with self.activity.track("a sync of the spool"):
            # Reclaimed ones first: they need no sync, and must be closed however often one fails.
            for file in sorted(self._files, key=lambda file: file.state is not FileState.RECLAIMED):
                state = file.state  # before the sync: to what is complete by then, nothing is added afterwards
                if state is not FileState.RECLAIMED:
                    sync_data(file.fd)
                if state is not FileState.WRITTEN:
                    self._names_changed.set()
                    self._files.remove(file)
                    os.close(file.fd)
            if self._names_changed.is_set():
                self._names_changed.clear()
                sync_directory(self._directory)
            self._ledger.sync()

    def stop(self) -> None:
        """Stop the thread and wait for it; a sync that is still due is not done."""
        self._closed.set()
        self._requested.set()
        self.join()

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            os.close(file.fd)
