"""The JSON of what was recorded, as `archiver files --json` and the page give it. Pure.

The names are public: `archiver files --help` and docs/operate/page.md document them.
"""

from typing import Any

from archiver.catalog.recorded import Acquisition, Loss, Retirement, lost_records
from archiver.core.formatting import format_iso


def loss_json(loss: Loss) -> dict[str, Any]:
    """Return a loss, without its stream."""
    return {
        "records": loss.records,
        "times": loss.times,
        "what": loss.what,
        "cause": loss.cause,
        "offset": loss.offset,
        "host": loss.host,
        "since": format_iso(loss.since_ms),
        "until": format_iso(loss.until_ms),
    }


def retired_json(retired: Retirement | None) -> dict[str, Any] | None:
    """Return a file's retirement; None if it isn't retired."""
    if retired is None:
        return None
    time = format_iso(retired.time_ms)
    return {"time": time, "who": retired.who, "reason": retired.reason, "host": retired.host}


def acquisition_json(acquisition: Acquisition) -> dict[str, Any]:
    """Return an acquisition, without its stream and files."""
    files = acquisition.files
    return {
        "id": files[0].id,
        "start": format_iso(files[0].start_s * 1000),
        "first_frame": format_iso(acquisition.first_ms),
        "last_frame": format_iso(acquisition.last_ms),
        "frames": sum(file.frames for file in files),
        "missing": sum(file.missing for file in files),
        "bytes": sum(file.bytes for file in files),
        "lost_records": lost_records(acquisition.losses),
        "over": acquisition.over,
        "why": acquisition.closed,
    }
