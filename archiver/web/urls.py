"""The permanent URLs of the page, and their parts: paths, nights, anchors. Pure."""

from datetime import UTC, date, datetime, timedelta
from typing import Final
from urllib.parse import quote

from archiver.catalog.recorded import Loss

DAY_MS: Final = 86_400_000
_HALF_DAY_MS: Final = DAY_MS // 2
_EPOCH: Final = date(1970, 1, 1)


def file_url(path: str) -> str:
    """Return the URL of a file. path: below the data directory."""
    return f"/file/{quote(path)}"


def acquisition_url(stream: str, number: int) -> str:
    """Return the URL of an acquisition. number: of its first file."""
    return f"/acquisition/{quote(stream)}/{number}"


def session_url(session: int) -> str:
    """Return the URL of a session."""
    return f"/session/{session}"


def loss_anchor(loss: Loss) -> str:
    """Return the id of a loss on the pages that list it."""
    return f"loss-{loss.stream}-{loss.offset}-{loss.until_ms}"


def night_url(night: date) -> str:
    """Return the URL of a night: the date of the noon at which it begins."""
    return f"/night/{night.isoformat()}"


def night_of(time_ms: int) -> date:
    """Return the night that a time is in, from noon to noon in UTC. time_ms: since the epoch."""
    return datetime.fromtimestamp((time_ms - _HALF_DAY_MS) / 1000, UTC).date()


def night_start_ms(night: date) -> int:
    """Return when a night begins, ms since the epoch."""
    return (night - _EPOCH) // timedelta(days=1) * DAY_MS + _HALF_DAY_MS
