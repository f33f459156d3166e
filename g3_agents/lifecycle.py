"""What an agent controls: ingest, archiver, or both; they begin together, and end one after the other."""

import logging
import threading
import time
from enum import StrEnum

from g3_agents.services import ArchiverService, IngestService

log = logging.getLogger(__name__)

_CATCH_UP_TIMEOUT_SECONDS = 4.0
"""How long a stop waits, once ingest has ended, for the archiver to finish what it has published."""
_INGEST_TIMEOUT_SECONDS = 4.0
"""How long a stop waits for ingest before it stops the archiver, too: without Kafka, it takes longer."""
_POLL_SECONDS = 0.02


class RecorderState(StrEnum):
    """What a recorder is doing, as it was told to."""

    STOPPED = "stopped"
    RUNNING = "running"
    STOPPING = "stopping"


class Recorder:
    """Either half may be missing. `start` and `stop` return at once, and may be called by any thread, in any state.

    starts: how often it was started.
    """

    def __init__(self, ingest: IngestService | None, archiver: ArchiverService | None) -> None:
        self.ingest = ingest
        self.archiver = archiver
        self.state = RecorderState.STOPPED
        self.starts = 0
        self._lock = threading.Lock()
        self._services = [service for service in (archiver, ingest) if service]

    def start(self) -> None:
        """Run both, if it is stopped."""
        with self._lock:
            if self.state is RecorderState.STOPPED:
                self.state = RecorderState.RUNNING
                self.starts += 1
                for service in self._services:
                    service.start()

    def stop(self) -> None:
        """Stop ingest, let the archiver finish its file, stop it, if both run; the state says when that is done."""
        with self._lock:
            if self.state is RecorderState.RUNNING:
                self.state = RecorderState.STOPPING
                threading.Thread(target=self._stop, name="stop", daemon=True).start()

    def _stop(self) -> None:
        if self.ingest:
            self.ingest.stop()
            if self.ingest.join(_INGEST_TIMEOUT_SECONDS) and self.archiver:
                self._await_archiver(self.ingest, self.archiver)
        if self.archiver:
            self.archiver.stop()
        for service in self._services:
            service.join()
        with self._lock:
            self.state = RecorderState.STOPPED
        log.info("stopped")

    def _await_archiver(self, ingest: IngestService, archiver: ArchiverService) -> None:
        """Until it has recorded what ingest published last, that its connection is lost: so it finishes its file."""
        last = ingest.last_published_offset
        if last is None:
            log.warning("%s: what waits in the spool is recorded after the next start", ingest.stream)
            return
        give_up_at = time.monotonic() + _CATCH_UP_TIMEOUT_SECONDS
        while not archiver.has_recorded(ingest.stream, last):
            if time.monotonic() > give_up_at:
                log.warning("%s: its file stays open; recording goes on with it at the next start", ingest.stream)
                return
            time.sleep(_POLL_SECONDS)  # a commit is no event that a thread could wait for
