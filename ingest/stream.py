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
from g3stream.service.endpoint import ConnectTo, ListenOn
from g3stream.service.histogram import LatencyCounts
from ingest.publish.publisher import Publisher
from ingest.receive.connection import Connection, Events
from ingest.receive.record_builder import Entry, Reception
from ingest.spool.spool import Spool, SpoolError

log = logging.getLogger(__name__)

LATE_SECONDS = 30.0
"""So long after its receipt a record that Kafka hasn't acknowledged is a problem, whatever the reason."""
_SPOOL_RETRY_SECONDS = 1.0
_SAY_AGAIN_SECONDS = 60.0
_STOP_SECONDS = 3.0
"""How long a stop waits for the reader, and for Kafka, before it leaves the rest in the spool."""
_LEAST_SECONDS = 1.0
"""So long it waits for Kafka however long the reader took, and then for the publisher to end: it does at once, but
where it gives up a client while the resolver hangs (g3stream/service/process_exit.py)."""
_LAST_TRIES_SECONDS = 2.0
"""How long a stop waits, within that, for room on a full disk."""


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """How a stream is. Times in ms since the epoch, UTC; counts since this ingest was started.

    source: where its frames come from. peer: who is connected, None if nobody is; since: when that began.
    lost_why: of the last connection that was lost. acquiring: START has come, and since then neither END nor the loss
    of the connection. connections: that were made. frames, bytes: data frames received,
    whole; last_frame: when the last of them came. rejected: frames that can't be trusted. bad_ids: frames with a
    sostream_id that is no stream name. stalls: how often reading had to stop. spool_bytes: that wait for Kafka;
    spool_full: reading waits for room; spool_limit: bytes, at which it begins to. spool_oldest: when the first record
    that waits for Kafka was received, None if none is known to. spool_unreadable: bundles of records given up as
    damaged. acknowledged: the offset of the last record that Kafka has; latency: of those that it acknowledged, from
    receipt on. trouble: why it waits for Kafka or its disk now, None if it doesn't. throttled: what is to be said of
    Kafka's quotas, None if it doesn't throttle; throttled_seconds: for how long it has, in all. hang: what its disk
    doesn't come to an end of, None if it does. topics: what isn't right of its topics.
    """

    stream: str
    source: str
    peer: str | None
    since: int
    lost_why: str | None
    acquiring: bool
    connections: int
    frames: int
    bytes: int
    last_frame: int | None
    rejected: int
    bad_ids: int
    stalls: int
    spool_bytes: int
    spool_full: bool
    spool_limit: int
    spool_oldest: int | None
    spool_unreadable: int
    acknowledged: int | None
    latency: LatencyCounts
    trouble: str | None
    throttled: str | None = None
    throttled_seconds: float = 0.0
    hang: Hang | None = None
    topics: tuple[Difference, ...] = ()

    def oldest_age(self, now: float) -> float:
        """How long the first record that waits for Kafka has done so, s; 0 if none does. now: s since the epoch."""
        oldest = self.spool_oldest if self.spool_bytes else None
        return max(0.0, now - oldest / 1000) if oldest is not None else 0.0

    def problems(self, now: float) -> Iterator[str]:
        """What is wrong, in words; of one fault that has several effects, the cause. now: s since the epoch."""
        if self.hang:
            yield f"the spool's disk doesn't answer: {self.hang.what} has taken {self.hang.seconds:.0f} s"
        elif self.trouble:
            yield self.trouble
        elif self.throttled:
            yield self.throttled
        elif (age := self.oldest_age(now)) > LATE_SECONDS:
            waiting = f"{self.spool_bytes / 1e6:.1f} MB wait in the spool"
            yield f"Kafka hasn't acknowledged what came {age:.0f} s ago; {waiting}"
        for difference in self.topics:
            if difference.severity is not Severity.REPORT and str(difference) not in (self.trouble or ""):
                yield str(difference)
        if not self.peer:
            why = f" (lost: {self.lost_why})" if self.lost_why else ""
            yield f"no connection to {self.source}{why}"


