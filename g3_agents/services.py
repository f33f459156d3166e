"""The services of a recorder, ingest and archiver: each in a thread, restarted after a failure until stopped."""

import argparse
import logging
import threading
import time
from abc import ABC, abstractmethod
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
from g3stream.kafka.topic_watch import TopicWatch
from g3stream.service.endpoint import ClientEndpoint, ListenError
from ingest.publish.in_flight import PRODUCER_CONFIG, without_producer_settings
from ingest.publish.publisher import Publisher
from ingest.publish.stream_topics import TopicRefused
from ingest.spool.spool import Spool, SpoolError
from ingest.status import StreamStatus
from ingest.stream import Stream

if TYPE_CHECKING:
    from archiver.suprsync.registration import SupRsyncStatus

log = logging.getLogger(__name__)

_MIN_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 1.0, 30.0
_EXPECTED_ERRORS = (SpoolError, TopicRefused, ListenError, ClaimedError, FencedError, KafkaException, OSError)


class Service(ABC):
    """A service that can be started and stopped repeatedly.

    After a failure it is restarted, without disturbing the other service. (A command would exit instead, and systemd
    or an operator would restart it.)
    """

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name = name
        self._options = options
        self.error: str | None = None
        """Why it isn't running although it should; None if it is."""
        self._stop_requested = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended yet."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the service. It must not be running."""
        self._stop_requested.clear()
        self.error = None
        # A daemon: a disk or a resolver that hangs must not keep the process from exiting.
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Request an orderly stop; `join` waits for it."""
        self._stop_requested.set()
        self._interrupt()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the service has ended. Returns False after the timeout."""
        if self._thread:
            self._thread.join(timeout_s)
        return not self.running

    def _run(self) -> None:
        backoff_s = _MIN_BACKOFF_SECONDS
        while not self._stop_requested.is_set():
            started_at = time.monotonic()
            try:
                self._run_once()
            except AnotherArchiveError as error:
                self.error = str(error)
                for line in error.lines:
                    log.error("%s: %s", self.name, line)
            except _EXPECTED_ERRORS as error:
                kafka = isinstance(error, KafkaException)
                self.error = describe_kafka_error(error, self._options) if kafka else str(error)
                log.error("%s has ended: %s", self.name, self.error)
            except Exception as error:  # whatever it is, the other service continues, and this one may recover
                self.error = f"{type(error).__name__}: {error}"
                log.exception("%s failed", self.name)
            if self._stop_requested.is_set():
                return
            if time.monotonic() - started_at > _MAX_BACKOFF_SECONDS:
                backoff_s = _MIN_BACKOFF_SECONDS
            log.error("%s isn't running; trying again in %g s", self.name, backoff_s)
            self._stop_requested.wait(backoff_s)
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_SECONDS)

    @abstractmethod
    def _run_once(self) -> None:
        """Run until interrupted."""

    @abstractmethod
    def _interrupt(self) -> None:
        """Make `_run_once` return. For any thread, also when it isn't running."""


class IngestService(Service):
    """ingest, for one stream. options: those of sender_options, ingest_options and kafka_options."""

    def __init__(self, options: argparse.Namespace, spool_dir: Path) -> None:
        super().__init__("ingest", options)
        self.stream: str = options.stream_id
        self._spool_dir = spool_dir
        self._running: Stream | None = None

    def status(self) -> StreamStatus | None:
        """Return the status, after the end the last one; None if it never ran."""
        return self._running.status() if self._running else None

    @property
    def last_published_offset(self) -> int | None:
        """After its end: the offset of the last record published; None if some records are still in the spool."""
        status = self.status()
        return status.acknowledged_offset if status and not self.error and not status.spool_bytes else None

    def _run_once(self) -> None:
        options = self._options
        config = kafka_client_config(options, PRODUCER_CONFIG)
        validate_producer_config(config)  # before anything is opened
        source = options.listen or ClientEndpoint(options.address, options.port)
        with (
            TopicWatch(without_producer_settings(config)) as watch,
            Spool(self._spool_dir / self.stream, options.spool_size) as spool,
        ):
            topic_config, replicas = dict(options.topic_config), options.replication_factor
            publisher = Publisher(self.stream, spool, config, topic_config, replicas, watch)
            self._running = Stream(self.stream, source, options.timeout, options.max_frame_size, spool, publisher)
            if self._stop_requested.is_set():
                self._running.stop_requested.set()
            self.error = None
            log.info("%s: from %s to Kafka at %s", self.stream, source, config["bootstrap.servers"])
            self._running.run()

    def _interrupt(self) -> None:
        if self._running:
            self._running.stop_requested.set()


class ArchiverService(Service):
    """archiver, for these streams (None: all).

    options: those of file_options, archiver_options and kafka_options. instance_id: the member's id in the consumer
    group. on_event: called with each event on g3.files, in any thread.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        instance_id: str,
        streams: Sequence[str] | None,
        on_event: Callable[[Event], None],
    ) -> None:
        super().__init__("archiver", options)
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

    def _run_once(self) -> None:
        options = self._options
        location, md5 = located(options.data_dir, options.private_dir), options.suprsync_db is not None
        root = ArchiveRoot.from_location(location, options.group, host_name(), md5=md5)
        config, checksums = kafka_client_config(options, {}), options.checksums
        member = Membership(
            root, settings(options), config, self._instance_id, self._streams, self._on_event, checksums
        )
        suprsync = suprsync_of(options, root, self._streams, config, options.instance_id)
        sinks = sinks_of(options, location.data_dir)
        followers = Followers(config, location, root.group, member.ids, sinks, suprsync)
        self._member, self._followers = member, followers
        if self._stop_requested.is_set():
            self._interrupt()
        self.error = None
        with followers:
            member.run()

    def _interrupt(self) -> None:
        if self._member:
            self._member.stopping.set()
        if self._followers:
            self._followers.stop()
