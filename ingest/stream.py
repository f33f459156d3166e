"""One stream, from its sender to its topic: a connection that fills a spool, a publisher that empties it."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from g3stream.contract.headers import Kind
from g3stream.contract.producer_epoch import RANDOM_BITS, new_epoch
from g3stream.contract.topic_settings import Difference, Severity
from g3stream.host.activity import Activity, Hang, longest
from g3stream.service.endpoint import ClientEndpoint, ListenEndpoint
from g3stream.service.histogram import LatencyCounts
from ingest.publish.publisher import Publisher
from ingest.receive.connection import Connection, ConnectionListener
from ingest.receive.record_builder import PendingRecord, RecordBuilder
from ingest.spool.spool import Spool, SpoolError

log = logging.getLogger(__name__)

LATE_SECONDS = 30.0
"""So long after its receipt a record that Kafka hasn't acknowledged is a problem, whatever the reason."""
_SPOOL_RETRY_SECONDS = 1.0
_LOG_INTERVAL_SECONDS = 60.0
_STOP_SECONDS = 3.0
"""How long a stop waits for the reader, and for Kafka, before it leaves the rest in the spool."""
_MIN_WAIT_SECONDS = 1.0
"""So long it waits for Kafka however long the reader took, and then for the publisher to end: it does at once, but
where it gives up a client while the resolver hangs (g3stream/service/process_exit.py)."""
_LAST_ATTEMPTS_SECONDS = 2.0
"""How long a stop waits, within that, for room on a full disk."""


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """How a stream is. Times in ms since the epoch, UTC; counts since this ingest was started.

    source: where its frames come from. peer: who is connected, None if nobody is; since_ms: when that began.
    disconnect_reason: of the last connection that was lost. acquiring: START has come, and since then neither END nor
    the loss of the connection. connections: that were made. frames, bytes: data frames received, whole;
    last_frame_ms: when the last of them came. rejected: frames that can't be trusted. bad_ids: frames with a
    sostream_id that is no stream name. backpressure_events: how often reading had to stop. spool_bytes: that wait for
    Kafka; spool_full: reading waits for room; spool_limit_bytes: bytes, at which it begins to. oldest_unacked_ms:
    when the first record that waits for Kafka was received, None if none is known to. unreadable_batches: bundles of
    records given up as damaged. acknowledged_offset: the offset of the last record that Kafka has; latency: of those
    that it acknowledged, from receipt on. degraded_reason: why it waits for Kafka or its disk now, None if it
    doesn't. throttled_reason: what is to be said of Kafka's quotas, None if it doesn't throttle; throttled_s: for how
    long it has, in all. hang: what its disk doesn't come to an end of, None if it does. topics: what isn't right of
    its topics.
    """

    stream: str
    source: str
    peer: str | None
    since_ms: int
    disconnect_reason: str | None
    acquiring: bool
    connections: int
    frames: int
    bytes: int
    last_frame_ms: int | None
    rejected: int
    bad_ids: int
    backpressure_events: int
    spool_bytes: int
    spool_full: bool
    spool_limit_bytes: int
    oldest_unacked_ms: int | None
    unreadable_batches: int
    acknowledged_offset: int | None
    latency: LatencyCounts
    degraded_reason: str | None
    throttled_reason: str | None = None
    throttled_s: float = 0.0
    hang: Hang | None = None
    topics: tuple[Difference, ...] = ()

    def oldest_unacked_age_s(self, now_s: float) -> float:
        """How long the first record that waits for Kafka has done so, s; 0 if none does. now_s: s since the epoch."""
        oldest = self.oldest_unacked_ms if self.spool_bytes else None
        return max(0.0, now_s - oldest / 1000) if oldest is not None else 0.0

    def problems(self, now_s: float) -> Iterator[str]:
        """What is wrong, in words; of one fault that has several effects, the cause. now_s: s since the epoch."""
        if self.hang:
            yield f"the spool's disk doesn't answer: {self.hang.what} has taken {self.hang.duration_s:.0f} s"
        elif self.degraded_reason:
            yield self.degraded_reason
        elif self.throttled_reason:
            yield self.throttled_reason
        elif (age := self.oldest_unacked_age_s(now_s)) > LATE_SECONDS:
            waiting = f"{self.spool_bytes / 1e6:.1f} MB wait in the spool"
            yield f"Kafka hasn't acknowledged what came {age:.0f} s ago; {waiting}"
        for difference in self.topics:
            if difference.severity is not Severity.REPORT and str(difference) not in (self.degraded_reason or ""):
                yield str(difference)
        if not self.peer:
            why = f" (lost: {self.disconnect_reason})" if self.disconnect_reason else ""
            yield f"no connection to {self.source}{why}"


