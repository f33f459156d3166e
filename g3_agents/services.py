"""The services of a recorder: ingest and archiver."""

import argparse
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from confluent_kafka import KafkaException

from archiver.archive.ownership import AnotherArchiveError
from archiver.core.events import Event
from archiver.kafka.offset_commits import FencedError
from archiver.membership import ClaimedError
from archiver.recording.status import ArchiveStatus
from archiver.service import Archiver
from g3stream.kafka.client_config import describe_kafka_error, kafka_client_config, validate_producer_config
from g3stream.service.supervisor import Backoff, Service
from ingest.config import stream_from_flags
from ingest.publish.in_flight import PRODUCER_CONFIG
from ingest.status import StoppedStream, StreamStatus
from ingest.supervisor import StreamService

log = logging.getLogger(__name__)

_BACKOFF = Backoff(min_s=1.0, max_s=30.0, stable_s=30.0)


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
        validate_producer_config(kafka_client_config(self._options, PRODUCER_CONFIG))
        super().run_once()

    def describe(self, error: Exception) -> str | None:
        """Return an expected error in words, without secret values of settings."""
        return _describe_kafka(error, self._options) or super().describe(error)


class ArchiverService(Service):
    """archiver, for these streams (None: all).

    options: those of archiver_options and kafka_options. member_id: its id in the consumer group. on_event: called
    with each event on g3.files, in any thread.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        member_id: str,
        streams: Sequence[str] | None,
        on_event: Callable[[Event], None],
    ) -> None:
        super().__init__("archiver", _BACKOFF)
        self._options = options
        self._make = partial(Archiver, options, streams, member_id, options.instance_id, on_event)
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
        if isinstance(error, AnotherArchiveError):
            for line in error.lines[:-1]:  # the last one is the summary
                log.error("%s: %s", self.name, line)
        expected = isinstance(error, AnotherArchiveError | ClaimedError | FencedError | OSError)
        return str(error) if expected else _describe_kafka(error, self._options)


def _describe_kafka(error: Exception, options: argparse.Namespace) -> str | None:
    return describe_kafka_error(error, options) if isinstance(error, KafkaException) else None
