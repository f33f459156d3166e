"""The rates of the last ten minutes, by stream, for the sparklines. Pure."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from g3stream.contract.program_status import OVERDUE_S, IngestStatus

SPAN_MS: Final = 600_000
"""What a sparkline shows."""
_MAX_GAP_MS: Final = round(OVERDUE_S * 1000)
"""Reports further apart are of an ingest that was dead in between: the line is interrupted there."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a stream's ingest received, in the mean of the 10 s before a time."""

    time_ms: int
    bytes_per_s: float


class RateHistory:
    """The rates that ingests have reported, of the last ten minutes."""

    def __init__(self) -> None:
        self._rates: dict[str, deque[Rate]] = {}

    def add(self, reports: Iterable[IngestStatus], now_ms: int) -> None:
        """Add these reports, in order, and forget what is older than ten minutes. One that was added is ignored."""
        for report in reports:
            rates = self._rates.setdefault(report.stream, deque())
            if not rates or report.time_ms > rates[-1].time_ms:
                rates.append(Rate(report.time_ms, report.bytes_per_s))
        for stream, rates in [*self._rates.items()]:
            while rates and rates[0].time_ms < now_ms - SPAN_MS:
                rates.popleft()
            if not rates:
                del self._rates[stream]

    def by_stream(self) -> Mapping[str, tuple[Rate, ...]]:
        """Return a copy of the rates by stream, the oldest first."""
        return {stream: tuple(rates) for stream, rates in self._rates.items()}


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A sparkline's geometry: x from 0 (ten minutes ago) to 100 (now), y from 0 (the peak) to 20 (nothing)."""

    path: str
    """The line, as the attribute `d` of an SVG path."""
    peak_bytes_per_s: float


def sparkline(rates: Iterable[Rate], now_ms: int) -> Sparkline | None:
    """Return the sparkline of these rates, the oldest first; None if there are fewer than two."""
    shown = [rate for rate in rates if now_ms - SPAN_MS <= rate.time_ms <= now_ms + _MAX_GAP_MS]
    if len(shown) < 2:
        return None
    peak = max(rate.bytes_per_s for rate in shown)
    parts = []
    before_ms = None
    for rate in shown:
        x = min(100.0, 100 + 100 * (rate.time_ms - now_ms) / SPAN_MS)
        y = 20 - 20 * rate.bytes_per_s / peak if peak else 20.0
        is_joined = before_ms is not None and rate.time_ms - before_ms <= _MAX_GAP_MS
        parts.append(f"{'L' if is_joined else 'M'}{x:.1f} {y:.1f}")
        before_ms = rate.time_ms
    return Sparkline("".join(parts), peak)
