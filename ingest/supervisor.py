"""Several streams in one process: each in threads of its own, with its own spool and its own producer.

What ends one of them is told, and that one is started again by itself; the others don't notice.
"""

import logging
import resource
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from g3stream.host.disk_wait import AwaitedDisk
from g3stream.kafka.topic_watch import TopicWatch
from g3stream.service.endpoint import ListenError
from ingest.config import StreamSettings
from ingest.publish.in_flight import of_any_client
from ingest.publish.publisher import IN_FLIGHT_BYTES, Publisher
from ingest.publish.stream_topics import TopicRefused
from ingest.spool.cache import FRESH_BYTES
from ingest.spool.spool import Spool, SpoolError
from ingest.stream import Stream, StreamStatus

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 60.0
"""Between the end of a stream by an error, and its next start."""
_LEAST_IN_FLIGHT_BYTES = 2 << 20
_LEAST_FRESH_BYTES = 512 << 10
_SETTLED_SECONDS = 2.0
"""Kafka may say at once again why not: until then a stream that was started again isn't taken for well."""
_EXPECTED = (SpoolError, TopicRefused, ListenError, KafkaException, OSError)


SPOOL_DISK = "the spool's disk"


@contextmanager
def opened(
    settings: StreamSettings,
    spool_dir: Path,
    config: Mapping[str, Any],
    watch: TopicWatch,
    disk: AwaitedDisk,
    over: threading.Event,
    streams: int = 1,
) -> Iterator[Stream | None]:
    """A stream that is ready to run; None if `over` was set before its spool could be opened.

    spool_dir: it gets a directory of its name in there, on that disk. config: librdkafka's settings of its producer.
    watch: checks its topics. streams: how many in this process share the memory that a single one may take for its
    backlog. Raises SpoolError, ListenError.
    """
    in_flight_bytes = max(IN_FLIGHT_BYTES // streams, _LEAST_IN_FLIGHT_BYTES)
    fresh_bytes = max(FRESH_BYTES // streams, _LEAST_FRESH_BYTES)
    spool = disk.unless(
        over,
        f"opening the spool of {settings.name}",
        lambda: Spool(spool_dir / settings.name, settings.spool_size, fresh_bytes),
        Spool.close,
    )
    if spool is None:
        yield None
        return
    with spool:
        topic_config, replicas = settings.topic_config, settings.replication_factor
        publisher = Publisher(settings.name, spool, config, topic_config, replicas, watch, in_flight_bytes)
        stream = Stream(settings.name, settings.source, settings.timeout, settings.max_frame_size, spool, publisher)
        yield stream


def say_where(settings: StreamSettings, config: Mapping[str, Any]) -> None:
    """In the log: from where to where a stream goes."""
    log.info("%s: from %s to Kafka at %s", settings.name, settings.source, config["bootstrap.servers"])


@dataclass(frozen=True, slots=True)
class Down:
    """A stream that isn't running now, and why."""

    stream: str
    why: str

    def problems(self, _now: float) -> Iterator[str]:
        """As StreamStatus'."""
        yield self.why


class Streams:
    """Several streams. `over` may be set by any thread (in no signal handler: that takes a lock) to stop them all.

    spool_dir, config: as `opened` takes them, for each.
    """

    def __init__(self, streams: Sequence[StreamSettings], spool_dir: Path, config: Mapping[str, Any]) -> None:
        self.over = threading.Event()
        self._watch = TopicWatch(of_any_client(config))
        self._streams = [_Kept(settings, spool_dir, config, self._watch, len(streams)) for settings in streams]

    def run(self) -> bool:
        """Record until `over`; then all end at once, as a single one does. Whether all were well then."""
        _allow_many_files()
        with self._watch:
            for stream in self._streams:
                stream.start()
            self.over.wait()
            for stream in self._streams:
                stream.stop()
            for stream in self._streams:
                stream.join()
        return not any(stream.error for stream in self._streams)

    def status(self) -> list[StreamStatus | Down]:
        """How each is now; for any thread."""
        return [stream.status() for stream in self._streams]


class _Kept(threading.Thread):
    """One of the streams: run, and run again when it ends by an error, until `stop`. error: of its last end."""

    def __init__(
        self, settings: StreamSettings, spool_dir: Path, config: Mapping[str, Any], watch: TopicWatch, streams: int
    ) -> None:
        # A daemon: what a disk holds up must not keep a process whose main thread has failed.
        super().__init__(name=f"{settings.name} stream", daemon=True)
        self.error: str | None = None
        self._settings = settings
        self._spool_dir = spool_dir
        self._config = config
        self._watch = watch
        self._streams = streams
        self._over = threading.Event()
        self._running: Stream | None = None
        self._begun = 0.0
        self._disk = AwaitedDisk(SPOOL_DISK)

    def stop(self) -> None:
        """Let it end, in order."""
        self._over.set()
        if running := self._running:
            running.over.set()

    def status(self) -> StreamStatus | Down:
        """How it is now."""
        running, error = self._running, self.error
        if running and not (error and time.monotonic() - self._begun < _SETTLED_SECONDS):
            return running.status()
        why = self._disk.problem() or error or "it is being started"
        return Down(self._settings.name, why)

    def run(self) -> None:
        """As threading's."""
        pause = FIRST_PAUSE_SECONDS
        while not self._over.is_set():
            begun = time.monotonic()
            try:
                self._record()
            except _EXPECTED as error:
                self.error = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            except Exception as error:  # whatever it is, the others go on, and so may this one
                log.exception("%s: failed", self._settings.name)
                self.error = f"{type(error).__name__}: {error}"
            else:
                self.error = None
                return
            finally:
                self._running = None
            if time.monotonic() - begun > LONGEST_PAUSE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            again = "" if self._over.is_set() else f"; trying again in {pause:g} s"
            log.error("%s: %s%s", self._settings.name, self.error, again)
            self._over.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _record(self) -> None:
        with opened(
            self._settings, self._spool_dir, self._config, self._watch, self._disk, self._over, self._streams
        ) as stream:
            if stream is None:
                return
            self._begun = time.monotonic()
            self._running = stream
            if self._over.is_set():
                stream.over.set()
            say_where(self._settings, self._config)
            stream.run()


def _allow_many_files() -> None:
    """A stream has a dozen open, and some more for each further broker: a shell's usual limit is 1,024."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now != most:
        with suppress(OSError, ValueError):  # our systemd units forbid it, and have no need of it
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
