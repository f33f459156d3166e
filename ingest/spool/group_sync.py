"""Group sync of the spool: one sync about a second after a write makes durable all that was written until then."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from g3stream.service.log_throttle import LogThrottle

log = logging.getLogger(__name__)

_DELAY_SECONDS = 1.0


class GroupSync:
    """A thread that syncs the spool after writes, and retries if that fails.

    directory: the spool's, for the log. sync: makes the spool durable; may raise OSError.
    """

    def __init__(self, directory: Path, sync: Callable[[], None]) -> None:
        self._directory = directory
        self._sync = sync
        self._requested, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{directory.name} spool-sync", daemon=True)
        self._thread.start()

    def request(self) -> None:
        """Schedule a sync, as something was written."""
        self._requested.set()

    def close(self) -> None:
        """Stop the thread and wait for it; a sync that is still due is not done."""
        self._closed.set()
        self._requested.set()
        self._thread.join()

    def _run(self) -> None:
        throttle = LogThrottle()
        while not self._closed.is_set():
            self._requested.wait()
            if self._closed.wait(_DELAY_SECONDS):
                return
            self._requested.clear()
            try:
                self._sync()
            except OSError as error:
                if throttle.due(time.monotonic()):
                    log.error("the spool in %s can't be made durable (%s); still trying", self._directory, error)
                self._requested.set()
            else:
                throttle.reset()
