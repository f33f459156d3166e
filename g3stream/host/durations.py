"""Durations as people type and read them. Pure."""

import re

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PAIRS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
"""The units in which a duration is shown, in s."""
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhdw])")


def parse_duration_s(text: str, units: str) -> float | None:
    """Return the s in a text such as 90s, 1.5m or 1h30m; None if it is none. units: those allowed, of s, m, h, d, w.

    A text has at most as many parts as there are units.
    """
    parts = _PART.findall(text)
    is_valid = "".join(count + unit for count, unit in parts) == text and 1 <= len(parts) <= len(units)
    if not is_valid or any(unit not in units for _, unit in parts):
        return None
    return sum(float(count) * _SECONDS[unit] for count, unit in parts)


def format_duration(time_ms: int, *, tenths: bool = True) -> str:
    """Format a duration in ms: 0.4 s, 12 s, 5 min 3 s, 2 h 5 min, 3 d 4 h. tenths: of a second, below 10 s."""
    if time_ms < 0:
        return f"-{format_duration(-time_ms, tenths=tenths)}"
    whole = round(time_ms / 1000)
    for large, name, small, small_name in _PAIRS:
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {name}" + (f" {rest} {small_name}" if rest else "")
    return f"{time_ms / 1000:.1f} s" if tenths and whole < 10 else f"{whole} s"
