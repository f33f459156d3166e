"""Latency histograms, counted in the buckets that Prometheus reads."""

import threading
from bisect import bisect_left
from dataclasses import dataclass

BOUNDS_SECONDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0),
)
"""Upper bounds of the buckets, seconds: from a write into the page cache to an outage of an hour."""


@dataclass(frozen=True, slots=True)
class LatencyCounts:
    """A histogram's values at one moment."""

    counts: tuple[int, ...]
    """The count of each bucket: one for each of BOUNDS_SECONDS, and one for all longer times."""
    total_s: float
    """The sum of all observed times, seconds."""


class LatencyHistogram:
    """A latency histogram, for several threads at once. An observation costs less than a microsecond."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self._total_s = 0.0

    def observe(self, seconds: float, count: int = 1) -> None:
        """Add `count` observations of the same time. A negative time, from a stepped clock, counts as 0."""
        seconds = max(0.0, seconds)
        with self._lock:
            self._counts[bisect_left(BOUNDS_SECONDS, seconds)] += count
            self._total_s += seconds * count

    def counts(self) -> LatencyCounts:
        """Return the counts so far."""
        with self._lock:
            return LatencyCounts(tuple(self._counts), self._total_s)
