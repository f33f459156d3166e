"""Times, sizes and counts as operators read them. Pure."""

from datetime import UTC, datetime, timedelta, tzinfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def format_time(time_ms: int, zone: tzinfo | None = UTC) -> str:
    """Format a time in ms as `2026-11-22 21:30:00`; one beyond the calendar as plain ms.

    zone: None for the host's.
    """
    try:
        return f"{datetime.fromtimestamp(time_ms / 1000, zone):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def format_iso(time_ms: int | None) -> str | None:
    """Format a time in ms as ISO 8601, `2026-11-22T21:30:00.250Z`; None for None, and one beyond the calendar."""
    if time_ms is None:
        return None
    try:
        return (_EPOCH + timedelta(milliseconds=time_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError:
        return None


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
