"""One stream from its sender to its topic: one thread receives into the spool, another publishes from it."""

import logging
import secrets
import threading
import time
from collections.abc import Mapping
from concurrent.futures import wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from g3stream.contract.headers import Kind
from g3stream.contract.producer_epoch import RANDOM_BITS, new_epoch
from g3stream.host.activity import Activity, longest
from g3stream.host.environment import now_ms
from g3stream.kafka.topic_admin import TopicWatch
from g3stream.log.throttle import LogThrottle
from g3stream.service.endpoint import ListenError
from g3stream.service.supervisor import Backoff, Service
from g3stream.service.timeouts import MonitoredDisk, start_call
from ingest.config import StreamSettings
from ingest.publish.in_flight import without_producer_settings
from ingest.publish.outage import Outages
from ingest.publish.publisher import IN_FLIGHT_BYTES, Publisher
from ingest.publish.stream_topics import TopicRefused
from ingest.receive.connection import Connection, ConnectionListener
from ingest.receive.record_builder import PendingRecord, RecordBuilder
from ingest.spool.cache import CACHE_BYTES
from ingest.spool.spool import Spool
from ingest.spool.writer import SpoolError
from ingest.status import ReceiveStatus, SpoolStatus, StoppedStream, StreamStatus

log = logging.getLogger(__name__)

BACKOFF = Backoff(min_s=5.0, max_s=60.0, stable_s=60.0)
"""Of a stream among several: its errors are mostly an operator's to fix."""
_MIN_IN_FLIGHT_BYTES = 2 << 20
_MIN_CACHE_BYTES = 512 << 10
_STABLE_SECONDS = 2.0
"""How long after a restart the last error is still reported: Kafka may report it again at once."""
_SPOOL_RETRY_SECONDS = 1.0
_STOP_SECONDS = 3.0
"""How long a stop waits for the reader and for Kafka, before it leaves the rest in the spool."""
_MIN_WAIT_SECONDS = 1.0
"""How long a stop waits for Kafka at least, however long the reader took; and then for the publisher to end. It ends
at once, except if it abandons a client whose resolver hangs (g3stream/service/process_exit.py)."""
_LAST_ATTEMPTS_SECONDS = 2.0
"""How long the reader, within _STOP_SECONDS, waits for space on a full disk."""


