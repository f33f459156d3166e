"""One stream from its sender to its topic: one thread receives into the spool, another publishes from it."""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from g3stream.contract.headers import Kind
from g3stream.contract.producer_epoch import RANDOM_BITS, new_epoch
from g3stream.host.activity import Activity, longest
from g3stream.host.environment import now_ms
from g3stream.service.endpoint import ClientEndpoint, ListenEndpoint
from g3stream.service.log_throttle import LogThrottle
from ingest.publish.publisher import Publisher
from ingest.receive.connection import Connection, ConnectionListener
from ingest.receive.record_builder import PendingRecord, RecordBuilder
from ingest.spool.spool import Spool, SpoolError
from ingest.status import ReceiveStatus, SpoolStatus, StreamStatus

log = logging.getLogger(__name__)

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

    timeout_s, max_frame_bytes: as for Connection. Raises ListenError.
    """

    def __init__(
        self,
        name: str,
        source: ClientEndpoint | ListenEndpoint,
        timeout_s: float,
        max_frame_bytes: int,
        spool: Spool,
        publisher: Publisher,
    ) -> None:
        self.stop_requested = threading.Event()
        """Set by any thread to stop the stream; not by a signal handler, as that takes a lock."""
        self._name = name
        self._received = ReceiveStatus(str(source), now_ms())
        self._append_error: str | None = None
        self._append_throttle = LogThrottle()
        self._reader_activity = Activity()  # of the thread that reads the socket
        self._spool = spool
        self._publisher = publisher
        if spool.ledger.waiting_batches:
            log.info("%s: %.1f MB from before wait in the spool for Kafka", name, spool.ledger.waiting_bytes / 1e6)
        listener = ConnectionListener(self._on_connected, self._on_frames, self._on_idle, self._on_disconnected)
        self._connection = Connection(name, source, timeout_s, max_frame_bytes, listener)
        previous = spool.previous[0] if spool.previous else None
        epoch = new_epoch(previous, self._received.since_ms, secrets.randbits(RANDOM_BITS))
        self._record_builder = RecordBuilder(epoch, spool.previous, spool.unclean_shutdown)
        self._awaiting_first_frame = True

    def run(self) -> None:
        """Receive and publish until `stop_requested`; then publish the rest, as far as Kafka takes it within seconds.

        Raises TopicRefused, SpoolError, or any other error that ended one of the two threads.
        """
        reader = _Thread(f"{self._name} connection", self._receive, self.stop_requested)
        publisher = _Thread(f"{self._name} publisher", self._publisher.run, self.stop_requested)
        self.stop_requested.wait()
        self._connection.stop()
        self._spool.ledger.stop()
        until = time.monotonic() + _STOP_SECONDS
        reader.join(_STOP_SECONDS)
        self._publisher.stop()
        publisher.join(max(_MIN_WAIT_SECONDS, until - time.monotonic()))
        self._publisher.cancel()
        publisher.join(_MIN_WAIT_SECONDS)
        while publisher.is_alive() and self._publisher.activity.is_busy:  # with the spool, not with Kafka's resolver
            publisher.join(_MIN_WAIT_SECONDS)
        if not reader.is_alive():  # it is, if the resolver hangs
            self._connection.close()
        for thread in (reader, publisher):
            if thread.error:
                raise thread.error
        if self._spool.ledger.waiting_batches:
            megabytes = self._spool.ledger.waiting_bytes / 1e6
            log.warning("%s: stopped; %.1f MB wait in the spool for Kafka", self._name, megabytes)
        else:
            log.info("%s: stopped; everything received is published", self._name)

    def status(self) -> StreamStatus:
        """Return the stream's status. For any thread."""
        spool, published = self._spool.ledger, self._publisher.status()
        full = "the spool is full" if spool.full else None
        return StreamStatus(
            self._name,
            replace(self._received, bad_ids=self._record_builder.bad_ids),
            SpoolStatus(spool.waiting_bytes, spool.full, spool.limit_bytes, spool.unreadable_batches),
            published,
            "; ".join(filter(None, [self._append_error or full, published.degraded_reason])) or None,
            longest(self._reader_activity.hang(), self._spool.sync_activity.hang(), self._publisher.activity.hang()),
        )

    def _receive(self) -> None:
        # In this thread, as on a full disk it waits until the publisher has made space.
        self._append([self._record_builder.started(now_ms())])
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
        no_bad_ids = not self._record_builder.bad_ids
        pending = [record for frame in frames if (record := self._record_builder.received(frame, received_ms))]
        if pending:
            self._append(pending)
        if no_bad_ids and self._record_builder.bad_ids:
            log.warning("%s: the sostream_id of its frames is no valid stream name; it is ignored", self._name)
        for record in pending:
            if record.rejected:
                received.rejected += 1
                log.warning("%s: rejected a frame of %d bytes: %s", self._name, len(record.value), record.headers.why)
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
        log.warning("%s: connection closed: %s", self._name, reason)
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
                    self._spool.append(pending)
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
                self._spool.ledger.wait_for_acknowledgement(_SPOOL_RETRY_SECONDS)
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


class _Thread(threading.Thread):
    """A thread, started at once, that sets `stop_requested` when it ends, and keeps the error that ended it."""

    def __init__(self, name: str, work: Callable[[], None], stop_requested: threading.Event) -> None:
        # A daemon: a resolver that hangs must not keep the process from exiting.
        super().__init__(name=name, daemon=True)
        self.error: BaseException | None = None
        self._work = work
        self._stop_requested = stop_requested
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that runs Stream.run
            self.error = error
        finally:
            self._stop_requested.set()
