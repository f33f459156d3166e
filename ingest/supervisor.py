"""Several streams in one process: each with its own threads, spool and producer.

A stream that fails is reported and restarted; the others are not affected.
"""

import logging
import resource
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from g3stream.host.disk_wait import MonitoredDisk
from g3stream.kafka.topic_watch import TopicWatch
from g3stream.service.endpoint import ListenError
from ingest.config import StreamSettings
from ingest.publish.in_flight import without_producer_settings
from ingest.publish.publisher import IN_FLIGHT_BYTES, Publisher
from ingest.publish.stream_topics import TopicRefused
from ingest.spool.cache import CACHE_BYTES
from ingest.spool.spool import Spool, SpoolError
from ingest.status import StoppedStream, StreamStatus
from ingest.stream import Stream

log = logging.getLogger(__name__)

MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 5.0, 60.0
"""Wait between a stream's failure and its restart; doubled with each failure."""
_MIN_IN_FLIGHT_BYTES = 2 << 20
_MIN_CACHE_BYTES = 512 << 10
_STABLE_SECONDS = 2.0
"""How long after a restart the last error is still reported: Kafka may report it again at once."""
_EXPECTED_ERRORS = (SpoolError, TopicRefused, ListenError, KafkaException, OSError)


SPOOL_DISK = "the spool's disk"


@contextmanager
def open_stream(
    settings: StreamSettings,
    spool_dir: Path,
    config: Mapping[str, Any],
    watch: TopicWatch,
    disk: MonitoredDisk,
    stop_requested: threading.Event,
    stream_count: int = 1,
) -> Iterator[Stream | None]:
    """Open a stream that is ready to run; None if `stop_requested` was set before its spool could be opened.

    spool_dir: its spool is in a directory of its name in there, on `disk`. config: librdkafka settings of its
    producer. watch: checks its topics. stream_count: how many streams of this process share the memory that a single
    one may use for its backlog. Raises SpoolError, ListenError.
    """
    in_flight_bytes = max(IN_FLIGHT_BYTES // stream_count, _MIN_IN_FLIGHT_BYTES)
    cache_bytes = max(CACHE_BYTES // stream_count, _MIN_CACHE_BYTES)
    spool = disk.call_unless_stopped(
        stop_requested,
        f"opening the spool of {settings.name}",
        lambda: Spool(spool_dir / settings.name, settings.spool_bytes, cache_bytes),
        Spool.close,
    )
    if spool is None:
        yield None
        return
    with spool:
        topic_config, replicas = settings.topic_config, settings.replication_factor
        publisher = Publisher(settings.name, spool, config, topic_config, replicas, watch, in_flight_bytes)
        stream = Stream(
            settings.name, settings.source, settings.timeout_s, settings.max_frame_bytes, spool, publisher
        )
        yield stream


def log_endpoints(settings: StreamSettings, config: Mapping[str, Any]) -> None:
    """Log the stream's source and the Kafka brokers."""
    log.info("%s: from %s to Kafka at %s", settings.name, settings.source, config["bootstrap.servers"])


class StreamSupervisor:
    """Runs several streams, and restarts those that fail, until it is stopped.

    spool_dir, config: as for `open_stream`.
    """

    def __init__(self, streams: Sequence[StreamSettings], spool_dir: Path, config: Mapping[str, Any]) -> None:
        self.stop_requested = threading.Event()
        """Set by any thread to stop all streams; not by a signal handler, as that takes a lock."""
        self._watch = TopicWatch(without_producer_settings(config))
        self._streams = [
            _SupervisedStream(settings, spool_dir, config, self._watch, len(streams)) for settings in streams
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


class _SupervisedStream(threading.Thread):
    """The thread of one stream, which runs it, and restarts it after a failure, until `stop`."""

    def __init__(
        self,
        settings: StreamSettings,
        spool_dir: Path,
        config: Mapping[str, Any],
        watch: TopicWatch,
        stream_count: int,
    ) -> None:
        # A daemon: a disk that hangs must not keep a process whose main thread has failed.
        super().__init__(name=f"{settings.name} stream", daemon=True)
        self.error: str | None = None
        """The error that ended its last run."""
        self._settings = settings
        self._spool_dir = spool_dir
        self._config = config
        self._watch = watch
        self._stream_count = stream_count
        self._stop_requested = threading.Event()
        self._running: Stream | None = None
        self._started_at = 0.0
        self._disk = MonitoredDisk(SPOOL_DISK)

    def stop(self) -> None:
        """Request an orderly stop; for any thread."""
        self._stop_requested.set()
        if running := self._running:
            running.stop_requested.set()

    def status(self) -> StreamStatus | StoppedStream:
        """Return the stream's status."""
        running, error = self._running, self.error
        if running and not (error and time.monotonic() - self._started_at < _STABLE_SECONDS):
            return running.status()
        reason = self._disk.problem() or error or "it is starting"
        return StoppedStream(self._settings.name, reason)

    def run(self) -> None:
        """The thread's work."""
        backoff_s = MIN_BACKOFF_SECONDS
        while not self._stop_requested.is_set():
            started_at = time.monotonic()
            try:
                self._run_once()
            except _EXPECTED_ERRORS as error:
                self.error = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            except Exception as error:  # whatever it is, the other streams continue, and this one may recover
                log.exception("%s: failed", self._settings.name)
                self.error = f"{type(error).__name__}: {error}"
            else:
                self.error = None
                return
            finally:
                self._running = None
            if time.monotonic() - started_at > MAX_BACKOFF_SECONDS:
                backoff_s = MIN_BACKOFF_SECONDS
            again = "" if self._stop_requested.is_set() else f"; trying again in {backoff_s:g} s"
            log.error("%s: %s%s", self._settings.name, self.error, again)
            self._stop_requested.wait(backoff_s)
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_SECONDS)

    def _run_once(self) -> None:
        with open_stream(
            self._settings,
            self._spool_dir,
            self._config,
            self._watch,
            self._disk,
            self._stop_requested,
            self._stream_count,
        ) as stream:
            if stream is None:
                return
            self._started_at = time.monotonic()
            self._running = stream
            if self._stop_requested.is_set():
                stream.stop_requested.set()
            log_endpoints(self._settings, self._config)
            stream.run()


def _allow_many_files() -> None:
    """Raise the limit of open files: a stream needs a dozen, and more with more brokers; a shell's limit is 1,024."""
    soft_limit, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft_limit != hard_limit:
        with suppress(OSError, ValueError):  # our systemd units forbid it, and don't need it
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