class Stream:
    """A stream: receives frames from its sender, spools them and publishes them, until it is stopped.

    Raises ListenError.
    """

    def __init__(self, settings: StreamSettings, spool: Spool, publisher: Publisher) -> None:
        self.stop_requested = threading.Event()
        """Set by any thread to stop the stream; not by a signal handler, as that takes a lock."""
        self._name = name = settings.name
        self._received = ReceiveStatus(str(settings.source), now_ms())
        self._append_error: str | None = None
        self._append_throttle = LogThrottle()
        self._reader_activity = Activity()  # of the thread that reads the socket
        self._spool = spool
        self._publisher = publisher
        if spool.ledger.waiting_batches:
            log.info("%s: %.1f MB from before wait in the spool for Kafka", name, spool.ledger.waiting_bytes / 1e6)
        listener = ConnectionListener(self._on_connected, self._on_frames, self._on_idle, self._on_disconnected)
        self._connection = Connection(settings, listener)
        previous = spool.previous[0] if spool.previous else None
        epoch = new_epoch(previous, self._received.since_ms, secrets.randbits(RANDOM_BITS))
        self._record_builder = RecordBuilder(epoch, spool.previous, spool.unclean_shutdown)
        self._awaiting_first_frame = True

    def run(self) -> None:
        """Receive and publish until `stop_requested`; then publish the rest, as far as Kafka takes it within seconds.

        Raises TopicRefused, SpoolError, or any other error that ended one of the two threads.
        """
        reader = start_call(f"{self._name} connection", self._receive)
        publisher = start_call(f"{self._name} publisher", self._publisher.run)
        for thread in (reader, publisher):
            thread.add_done_callback(lambda _: self.stop_requested.set())
        self.stop_requested.wait()
        self._connection.stop()
        self._spool.ledger.stop()
        until = time.monotonic() + _STOP_SECONDS
        wait([reader], _STOP_SECONDS)
        self._publisher.stop()
        wait([publisher], max(_MIN_WAIT_SECONDS, until - time.monotonic()))
        self._publisher.cancel()
        wait([publisher], _MIN_WAIT_SECONDS)
        while not publisher.done() and self._publisher.activity.is_busy:  # with the spool, not with Kafka's resolver
            wait([publisher], _MIN_WAIT_SECONDS)
        if reader.done():  # not if the resolver hangs
            self._connection.close()
        for thread in (reader, publisher):
            if thread.done():
                thread.result()  # raises the error that ended it
        if self._spool.ledger.waiting_batches:
            megabytes = self._spool.ledger.waiting_bytes / 1e6
            text = "%s: stopped; %.1f MB wait in the spool for Kafka, and are published after the next start"
            log.warning(text, self._name, megabytes)
        else:
            log.info("%s: stopped; everything received is published", self._name)

    def status(self) -> StreamStatus:
        """Return the stream's status. For any thread."""
        spool, published = self._spool.ledger, self._publisher.status()
        full = "the spool is full" if spool.full else None
        activities = self._reader_activity, self._spool.group_sync.activity, self._publisher.activity
        return StreamStatus(
            self._name,
            replace(self._received),
            SpoolStatus(spool.waiting_bytes, spool.full, spool.limit_bytes, spool.unreadable_batches),
            published,
            "; ".join(filter(None, [self._append_error or full, published.degraded_reason])) or None,
            longest(*(activity.hang() for activity in activities)),
        )

    def _receive(self) -> None:
        # In this thread, as on a full disk it waits until the publisher has made space.
        self._append([self._record_builder.connection_record(Kind.LOST, now_ms(), "ingest started")])
        self._connection.run()

    def _on_connected(self, peer: str) -> None:
        log.info("%s: connected to %s", self._name, peer)
        received = self._received
        self._awaiting_first_frame = True
        received.peer, received.since_ms = peer, now_ms()
        received.connections += 1
        self._append([self._record_builder.connection_record(Kind.CONNECTED, received.since_ms, peer)])

    def _on_frames(self, frames: list[bytes | memoryview]) -> bool:
        received, received_ms, frames_before = self._received, now_ms(), self._received.frames
        pending = [record for frame in frames if (record := self._record_builder.received(frame, received_ms))]
        if pending:
            self._append(pending)
        if self._record_builder.bad_ids and not received.bad_ids:
            text = "%s: the sostream_id of its frames is no valid stream name; it is ignored, and this name used"
            log.warning(text, self._name)
        received.bad_ids = self._record_builder.bad_ids
        for record in pending:
            if record.rejected:
                received.rejected += 1
                text = "%s: rejected a frame of %d bytes: %s; it is kept in Kafka, and is in no file"
                log.warning(text, self._name, len(record.value), record.headers.why)
            elif record.headers.kind is not Kind.FRAME:
                received.acquiring = record.headers.kind is Kind.START
                log.info("%s: %s", self._name, record.headers.kind.upper())
            else:
                received.frames += 1
                received.bytes += len(record.value)
                received.last_frame_ms = received_ms
                if self._awaiting_first_frame:
                    self._awaiting_first_frame = False
                    log.info("%s: first frame, %d bytes", self._name, len(record.value))
        return received.frames > frames_before

    def _on_idle(self) -> None:
        self._append([self._record_builder.connection_record(Kind.QUIET, now_ms())])

    def _on_disconnected(self, reason: str) -> None:
        next_step = "" if self.stop_requested.is_set() else "; waiting for the next one"
        log.warning("%s: connection closed: %s%s", self._name, reason, next_step)
        received = self._received
        received.peer, received.since_ms, received.disconnect_reason = None, now_ms(), reason
        received.acquiring = False
        self._append([self._record_builder.connection_record(Kind.LOST, received.since_ms, reason)])

    def _append(self, pending: list[PendingRecord]) -> None:
        """Append records to the spool, however long that takes; nothing is read meanwhile.

        Raises SpoolError if the stream is stopped before they can be written.
        """
        give_up_at = None
        while True:
            try:
                with self._reader_activity.track("a write to the spool"):
                    self._spool.writer.append(pending)
                break
            except SpoolError as error:
                now = time.monotonic()
                if self._append_error is None:
                    self._received.backpressure_events += 1
                self._append_error = str(error)
                if self._append_throttle.due(now):
                    log.error("%s: %s; reading stops until it can be written", self._name, error)
                if self.stop_requested.is_set():
                    give_up_at = give_up_at or now + _LAST_ATTEMPTS_SECONDS
                    if now > give_up_at:
                        log.error("%s: stopped before it could be written; what was read last is lost", self._name)
                        raise
                self._spool.ledger.wait_for_freed_space(_SPOOL_RETRY_SECONDS)
        self._publisher.publish_inline()
        if self._append_error is not None:
            self._append_error = None
            self._append_throttle.reset()
            log.info("%s: the spool can be written again", self._name)
        if self._spool.ledger.full:
            self._received.backpressure_events += 1
            log.error("%s: the spool is full; reading stops until Kafka accepts records", self._name)
            self._spool.ledger.wait_for_space()
            log.info("%s: the spool has space again", self._name)


class StreamService(Service):
    """A stream, from the opening of its spool to its end. `run_once` raises SpoolError, ListenError, TopicRefused, …

    spool_dir: its spool is in a directory of its name in there. config: librdkafka settings of its producer.
    watch: checks its topics; None for one of its own. stream_count: how many streams of this process share the memory
    that a single one may use for its backlog. outages: those of all streams of this process; None: there is no other.
    """

    def __init__(
        self,
        settings: StreamSettings,
        spool_dir: Path,
        config: Mapping[str, Any],
        watch: TopicWatch | None = None,
        stream_count: int = 1,
        backoff: Backoff = BACKOFF,
        outages: Outages | None = None,
    ) -> None:
        super().__init__(settings.name, backoff)
        self.last_status: StreamStatus | None = None
        """The status with which its last run has ended."""
        self._settings = settings
        self._spool_dir = spool_dir
        self._config = config
        self._watch = watch
        self._stream_count = stream_count
        self._outages = outages or Outages()
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
                publisher = Publisher(settings, spool, config, watch, in_flight_bytes, self._outages)
                stream = Stream(settings, spool, publisher)
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
            return str(error.args[0].str())
        return str(error) if isinstance(error, SpoolError | TopicRefused | ListenError | OSError) else None

    def _topic_watch(self) -> AbstractContextManager[TopicWatch]:
        return nullcontext(self._watch) if self._watch else TopicWatch(without_producer_settings(self._config))
