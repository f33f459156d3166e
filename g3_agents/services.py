"""The services of a recorder: ingest and archiver."""

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

from archiver.archive.location import located
from archiver.archive.ownership import AnotherArchiveError
from archiver.archive.root import ArchiveRoot
from archiver.core.events import Event
from archiver.followers import Followers, sinks_of, suprsync_of
from archiver.handover.schedule import FollowerStatus
from archiver.kafka.offset_commits import FencedError
from archiver.membership import ClaimedError, Membership
from archiver.recording.status import ArchiveStatus
from g3_agents.options import settings
from g3stream.host.environment import host_name
from g3stream.kafka.client_config import describe_kafka_error, kafka_client_config, validate_producer_config
from g3stream.service.supervisor import Backoff, Service
from ingest.config import stream_from_flags
from ingest.publish.in_flight import PRODUCER_CONFIG
from ingest.status import StoppedStream, StreamStatus
from ingest.supervisor import StreamService

if TYPE_CHECKING:
    from archiver.suprsync.registration import SupRsyncStatus

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
        return status.acknowledged_offset if status and not self.error and not status.spool_bytes else None

    def run_once(self) -> None:
        """Check the settings before anything is opened, and run the stream."""
        validate_producer_config(kafka_client_config(self._options, PRODUCER_CONFIG))
        super().run_once()

    def describe(self, error: Exception) -> str | None:
        """Return an expected error in words, without secret values of settings."""
        return _describe_kafka(error, self._options) or super().describe(error)


class ArchiverService(Service):
    """archiver, for these streams (None: all).

    options: those of archiver_options and kafka_options. instance_id: the member's id in the consumer
    group. on_event: called with each event on g3.files, in any thread.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        instance_id: str,
        streams: Sequence[str] | None,
        on_event: Callable[[Event], None],
    ) -> None:
        super().__init__("archiver", _BACKOFF)
        self._options = options
        self._instance_id = instance_id
        self._streams = streams
        self._on_event = on_event
        self._member: Membership | None = None
        self._followers: Followers | None = None

    def followers(self) -> tuple[FollowerStatus, ...]:
        """Return the status of the hand-overs of its events."""
        return self._followers.status() if self._followers else ()

    def suprsync(self) -> "SupRsyncStatus | None":
        """Return the status of the hand-over to SupRsync, if there is one."""
        return self._followers.suprsync() if self._followers else None

    def status(self) -> ArchiveStatus | None:
        """Return the status, after the end the last one; None if it never ran."""
        return self._member.status() if self._member else None

    def has_recorded(self, stream: str, offset: int) -> bool:
        """Whether a stream is durable and committed up to and including that record."""
        status = self.status()
        committed = [r.committed_offset for r in status.streams if r.stream == stream] if status else []
        return any(at is not None and at > offset for at in committed)

    def run_once(self) -> None:
        """Record until interrupted. Raises as Membership.run."""
        options = self._options
        location, md5 = located(options.data_dir, options.private_dir), options.suprsync_db is not None
        root = ArchiveRoot(location, options.group, host_name(), md5=md5)
        config, checksums = kafka_client_config(options, {}), options.checksums
        member = Membership(
            root, settings(options), config, self._instance_id, self._streams, self._on_event, checksums
        )
        suprsync = suprsync_of(options, root, self._streams, config, options.instance_id)
        sinks = sinks_of(options, location.data_dir)
        followers = Followers(config, location, root.group, member.ids, sinks, suprsync)
        self._member, self._followers = member, followers
        if self.stop_requested.is_set():
            self.interrupt()
        self.error = None
        with followers:
            member.run()

    def interrupt(self) -> None:
        """Make `run_once` return. For any thread."""
        if self._member:
            self._member.stopping.set()
        if self._followers:
            self._followers.stop()

    def describe(self, error: Exception) -> str | None:
        """Return an expected error in words."""
        if isinstance(error, AnotherArchiveError):
            for line in error.lines[:-1]:  # the last one is the summary
                log.error("%s: %s", self.name, line)
        expected = isinstance(error, AnotherArchiveError | ClaimedError | FencedError | OSError)
        return str(error) if expected else _describe_kafka(error, self._options)


def _describe_kafka(error: Exception, options: argparse.Namespace) -> str | None:
    return describe_kafka_error(error, options) if isinstance(error, KafkaException) else None
