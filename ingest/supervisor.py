"""The streams of a process: each a service with its own threads, spool and producer.

A stream that fails is reported and restarted; the others are not affected.
"""

import logging
import resource
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from g3stream.kafka.topic_watch import TopicWatch
from g3stream.service.disk_wait import MonitoredDisk
from g3stream.service.endpoint import ListenError
from g3stream.service.supervisor import Backoff, Service
from ingest.config import StreamSettings
from ingest.publish.in_flight import without_producer_settings
from ingest.publish.publisher import IN_FLIGHT_BYTES, Publisher
from ingest.publish.stream_topics import TopicRefused
from ingest.spool.cache import CACHE_BYTES
from ingest.spool.spool import Spool, SpoolError
from ingest.status import StoppedStream, StreamStatus
from ingest.stream import Stream

log = logging.getLogger(__name__)

BACKOFF = Backoff(min_s=5.0, max_s=60.0, stable_s=60.0)
"""Of a stream among several: its errors are mostly an operator's to fix."""
_MIN_IN_FLIGHT_BYTES = 2 << 20
_MIN_CACHE_BYTES = 512 << 10
_STABLE_SECONDS = 2.0
"""How long after a restart the last error is still reported: Kafka may report it again at once."""


class StreamService(Service):
    """A stream, from the opening of its spool to its end. `run_once` raises SpoolError, ListenError, TopicRefused, …

    spool_dir: its spool is in a directory of its name in there. config: librdkafka settings of its producer.
    watch: checks its topics; None for one of its own. stream_count: how many streams of this process share the memory
    that a single one may use for its backlog.
    """

    def __init__(
        self,
        settings: StreamSettings,
        spool_dir: Path,
        config: Mapping[str, Any],
        watch: TopicWatch | None = None,
        stream_count: int = 1,
        backoff: Backoff = BACKOFF,
    ) -> None:
        super().__init__(settings.name, backoff)
        self.last_status: StreamStatus | None = None
        """The status with which its last run has ended."""
        self._settings = settings
        self._spool_dir = spool_dir
        self._config = config
        self._watch = watch
        self._stream_count = stream_count
        self._disk = MonitoredDisk("the spool's disk")
        self._running: Stream | None = None
        self._started_at = 0.0

    def status(self) -> StreamStatus | StoppedStream:
        """Return the stream's status. For any thread."""
        running, error = self._running, self.error
        if running and not (error and time.monotonic() - self._started_at < _STABLE_SECONDS):
            return running.status()
        return StoppedStream(self._settings.name, self._disk.problem() or error or "it is starting")

    def run_once(self) -> None:
        """Run the stream until `stop`; not at all if that comes while its disk doesn't answer."""
        settings, config = self._settings, self._config
        cache_bytes = max(CACHE_BYTES // self._stream_count, _MIN_CACHE_BYTES)
        in_flight_bytes = max(IN_FLIGHT_BYTES // self._stream_count, _MIN_IN_FLIGHT_BYTES)
        spool = self._disk.call_unless_stopped(
            self.stop_requested,
            f"opening the spool of {settings.name}",
            lambda: Spool(self._spool_dir / settings.name, settings.spool_bytes, cache_bytes),
            Spool.close,
        )
        if spool is None:
            return
        try:
            with spool, self._topic_watch() as watch:
                topic_config, replicas = settings.topic_config, settings.replication_factor
                publisher = Publisher(settings.name, spool, config, topic_config, replicas, watch, in_flight_bytes)
                timeout_s, max_bytes = settings.timeout_s, settings.max_frame_bytes
                stream = Stream(settings.name, settings.source, timeout_s, max_bytes, spool, publisher)
                log.info("%s: from %s to Kafka at %s", settings.name, settings.source, config["bootstrap.servers"])
                self._started_at = time.monotonic()
                self._running = stream
                if self.stop_requested.is_set():
                    self.interrupt()
                stream.run()
        finally:
            if self._running:  # until here: the closing of its spool may hang, which its status shows
                self.last_status, self._running = self._running.status(), None

    def interrupt(self) -> None:
        """Make `run_once` return. For any thread."""
        if running := self._running:
            running.stop_requested.set()

    def describe(self, error: Exception) -> str | None:
        """Return an expected error of a stream in words."""
        if isinstance(error, KafkaException):
            text: str = error.args[0].str()
            return text
        return str(error) if isinstance(error, SpoolError | TopicRefused | ListenError | OSError) else None

    def _topic_watch(self) -> AbstractContextManager[TopicWatch]:
        return nullcontext(self._watch) if self._watch else TopicWatch(without_producer_settings(self._config))


class StreamSupervisor:
    """Runs several streams, and restarts those that fail, until it is stopped.

    spool_dir, config: as for StreamService.
    """

    def __init__(self, streams: Sequence[StreamSettings], spool_dir: Path, config: Mapping[str, Any]) -> None:
        self.stop_requested = threading.Event()
        """Set by any thread to stop all streams; not by a signal handler, as that takes a lock."""
        self._watch = TopicWatch(without_producer_settings(config))
        self._streams = [
            StreamService(settings, spool_dir, config, self._watch, len(streams)) for settings in streams
        ]

    def run(self) -> bool:
        """Run until `stop_requested`, then stop all streams at once. Returns whether none of them had failed."""
        _allow_many_files()
        with self._watch:
            for stream in self._streams:
                stream.start()
            self.stop_requested.wait()
            for stream in self._streams:
                stream.stop()
            for stream in self._streams:
                stream.join()
        return not any(stream.error for stream in self._streams)

    def status(self) -> list[StreamStatus | StoppedStream]:
        """Return the status of each stream. For any thread."""
        return [stream.status() for stream in self._streams]


def _allow_many_files() -> None:
    """Raise the limit of open files: a stream needs a dozen, and more with more brokers; a shell's limit is 1,024."""
    soft_limit, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft_limit != hard_limit:
        with suppress(OSError, ValueError):  # our systemd units forbid it, and don't need it
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
