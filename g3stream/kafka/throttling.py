"""Kafka quotas: how long brokers throttle this program's clients, and the timeout that this requires.

A broker that enforces a quota answers at once, with the time for which it then reads nothing more from that
connection (KIP-219): up to 10 s with Kafka's default window. With the short timeout that detects a silent broker
(client_config.py), a client takes the broker for dead, reconnects, repeats its request, and is throttled again: at
200 kB/s 2 of 6 MB arrived in 75 s; with a timeout of 60 s all of it in 53 s. So clients start with the short timeout,
and those that are throttled for longer than it allows are replaced by clients with the long one.
"""

import logging
import threading
import time
from collections.abc import Mapping

from confluent_kafka import ThrottleEvent

from g3stream.kafka.client_config import AVAILABILITY_CONFIG

log = logging.getLogger(__name__)

LONG_TIMEOUT_MS = 60_000
"""librdkafka's own default."""
_LONG_TIMEOUT_CONFIG: Mapping[str, object] = {
    "socket.timeout.ms": LONG_TIMEOUT_MS,
    # A broker returns no more than 10 s worth of the quota, and nothing while that is used up: smaller responses use
    # more of the quota (44 instead of 53 s for the 6 MB).
    "max.partition.fetch.bytes": 1 << 20,
}
RECENT_SECONDS = 30.0
_LOG_INTERVAL_SECONDS = 60.0


class Throttling:
    """The throttling of one program's clients, whose `throttle_cb` is `on_throttle`. For any thread.

    quota: the name of the quota that is the likely cause. config: the clients' settings, for `socket.timeout.ms`.
    """

    def __init__(self, quota: str, config: Mapping[str, object]) -> None:
        self.total_s = 0.0
        """How long clients were throttled, in all, seconds."""
        self.client_config: dict[str, object] = {"throttle_cb": self.on_throttle}
        """The consumer settings that throttling requires."""
        self.until = 0.0
        """time.monotonic() at which the latest throttling ends."""
        self._quota = quota
        timeout_ms = str({**AVAILABILITY_CONFIG, **config}["socket.timeout.ms"])
        self._timeout_ms = int(timeout_ms) if timeout_ms.isdecimal() else 0  # librdkafka refuses an invalid one
        self._latest_s = 0.0
        self._longest_s = 0.0
        self._log_at = 0.0
        self._lock = threading.Lock()

    def on_throttle(self, event: ThrottleEvent) -> None:
        """Record that a broker throttles a client; an event of 0 s ends it."""
        self.add(event.broker_name, event.throttle_time, time.monotonic())

    def add(self, broker: str, seconds: float, now: float) -> None:
        """Record that the broker reads nothing from this client for `seconds`. now: time.monotonic()."""
        if seconds <= 0:
            return
        with self._lock:
            self.total_s += seconds
            self.until = max(self.until, now + seconds)
            self._latest_s = seconds
            self._longest_s = max(self._longest_s, seconds)
            must_log = now >= self._log_at
            if must_log:
                self._log_at = now + _LOG_INTERVAL_SECONDS
        if must_log:
            log.warning(
                "Kafka throttles this program: broker %s holds its answers back for %.1f s, by a quota of its user "
                "or client.id; if records are late, raise %s there",
                broker,
                seconds,
                self._quota,
            )

    def problem(self, now: float) -> str | None:
        """Return the problem in words if a client was recently throttled for 1 s or more. now: time.monotonic()."""
        if self._latest_s < 1 or now >= self.until + RECENT_SECONDS:
            return None
        return f"Kafka throttles this program, by {self._latest_s:.1f} s recently: raise the quota {self._quota}"

    @property
    def needs_long_timeout(self) -> bool:
        """Whether throttling exceeds the present timeout, and the long one would help."""
        return self._timeout_ms < LONG_TIMEOUT_MS and 2000 * self._longest_s > self._timeout_ms

    def use_long_timeout(self) -> None:
        """Use the long timeout for the clients made from now on."""
        self._timeout_ms = LONG_TIMEOUT_MS
        self.client_config |= _LONG_TIMEOUT_CONFIG
        log.warning(
            "because Kafka throttles, the timeout of its answers is %d s from now on; until the next start, a silent "
            "broker is noticed only after that time",
            LONG_TIMEOUT_MS // 1000,
        )
