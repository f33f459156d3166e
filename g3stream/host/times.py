"""Times as people type them. Pure: now is a parameter."""

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from g3stream.host.durations import parse_duration_s

_AGO_UNITS = "smhdw"
# Not 24:00: for Python 3.14 that is the first moment of this day, for earlier ones no time.
_CLOCK = re.compile(r"(?:[01]?[0-9]|2[0-3]):[0-9]{2}(?::[0-9]{2})?")
_UNIX = re.compile(r"[0-9]{9,10}(?:\.[0-9]{1,6})?")


def parse_time(text: str, now: int, zone: tzinfo | None = UTC) -> int:
    """Parse a time as an operator types it; returns ms since 1970. now: in ms.

    ISO 8601 (2026-11-22T21:30:00, also with Z or an offset), a date (its first moment), today, yesterday, a time of
    day (10:00: the last time that it was 10:00), Unix seconds, a time before now (-2h, -1h30m; s, m, h, d, w), or as
    in a file's name (2026-11-22-21-30-00, always UTC). What is before 1970 becomes 1970. zone: of times without an
    offset; None for the host's. Raises ValueError, whose message shows what is valid.
    """
    if text.startswith("-") and (ago_s := parse_duration_s(text[1:], _AGO_UNITS)) is not None:
        return max(0, now - round(ago_s * 1000))
    if _UNIX.fullmatch(text):
        return round(float(text) * 1000)
    try:
        moment = _calendar_time(text, datetime.fromtimestamp(now / 1000, zone))
        return max(0, round((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp() * 1000))
    except (ValueError, OverflowError):
        valid = "say 2026-11-22T21:30:00, 2026-11-22, today, yesterday, 21:30, 1795383000 or -1h30m"
        valid = f"did you mean -{text}?" if parse_duration_s(text, _AGO_UNITS) is not None else valid
        raise ValueError(f"{text!r} is no time; {valid}") from None


def parse_night(text: str, now: int, zone: tzinfo | None = UTC) -> tuple[int, int]:
    """Parse a night as an operator types it; returns its first and its last ms since 1970. now: in ms.

    A date is the night that begins at its noon and ends at the next noon; today is the present one, which began at
    the last noon; yesterday the one before. zone: None for the host's. Raises ValueError, whose message shows what is
    valid.
    """
    try:
        if text in ("today", "yesterday"):
            moment = datetime.fromtimestamp(now / 1000, zone)
            day = moment.date() - timedelta(days=(moment.hour < 12) + (text == "yesterday"))
        else:
            day = date.fromisoformat(text)
        noons = [datetime.combine(it, time(12), zone) for it in (day, day + timedelta(days=1))]
        first_ms, next_ms = (round(noon.timestamp() * 1000) for noon in noons)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no night; say 2026-11-22, today or yesterday") from None
    return first_ms, next_ms - 1


def _calendar_time(text: str, now: datetime) -> datetime:
    """Return a time of the calendar, without a zone if the text has none. Raises ValueError."""
    if text in ("today", "yesterday"):
        return datetime.combine(now.date() - timedelta(days=text == "yesterday"), time(0))
    if _CLOCK.fullmatch(text):
        at = datetime.combine(now.date(), time.fromisoformat(text.zfill(len(text) + (text[1] == ":"))))
        return at if at <= now.replace(tzinfo=None) else at - timedelta(days=1)
    if text.count("-") == 5:
        return datetime.strptime(text, "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
    return datetime.fromisoformat(text)
