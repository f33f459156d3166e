"""What an agent runs: ingest, archiver, or both; they start together and stop one by one."""

import argparse
import logging
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path

from confluent_kafka import KafkaException

from archiver.archive.ownership import AnotherArchiveError
from archiver.core.events import Event
from archiver.kafka.offset_commits import FencedError
from archiver.membership import ClaimedError
from archiver.recording.status import ArchiveStatus
from archiver.service import Archiver
from g3_agents.monitored.service import MonitoredChannels
from g3stream.kafka.client_config import describe_kafka_error, kafka_client_config, validate_producer_config
from g3stream.service.supervisor import Backoff, Service
from ingest.config import stream_from_flags
from ingest.publish.in_flight import PRODUCER_CONFIG
from ingest.reports import publish_reports
from ingest.status import StoppedStream, StreamStatus
from ingest.stream import StreamService

log = logging.getLogger(__name__)

_BACKOFF = Backoff(min_s=1.0, max_s=30.0, stable_s=30.0)
_CATCH_UP_TIMEOUT_SECONDS = 4.0
"""How long a stop waits, after ingest has ended, for the archiver to record what ingest has published."""
_INGEST_TIMEOUT_SECONDS = 4.0
"""How long a stop waits for ingest before it stops the archiver too: without Kafka, ingest takes longer."""
_POLL_SECONDS = 0.02


class IngestService(StreamService):
    """ingest, for one stream. options: those of ingest_options and kafka_options."""

    def __init__(self, options: argparse.Namespace, spool_dir: Path) -> None:
        config = kafka_client_config(options, PRODUCER_CONFIG)
        super().__init__(stream_from_flags(options, options.stream_id), spool_dir, config, backoff=_BACKOFF)
        self._options = options

    @property
    def latest_status(self) -> StreamStatus | None:
        """The status, after the end the last one; None if it never ran."""
        status = self.status()
        return self.last_status if isinstance(status, StoppedStream) else status

    @property
    def last_published_offset(self) -> int | None:
        """After its end: the offset of the last record published; None if some records are still in the spool."""
        status = self.last_status
        return status.published.acknowledged_offset if status and not self.error and not status.spool.bytes else None

    def run_once(self) -> None:
        """Check the settings before anything is opened, and run the stream."""
        validate_producer_config(self._config)
        with publish_reports(self._config, [self]):
            super().run_once()

    def describe(self, error: Exception) -> str | None:
        """Return an expected error in words, without secret values of settings."""
        is_kafka = isinstance(error, KafkaException)
        return describe_kafka_error(error, self._options) if is_kafka else super().describe(error)


class ArchiverService(Service):
    """archiver, for these streams (None: all).

    options: those of archiver_options and kafka_options. on_event: called with each event on g3.files, in any thread.
    """

    def __init__(
        self, options: argparse.Namespace, streams: Sequence[str] | None, on_event: Callable[[Event], None]
    ) -> None:
        super().__init__("archiver", _BACKOFF)
        self._options = options
        # The agent's address is unique at the site, so it also identifies the archiver in its group.
        address = f"{options.address_root}.{options.instance_id}"
        self._make = partial(Archiver, options, streams, address, options.instance_id, on_event)
        self.latest: Archiver | None = None
        """The present one, or the last; None if there was none."""

    def status(self) -> ArchiveStatus | None:
        """Return the status, after the end the last one; None if it never ran."""
        return self.latest.membership.status() if self.latest else None

    def has_recorded(self, stream: str, offset: int) -> bool:
        """Whether a stream is durable and committed up to and including that record."""
        status = self.status()
        committed = [r.committed_offset for r in status.streams if r.stream == stream] if status else []
        return any(at is not None and at > offset for at in committed)

    def run_once(self) -> None:
        """Record until interrupted. Raises as Archiver.run."""
        self.latest = self._make()
        if self.stop_requested.is_set():
            self.interrupt()
        self.error = None
        self.latest.run()

    def interrupt(self) -> None:
        """Make `run_once` return. For any thread."""
        if self.latest:
            self.latest.stop()

    def describe(self, error: Exception) -> str | None:
        """Return an expected error in words."""
        if isinstance(error, KafkaException):
            return describe_kafka_error(error, self._options)
        if isinstance(error, AnotherArchiveError):
            for line in error.lines[:-1]:  # the last one is the summary
                log.error("%s: %s", self.name, line)
        expected = isinstance(error, AnotherArchiveError | ClaimedError | FencedError | OSError)
        return str(error) if expected else None


class RecorderState(StrEnum):
    """The state of a recorder, as requested by its operator."""

    STOPPED = "stopped"
    RUNNING = "running"
    STOPPING = "stopping"


class Recorder:
    """ingest and archiver, of which one may be missing. monitored: channels that are published beside the recording.

    `start` and `stop` return at once, and may be called by any thread, in any state.
    """

    def __init__(
        self,
        ingest: IngestService | None,
        archiver: ArchiverService | None,
        monitored: MonitoredChannels | None = None,
    ) -> None:
        self.ingest = ingest
        self.archiver = archiver
        self.monitored = monitored
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
