"""Start and stop of what an agent runs: ingest, archiver, or both; they start together and stop one by one."""

import logging
import threading
import time
from enum import StrEnum

from g3_agents.services import ArchiverService, IngestService

log = logging.getLogger(__name__)

_CATCH_UP_TIMEOUT_SECONDS = 4.0
"""How long a stop waits, after ingest has ended, for the archiver to record what ingest has published."""
_INGEST_TIMEOUT_SECONDS = 4.0
"""How long a stop waits for ingest before it stops the archiver too: without Kafka, ingest takes longer."""
_POLL_SECONDS = 0.02


class RecorderState(StrEnum):
    """The state of a recorder, as requested by its operator."""

    STOPPED = "stopped"
    RUNNING = "running"
    STOPPING = "stopping"


class Recorder:
    """ingest and archiver, of which one may be missing.

    `start` and `stop` return at once, and may be called by any thread, in any state.
    """

    def __init__(self, ingest: IngestService | None, archiver: ArchiverService | None) -> None:
        self.ingest = ingest
        self.archiver = archiver
        self.state = RecorderState.STOPPED
        self.starts = 0
        """How often it was started."""
        self._lock = threading.Lock()
        self._services = [service for service in (archiver, ingest) if service]

    def start(self) -> None:
        """Start the services, if the recorder is stopped."""
        with self._lock:
            if self.state is RecorderState.STOPPED:
                self.state = RecorderState.RUNNING
                self.starts += 1
                for service in self._services:
                    service.start()

    def stop(self) -> None:
        """Stop ingest, wait until the archiver has finished its file, stop it; `state` becomes STOPPED after that."""
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
        """Wait until the archiver has recorded ingest's last record, by which its file is closed."""
        last = ingest.last_published_offset
        if last is None:
            log.warning("%s: what waits in the spool is recorded after the next start", ingest.name)
            return
        give_up_at = time.monotonic() + _CATCH_UP_TIMEOUT_SECONDS
        while not archiver.has_recorded(ingest.name, last):
            if time.monotonic() > give_up_at:
                log.warning("%s: its file stays open; recording continues it at the next start", ingest.name)
                return
            time.sleep(_POLL_SECONDS)  # there is no event of a commit to wait for
