"""Times, sizes and durations as the page shows them. Pure."""

from dataclasses import dataclass

from archiver.core.formatting import format_bytes, format_iso, format_time
from g3stream.host.durations import format_duration

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Moment:
    """A time on the page, in UTC."""

    iso: str
    """For programs: the attribute `datetime`."""
    text: str
    """For people: without the date, if it is of the last 12 hours."""
    ago: str
    """How long ago it was."""


def moment(time_ms: int | None, now_ms: int, *, with_date: bool = False) -> Moment | None:
    """Return how a time is shown; None if there is none. Both in ms since the epoch. with_date: in any case."""
    if time_ms is None:
        return None
    whole = format_time(time_ms)
    is_recent = abs(now_ms - time_ms) < _DAY_MS / 2 and not with_date
    return Moment(format_iso(time_ms) or "", whole[11:] if is_recent else whole, short_duration(now_ms - time_ms))


def short_duration(time_ms: int) -> str:
    """Return a duration that doesn't change each second once it is longer than a minute: 42 s, 5 min, 3 h 5 min."""
    whole_s = max(0, time_ms) // 1000
    if 60 <= whole_s < 3600:
        whole_s -= whole_s % 60
    return format_duration(whole_s * 1000, tenths=False)


def rate_text(bytes_per_s: float) -> str:
    """Return a rate: 2.0 MB/s."""
    return f"{format_bytes(round(bytes_per_s))}/s"