class Stream:
    """A running stream. `stop_requested` may be set by any thread (in no signal handler: that takes a lock) to stop
    it.

    timeout_s: seconds, max_frame_bytes: as Connection takes them. `backpressure_events` counts how often reading had
    to stop, as the spool was full or couldn't be written. Raises ListenError.
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
        self.backpressure_events = 0
        self._name = name
        self._source = str(source)
        self._peer: str | None = None
        self._since_ms = _now_ms()
        self._disconnect_reason: str | None = None
        self._acquiring = False
        self._connections = self._frames_received = self._bytes_received = self._rejected = 0
        self._last_frame_ms: int | None = None
        self._append_error: str | None = None
        self._reader_activity = Activity()  # of the thread that reads the socket
        self._spool = spool
        self._publisher = publisher
        if spool.waiting_batches:
            log.info("%s: %.1f MB from before wait in the spool for Kafka", name, spool.waiting_bytes / 1e6)
        events = ConnectionListener(self._on_connected, self._on_frames, self._on_idle, self._on_disconnected)
        self._connection = Connection(name, source, timeout_s, max_frame_bytes, events)
        previous = spool.previous[0] if spool.previous else None
        epoch = new_epoch(previous, self._since_ms, secrets.randbits(RANDOM_BITS))
        self._record_builder = RecordBuilder(epoch, spool.previous, spool.unclean_shutdown)
        self._awaiting_first_frame = True

    def run(self) -> None:
        """Record until `stop_requested`; then publish what there is, as far as Kafka takes it within seconds.

        Raises TopicRefused, SpoolError, or what else ended one of the two threads.
        """
        reader = _Thread(f"{self._name} connection", self._receive, self.stop_requested)
        writer = _Thread(f"{self._name} publisher", self._publisher.run, self.stop_requested)
        self.stop_requested.wait()
        self._connection.stop()
        self._spool.stop()
        until = time.monotonic() + _STOP_SECONDS
        reader.join(_STOP_SECONDS)
        self._publisher.stop()
        writer.join(max(_MIN_WAIT_SECONDS, until - time.monotonic()))
        self._publisher.cancel()
        writer.join(_MIN_WAIT_SECONDS)
        while writer.is_alive() and self._publisher.activity.is_busy:  # with the spool, not with Kafka's resolver
            writer.join(_MIN_WAIT_SECONDS)
        if not reader.is_alive():  # the resolver may hang
            self._connection.close()
        for thread in (reader, writer):
            if thread.error:
                raise thread.error
        if self._spool.waiting_batches:
            log.warning(
                "%s: stopped; %.1f MB wait in the spool for Kafka", self._name, self._spool.waiting_bytes / 1e6
            )
        else:
            log.info("%s: stopped; everything received is published", self._name)

    def status(self) -> StreamStatus:
        """How it is now; for any thread."""
        full = "the spool is full" if self._spool.full else None
        reasons = [self._append_error or full, self._publisher.degraded_reason]
        return StreamStatus(
            stream=self._name,
            source=self._source,
            peer=self._peer,
            since_ms=self._since_ms,
            disconnect_reason=self._disconnect_reason,
            acquiring=self._acquiring,
            connections=self._connections,
            frames=self._frames_received,
            bytes=self._bytes_received,
            last_frame_ms=self._last_frame_ms,
            rejected=self._rejected,
            bad_ids=self._record_builder.bad_ids,
            backpressure_events=self.backpressure_events,
            spool_bytes=self._spool.waiting_bytes,
            spool_full=self._spool.full,
            spool_limit_bytes=self._spool.limit_bytes,
            oldest_unacked_ms=self._publisher.oldest_unacked_ms,
            unreadable_batches=self._spool.unreadable_batches,
            acknowledged_offset=self._publisher.acknowledged_offset,
            latency=self._publisher.latency.counts(),
            throttled_reason=self._publisher.throttling.problem(time.monotonic()),
            throttled_s=self._publisher.throttling.total_s,
            hang=longest(
                self._reader_activity.hang(), self._spool.sync_activity.hang(), self._publisher.activity.hang()
            ),
            degraded_reason="; ".join(filter(None, reasons)) or None,
            topics=self._publisher.topics,
        )

    def _receive(self) -> None:
        # Here, not before: on a full disk it must wait until the publisher has made room.
        self._append([self._record_builder.started(_now_ms())])
        self._connection.run()

    def _on_connected(self, peer: str) -> None:
        log.info("%s: connected to %s", self._name, peer)
        self._awaiting_first_frame = True
        self._peer, self._since_ms = peer, _now_ms()
        self._connections += 1
        self._append([self._record_builder.connected(self._since_ms, peer)])

    def _on_frames(self, frames: list[bytes | memoryview]) -> bool:
        now_ms = _now_ms()
        no_bad_ids = not self._record_builder.bad_ids
        pending = [record for frame in frames if (record := self._record_builder.received(frame, now_ms))]
        if pending:
            self._append(pending)
        if no_bad_ids and self._record_builder.bad_ids:
            log.warning("%s: its frames bear a sostream_id that is no stream name; it isn't used", self._name)
        has_data_frame = False
        for record in pending:
            if record.rejected:
                self._rejected += 1
                log.warning("%s: rejected a frame of %d bytes: %s", self._name, len(record.value), record.headers.why)
            elif record.headers.kind is not Kind.FRAME:
                self._acquiring = record.headers.kind is Kind.START
                log.info("%s: %s", self._name, record.headers.kind.upper())
            else:
                self._frames_received += 1
                self._bytes_received += len(record.value)
                self._last_frame_ms = now_ms
                has_data_frame = True
                if self._awaiting_first_frame:
                    self._awaiting_first_frame = False
                    log.info("%s: first frame, %d bytes", self._name, len(record.value))
        return has_data_frame

    def _on_idle(self) -> None:
        self._append([self._record_builder.heartbeat(_now_ms())])

    def _on_disconnected(self, reason: str) -> None:
        log.warning("%s: connection lost: %s", self._name, reason)
        self._peer, self._since_ms, self._disconnect_reason, self._acquiring = None, _now_ms(), reason, False
        self._append([self._record_builder.disconnected(self._since_ms, reason)])

    def _append(self, pending: list[PendingRecord]) -> None:
        """Into the spool, however long that takes: meanwhile nothing is read. Raises SpoolError when stopped."""
        warned_at = give_up_at = None
        while True:
            try:
                with self._reader_activity.track("a write to the spool"):
                    self._spool.append(pending)
                break
            except SpoolError as error:
                now = time.monotonic()
                self._append_error = str(error)
                if warned_at is None:
                    self.backpressure_events += 1
                if warned_at is None or now - warned_at > _LOG_INTERVAL_SECONDS:
                    warned_at = now
                    log.error("%s: %s; reading stops until it can", self._name, error)
                if self.stop_requested.is_set():
                    give_up_at = give_up_at or now + _LAST_ATTEMPTS_SECONDS
                    if now > give_up_at:
                        log.error("%s: stopped before it could; what was read last is lost", self._name)
                        raise
                self._spool.wait_for_acknowledgement(_SPOOL_RETRY_SECONDS)
        self._publisher.publish_inline()
        if warned_at is not None:
            self._append_error = None
            log.info("%s: the spool can be written again", self._name)
        if self._spool.full:
            self.backpressure_events += 1
            log.error("%s: the spool is full; reading stops until Kafka takes records", self._name)
            self._spool.wait_for_space()
            log.info("%s: the spool has room again", self._name)


class _Thread(threading.Thread):
    """A running thread that sets `stop_requested` when it ends, and keeps the error that it ended with."""

    def __init__(self, name: str, work: Callable[[], None], stop_requested: threading.Event) -> None:
        # A daemon: the resolver may hang, and must not keep the process.
        super().__init__(name=name, daemon=True)
        self.error: BaseException | None = None
        self._work = work
        self._stop_requested = stop_requested
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that waits for us
            self.error = error
        finally:
            self._stop_requested.set()


def _now_ms() -> int:
    """Ms since the epoch, UTC."""
    return time.time_ns() // 1_000_000
