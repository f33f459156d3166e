"""Gives one stream's spool to a Kafka producer, in order, and removes from it what Kafka has acknowledged."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from g3stream.host.activity import Activity
from g3stream.service.histogram import LatencyHistogram
from ingest.publish.in_flight import InFlightBatches
from ingest.publish.stream_topics import StreamTopic
from ingest.spool.spool import Spool

POLL_SECONDS = 0.1
"""How often acknowledgements are processed, and space in the spool is freed, while there is nothing to send."""
_ACKNOWLEDGE_BYTES = 8 << 20
_ACKNOWLEDGE_SECONDS = 0.5
"""Acknowledged batches are removed from the spool after this time, or this many bytes: each removal costs a write."""


class Sender:
    """Sends the spool from its first record on, with one producer after the other: after an error, another begins.

    config: librdkafka settings of the producers. topics: by whether they are that of rejected frames. limit_bytes:
    how much may be in flight. Two threads send: the one that reads the socket, if it need not wait for that, and the
    publisher's.
    """

    def __init__(
        self, spool: Spool, config: Mapping[str, Any], topics: Mapping[bool, StreamTopic], limit_bytes: int
    ) -> None:
        self.latency = LatencyHistogram()
        """From receipt to acknowledgement."""
        self.activity = Activity()
        """What it does with the spool."""
        self.oldest_unacked_ms: int | None = None
        """When the first record that Kafka hasn't acknowledged was received, ms since the epoch; None if unknown."""
        self.skipped_rejected = False
        """Whether rejected frames were not sent, as they have no topic."""
        self._spool = spool
        self._config = config
        self._topics = topics
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()  # guards the following
        self._in_flight: InFlightBatches | None = None
        self._last_sent_key = -1  # of the last batch given to the producer
        self._acknowledged_at = 0.0  # when the last batches were removed from the spool

    def open(self) -> InFlightBatches:
        """Begin with the spool's first record, with a new producer."""
        in_flight = InFlightBatches(self._config, self._topics, self.latency)
        with self._lock:
            self._in_flight, self._last_sent_key, self.skipped_rejected = in_flight, -1, False
        return in_flight

    def close(self) -> None:
        """End the producer; what it has not delivered stays in the spool."""
        with self._lock:
            in_flight, self._in_flight = self._in_flight, None
            if in_flight:
                in_flight.poll(0)
                self._acknowledge(in_flight)
                in_flight.close()

    def send_inline(self) -> bool:
        """Send what was just spooled, if that doesn't block. Returns whether all that is spooled was sent."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            return self._in_flight is not None and self._send(self._in_flight, None)
        finally:
            self._lock.release()

    def send(self, ensure_rejected: Callable[[], bool]) -> bool:
        """Send what is spooled, up to the limit in flight; if that isn't all, wait for acknowledgements.

        ensure_rejected: checks the topic of rejected frames, and returns whether it can be published to. Returns
        whether all was sent.
        """
        with self._lock:
            assert self._in_flight, "it is open"
            all_sent = self._send(self._in_flight, ensure_rejected)
            if not all_sent or self._spool.ledger.stopping:
                self._in_flight.poll(POLL_SECONDS)
            return all_sent

    def find_oldest(self) -> None:
        """Set `oldest_unacked_ms` before anything was sent."""
        if self.oldest_unacked_ms is None and (first := self._spool.reader.read(-1, 1)):
            self.oldest_unacked_ms = first[0].records[0].time_ms

    def _send(self, in_flight: InFlightBatches, ensure_rejected: Callable[[], bool] | None) -> bool:
        """Send what is spooled; what isn't in memory, only with `ensure_rejected`. Returns whether all was sent."""
        in_flight.poll(0)
        while (
            (more := self._spool.ledger.next_unacked(self._last_sent_key + 1))
            and not in_flight.failure
            and in_flight.bytes < self._limit_bytes
        ):
            with self.activity.track("a read of the spool"):
                max_bytes, from_disk = self._limit_bytes // 4, ensure_rejected is not None
                batches = self._spool.reader.read(self._last_sent_key, max_bytes, from_disk=from_disk)
            if not batches:
                break
            for batch in batches:
                if not self._topics[True].is_ready and any(record.rejected for record in batch.records):
                    if ensure_rejected is None:
                        return False
                    self.skipped_rejected = not ensure_rejected() or self.skipped_rejected
                in_flight.send(batch)
                self._last_sent_key = batch.key
        self.oldest_unacked_ms = in_flight.oldest_unacked_ms
        if in_flight.acknowledged_bytes:
            due = time.monotonic() >= self._acknowledged_at + _ACKNOWLEDGE_SECONDS or self._spool.ledger.stopping
            if due or in_flight.acknowledged_bytes >= _ACKNOWLEDGE_BYTES:
                self._acknowledge(in_flight)
        return not more

    def _acknowledge(self, in_flight: InFlightBatches) -> None:
        self._acknowledged_at = time.monotonic()
        if keys := in_flight.pop_acknowledged():
            with self.activity.track("removing from the spool what Kafka has"):
                self._spool.acknowledge(keys)
