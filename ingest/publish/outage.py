"""Outages of Kafka as ingest's streams notice them, and the one line that says when an outage is over."""

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError

from g3stream.host.durations import format_duration
from g3stream.kafka.errors import ConnectionErrors
from g3stream.kafka.throttling import Throttling

log = logging.getLogger(__name__)


class Outages:
    """The outage of all streams of this process. It is over, in one line, when each of them got an answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began_s: dict[str, float] = {}  # of each stream that waits for an answer
        self._since_s = 0.0  # when the first stream's outage began
        self._answered: dict[str, int] = {}  # by stream that got its answer: the bytes in its spool then

    def begin(self, stream: str, since_s: float) -> None:
        """Record that Kafka doesn't answer a stream. since_s: time.monotonic()."""
        with self._lock:
            if not self._began_s and not self._answered:
                self._since_s = since_s
            self._since_s = min(self._since_s, since_s)
            self._began_s.setdefault(stream, since_s)

    def end(self, stream: str, waiting_bytes: int, servers: str, now_s: float) -> None:
        """Record that Kafka answered a stream, and log it if this was the last one. waiting_bytes: in its spool."""
        with self._lock:
            if self._began_s.pop(stream, None) is not None:
                self._answered[stream] = waiting_bytes
            self._log_if_over(servers, now_s)

    def discard(self, stream: str, servers: str, now_s: float) -> None:
        """Forget a stream, whose publisher ends."""
        with self._lock:
            self._began_s.pop(stream, None)
            self._log_if_over(servers, now_s)

    def _log_if_over(self, servers: str, now_s: float) -> None:
        if self._began_s or not self._answered:
            return
        megabytes, streams = sum(self._answered.values()) / 1e6, len(self._answered)
        self._answered.clear()
        spool = "the spool" if streams == 1 else f"the spools of {streams} streams"
        text = "Kafka at %s answers again, after %s: %.1f MB wait in %s, and are published now"
        away = format_duration(round(1000 * (now_s - self._since_s)), tenths=False)
        log.info(text, servers, away, megabytes, spool)


class Outage:
    """The present outage of Kafka for one stream, and its throttling.

    config: librdkafka settings of the clients. outages: those of all streams of this process.
    """

    def __init__(self, config: Mapping[str, Any], stream: str, outages: Outages) -> None:
        self.reason: str | None = None
        """Why Kafka can't be used now, in words; None if it can. For any thread."""
        self.throttling = Throttling("producer_byte_rate", config)
        self._began_at = 0.0  # time.monotonic()
        self._errors = ConnectionErrors()
        self._servers = config["bootstrap.servers"]
        self._stream = stream
        self._outages = outages
        self.callbacks = {"error_cb": self._errors.record, "throttle_cb": self.throttling.on_throttle}
        """The settings by which a client reports its errors."""

    def begin(self, what: str, error: KafkaError, since_s: float) -> str:
        """Record that Kafka doesn't answer; return why.

        what: follows `Kafka at …`. error: of the failed request. since_s: the time.monotonic() of the request.
        """
        self._began_at = time.monotonic()
        self.reason = f"Kafka at {self._servers} {what} ({self._errors.describe(error)})"
        self._outages.begin(self._stream, since_s)
        return self.reason

    def end(self, answered_at: float, waiting_bytes: int) -> None:
        """Record that Kafka answered at that time.monotonic(). An outage that began later continues."""
        if self.reason and answered_at > self._began_at:
            self.reason = None
            self._outages.end(self._stream, waiting_bytes, self._servers, answered_at)

    def close(self) -> None:
        """Record that the stream is no longer published."""
        self._outages.discard(self._stream, self._servers, time.monotonic())
