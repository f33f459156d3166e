"""Times, durations, sizes and counts as operators read and type them. Pure: now is a parameter."""

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PAIRS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
"""The units in which a duration is shown, in s."""
_AGO = re.compile(r"-([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhdw])")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIX = re.compile(r"[0-9]{9,10}(?:\.[0-9]{1,6})?")


def parse_time(text: str, now: int) -> int:
    """Parse a time as an operator types it; returns ms since 1970. now: in ms.

    ISO 8601 (2026-11-22T21:30:00Z, with an offset, or without: UTC), a date (its first moment, UTC), Unix seconds, a
    time before now (-2h; s, m, h, d, w), or as in a file's name (2026-11-22-21-30-00). Raises ValueError, whose
    message shows what is valid.
    """
    if ago := _AGO.fullmatch(text):
        return now - round(float(ago[1]) * _UNITS[ago[2]] * 1000)
    if _UNIX.fullmatch(text):
        return round(float(text) * 1000)
    try:
        moment = (
            datetime.strptime(text, "%Y-%m-%d-%H-%M-%S") if text.count("-") == 5 else datetime.fromisoformat(text)
        )
    except ValueError:
        raise ValueError(
            f"{text!r} is no time; say 2026-11-22T21:30:00, 2026-11-22 (all in UTC), 1795383000 or -2h"
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def format_time(time_ms: int) -> str:
    """Format a time in ms as `2026-11-22 21:30:00` (UTC); one beyond the calendar as plain ms."""
    try:
        return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def format_iso(time_ms: int) -> str | None:
    """Format a time in ms as ISO 8601, `2026-11-22T21:30:00.250Z`; None for one beyond the calendar."""
    try:
        return (_EPOCH + timedelta(milliseconds=time_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError:
        return None


def format_duration(time_ms: int) -> str:
    """Format a duration in ms: 0.4 s, 12 s, 5 min 3 s, 2 h 5 min, 3 d 4 h."""
    if time_ms < 0:
        return f"-{format_duration(-time_ms)}"
    whole = round(time_ms / 1000)
    for large, name, small, small_name in _PAIRS:
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {name}" + (f" {rest} {small_name}" if rest else "")
    return f"{whole} s" if whole >= 10 else f"{time_ms / 1000:.1f} s"


def count_noun(count: int, what: str) -> str:
    """Format a count with its noun: 1 file, 1,234 files."""
    return f"{count:,} {what}" + "s" * (count != 1)


def format_bytes(count: int) -> str:
    """Format a number of bytes: 512 B, 20.0 kB, 1.5 MB."""
    if count < 1000:
        return f"{count} B"
    for exponent, unit in enumerate(("kB", "MB", "GB"), 1):
        if count < 999.95 * 1000**exponent:
            return f"{count / 1000**exponent:.1f} {unit}"
    return f"{count / 1000**4:.1f} TB"