class Stream:
    """A running stream. `over` may be set by any thread (in no signal handler: that takes a lock) to stop it.

    timeout: seconds, max_frame_bytes: as Connection takes them. `stalls` counts how often reading had to stop, as the
    spool was full or couldn't be written. Raises ListenError.
    """

    def __init__(
        self,
        name: str,
        source: ConnectTo | ListenOn,
        timeout: float,
        max_frame_bytes: int,
        spool: Spool,
        publisher: Publisher,
    ) -> None:
        self.over = threading.Event()
        self.stalls = 0
        self._name = name
        self._source = str(source)
        self._peer: str | None = None
        self._since = _now()
        self._lost_why: str | None = None
        self._acquiring = False
        self._connections = self._frames_received = self._bytes_received = self._rejected = 0
        self._last_frame: int | None = None
        self._cant_append: str | None = None
        self._reading = Activity()  # of the thread that reads the socket
        self._spool = spool
        self._publisher = publisher
        if spool.bundles:
            log.info("%s: %.1f MB from before wait in the spool for Kafka", name, spool.bytes / 1e6)
        events = Events(self._connected, self._frames, self._quiet, self._lost)
        self._connection = Connection(name, source, timeout, max_frame_bytes, events)
        previous = spool.prev[0] if spool.prev else None
        epoch = new_epoch(previous, self._since, secrets.randbits(RANDOM_BITS))
        self._reception = Reception(epoch, spool.prev, spool.unclean)
        self._awaiting_first = True

    def run(self) -> None:
        """Record until `over`; then publish what there is, as far as Kafka takes it within seconds.

        Raises TopicRefused, SpoolError, or what else ended one of the two threads.
        """
        reader = _Thread(f"{self._name} connection", self._read, self.over)
        writer = _Thread(f"{self._name} publisher", self._publisher.run, self.over)
        self.over.wait()
        self._connection.stop()
        self._spool.stop()
        until = time.monotonic() + _STOP_SECONDS
        reader.join(_STOP_SECONDS)
        self._publisher.stop()
        writer.join(max(_LEAST_SECONDS, until - time.monotonic()))
        self._publisher.abandon()
        writer.join(_LEAST_SECONDS)
        while writer.is_alive() and self._publisher.activity.busy:  # with the spool, not with Kafka's resolver
            writer.join(_LEAST_SECONDS)
        if not reader.is_alive():  # the resolver may hang
            self._connection.close()
        for thread in (reader, writer):
            if thread.error:
                raise thread.error
        if self._spool.bundles:
            log.warning("%s: stopped; %.1f MB wait in the spool for Kafka", self._name, self._spool.bytes / 1e6)
        else:
            log.info("%s: stopped; everything received is published", self._name)

    def status(self) -> StreamStatus:
        """How it is now; for any thread."""
        full = "the spool is full" if self._spool.full else None
        troubles = [self._cant_append or full, self._publisher.trouble]
        return StreamStatus(
            stream=self._name,
            source=self._source,
            peer=self._peer,
            since=self._since,
            lost_why=self._lost_why,
            acquiring=self._acquiring,
            connections=self._connections,
            frames=self._frames_received,
            bytes=self._bytes_received,
            last_frame=self._last_frame,
            rejected=self._rejected,
            bad_ids=self._reception.bad_ids,
            stalls=self.stalls,
            spool_bytes=self._spool.bytes,
            spool_full=self._spool.full,
            spool_limit=self._spool.limit,
            spool_oldest=self._publisher.oldest,
            spool_unreadable=self._spool.unreadable,
            acknowledged=self._publisher.acknowledged,
            latency=self._publisher.latency.counts(),
            throttled=self._publisher.throttling.problem(time.monotonic()),
            throttled_seconds=self._publisher.throttling.seconds,
            hang=longest(self._reading.hang(), self._spool.syncing.hang(), self._publisher.activity.hang()),
            trouble="; ".join(filter(None, troubles)) or None,
            topics=self._publisher.topics,
        )

    def _read(self) -> None:
        # Here, not before: on a full disk it must wait until the publisher has made room.
        self._append([self._reception.started(_now())])
        self._connection.run()

    def _connected(self, peer: str) -> None:
        log.info("%s: connected to %s", self._name, peer)
        self._awaiting_first = True
        self._peer, self._since = peer, _now()
        self._connections += 1
        self._append([self._reception.connected(self._since, peer)])

    def _frames(self, frames: list[bytes | memoryview]) -> bool:
        now = _now()
        no_bad_ids = not self._reception.bad_ids
        entries = [entry for frame in frames if (entry := self._reception.received(frame, now))]
        if entries:
            self._append(entries)
        if no_bad_ids and self._reception.bad_ids:
            log.warning("%s: its frames bear a sostream_id that is no stream name; it isn't used", self._name)
        data = False
        for entry in entries:
            if entry.rejected:
                self._rejected += 1
                log.warning("%s: rejected a frame of %d bytes: %s", self._name, len(entry.value), entry.label.why)
            elif entry.label.kind is not Kind.FRAME:
                self._acquiring = entry.label.kind is Kind.START
                log.info("%s: %s", self._name, entry.label.kind.upper())
            else:
                self._frames_received += 1
                self._bytes_received += len(entry.value)
                self._last_frame = now
                data = True
                if self._awaiting_first:
                    self._awaiting_first = False
                    log.info("%s: first frame, %d bytes", self._name, len(entry.value))
        return data

    def _quiet(self) -> None:
        self._append([self._reception.quiet(_now())])

    def _lost(self, why: str) -> None:
        log.warning("%s: connection lost: %s", self._name, why)
        self._peer, self._since, self._lost_why, self._acquiring = None, _now(), why, False
        self._append([self._reception.lost(self._since, why)])

    def _append(self, entries: list[Entry]) -> None:
        """Into the spool, however long that takes: meanwhile nothing is read. Raises SpoolError when stopped."""
        said = give_up_at = None
        while True:
            try:
                with self._reading.of("a write to the spool"):
                    self._spool.append(entries)
                break
            except SpoolError as error:
                now = time.monotonic()
                self._cant_append = str(error)
                if said is None:
                    self.stalls += 1
                if said is None or now - said > _SAY_AGAIN_SECONDS:
                    said = now
                    log.error("%s: %s; reading stops until it can", self._name, error)
                if self.over.is_set():
                    give_up_at = give_up_at or now + _LAST_TRIES_SECONDS
                    if now > give_up_at:
                        log.error("%s: stopped before it could; what was read last is lost", self._name)
                        raise
                self._spool.wait_for_removal(_SPOOL_RETRY_SECONDS)
        self._publisher.hurry()
        if said is not None:
            self._cant_append = None
            log.info("%s: the spool can be written again", self._name)
        if self._spool.full:
            self.stalls += 1
            log.error("%s: the spool is full; reading stops until Kafka takes records", self._name)
            self._spool.wait_for_room()
            log.info("%s: the spool has room again", self._name)


class _Thread(threading.Thread):
    """A running thread that sets `over` when it ends, and keeps the error that it ended with."""

    def __init__(self, name: str, work: Callable[[], None], over: threading.Event) -> None:
        # A daemon: the resolver may hang, and must not keep the process.
        super().__init__(name=name, daemon=True)
        self.error: BaseException | None = None
        self._work = work
        self._over = over
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that waits for us
            self.error = error
        finally:
            self._over.set()


def _now() -> int:
    """Ms since the epoch, UTC."""
    return time.time_ns() // 1_000_000
