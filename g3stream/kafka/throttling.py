"""Kafka's quotas: how long brokers throttle this program's clients, and which timeout bears that.

A broker that enforces a quota answers at once, with the time for which it then reads nothing more from that
connection (KIP-219): up to 10 s with Kafka's default window. With the short timeout by which a silent broker is
noticed (availability.py) a client takes it for dead, connects anew, asks anew, is throttled anew: at 200 kB/s 2 of
6 MB came in 75 s, with a timeout of 60 s all of it in 53 s. So clients begin with the short one, and those that are
throttled for longer than it allows are made anew with the long one.
"""

import logging
import threading
import time
from collections.abc import Mapping

from confluent_kafka import ThrottleEvent

from g3stream.kafka.availability import AVAILABILITY_CONFIG

log = logging.getLogger(__name__)

LONG_TIMEOUT_MS = 60_000
"""librdkafka's own default."""
_LONG_TIMEOUT_CONFIG: Mapping[str, object] = {
    "socket.timeout.ms": LONG_TIMEOUT_MS,
    # A broker answers with no more than 10 s of the quota, and with nothing at all while that is used up: of smaller
    # answers more of the quota is used (44 instead of 53 s for the 6 MB).
    "max.partition.fetch.bytes": 1 << 20,
}
RECENT_SECONDS = 30.0
_LOG_INTERVAL_SECONDS = 60.0


class Throttling:
    """How the quotas slow down one program's clients; for any thread, `on_throttle` is their `throttle_cb`.

    quota: the name of the one that it most likely is. config: of the clients, whose `socket.timeout.ms` counts.
    `total_s`: for how long answers were held back, in all.
    """

    def __init__(self, quota: str, config: Mapping[str, object]) -> None:
        self.total_s = 0.0
        self.until = 0.0
        """time.monotonic() at which the last one ends."""
        self._quota = quota
        self._timeout_ms = _integer(config.get("socket.timeout.ms")) or int(
            str(AVAILABILITY_CONFIG["socket.timeout.ms"])
        )
        self._uses_long_timeout = False
        self._latest_s = 0.0
        self._longest_s = 0.0
        self._log_at = 0.0
        self._lock = threading.Lock()

    def on_throttle(self, event: ThrottleEvent) -> None:
        """A broker throttles a client; 0 s: not any more."""
        self.add(event.broker_name, event.throttle_time, time.monotonic())

    def add(self, broker: str, seconds: float, now: float) -> None:
        """That broker reads nothing from us for so long. now: time.monotonic()."""
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
        """What is to be said of it, if it was throttled lately, for a second or more. now: time.monotonic()."""
        if self._latest_s < 1 or now >= self.until + RECENT_SECONDS:
            return None
        return f"Kafka throttles us, by {self._latest_s:.1f} s lately: raise the quota {self._quota}"

    @property
    def needs_long_timeout(self) -> bool:
        """Whether clients with the present timeout can't bear it, and with the long one could."""
        return self._timeout_ms < LONG_TIMEOUT_MS and 2000 * self._longest_s > self._timeout_ms

    def use_long_timeout(self) -> None:
        """Clients made from now on are to have the long timeout."""
        self._timeout_ms, self._uses_long_timeout = LONG_TIMEOUT_MS, True
        log.warning(
            "as Kafka throttles, its answers are waited for for %d s from now on; a broker that falls silent is "
            "noticed as late, until the next start",
            LONG_TIMEOUT_MS // 1000,
        )

    @property
    def client_config(self) -> dict[str, object]:
        """What a consumer's settings are to be, of those that this is about."""
        return {"throttle_cb": self.on_throttle, **(_LONG_TIMEOUT_CONFIG if self._uses_long_timeout else {})}


def _integer(setting: object) -> int | None:
    """None if it isn't set, or is no number: then librdkafka refuses it, when a client is made."""
    text = str(setting)
    return int(text) if text.isascii() and text.isdigit() else None
