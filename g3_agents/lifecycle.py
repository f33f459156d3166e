"""What an agent controls: ingest, archiver, or both; they begin together, and end one after the other."""

import logging
import threading
import time
from enum import StrEnum

from g3_agents.services import Archiving, Ingesting

log = logging.getLogger(__name__)

_CATCH_UP_SECONDS = 4.0
"""How long a stop waits, once ingest has ended, for the archiver to finish what it has published."""
_INGEST_SECONDS = 4.0
"""How long a stop waits for ingest before it stops the archiver, too: without Kafka, it takes longer."""
_LOOK_SECONDS = 0.02


class State(StrEnum):
    """What a recorder is doing, as it was told to."""

    STOPPED = "stopped"
    RUNNING = "running"
    STOPPING = "stopping"


class Recorder:
    """Either half may be missing. `start` and `stop` return at once, and may be called by any thread, in any state.

    starts: how often it was started.
    """

    def __init__(self, ingest: Ingesting | None, archiver: Archiving | None) -> None:
        self.ingest = ingest
        self.archiver = archiver
        self.state = State.STOPPED
        self.starts = 0
        self._lock = threading.Lock()
        self._halves = [half for half in (archiver, ingest) if half]

    def start(self) -> None:
        """Run both, if it is stopped."""
        with self._lock:
            if self.state is State.STOPPED:
                self.state = State.RUNNING
                self.starts += 1
                for half in self._halves:
                    half.start()

    def stop(self) -> None:
        """Stop ingest, let the archiver finish its file, stop it, if both run; the state says when that is done."""
        with self._lock:
            if self.state is State.RUNNING:
                self.state = State.STOPPING
                threading.Thread(target=self._stop, name="stop", daemon=True).start()

    def _stop(self) -> None:
        if self.ingest:
            self.ingest.stop()
            if self.ingest.join(_INGEST_SECONDS) and self.archiver:
                self._await_archiver(self.ingest, self.archiver)
        if self.archiver:
            self.archiver.stop()
        for half in self._halves:
            half.join()
        with self._lock:
            self.state = State.STOPPED
        log.info("stopped")

    def _await_archiver(self, ingest: Ingesting, archiver: Archiving) -> None:
        """Until it has recorded what ingest published last, that its connection is lost: so it finishes its file."""
        last = ingest.last_published
        if last is None:
            log.warning("%s: what waits in the spool is recorded after the next start", ingest.stream)
            return
        give_up_at = time.monotonic() + _CATCH_UP_SECONDS
        while not archiver.has_recorded(ingest.stream, last):
            if time.monotonic() > give_up_at:
                log.warning("%s: its file stays open; recording goes on with it at the next start", ingest.stream)
                return
            time.sleep(_LOOK_SECONDS)  # a commit is no event that a thread could wait for
