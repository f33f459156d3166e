"""The JSON of the page's URLs, version 1; docs/operate/page.md documents it. Pure."""

from typing import Any, Final

from archiver.core.formatting import format_iso
from archiver.status.as_json import archiver_json, stream_json
from archiver.web.now.snapshot import Snapshot

VERSION: Final = 1


def now_json(snapshot: Snapshot, now_ms: int) -> dict[str, Any]:
    """Return the present state. now_ms: since the epoch."""
    verdict = snapshot.verdict
    return {
        "v": VERSION,
        "group": snapshot.group,
        "time": format_iso(now_ms),
        "live": snapshot.is_live(now_ms),
        "collected": format_iso(snapshot.collected_ms),
        "error": snapshot.error,
        "ok": None if verdict is None else not verdict.problems,
        "problems": list(verdict.problems) if verdict else [],
        "streams": [
            stream_json(it)
            | {
                "rates": [
                    {"time": format_iso(rate.time_ms), "bytes_per_s": rate.bytes_per_s}
                    for rate in snapshot.rates.get(it.status.stream, ())
                ]
            }
            for it in (verdict.streams if verdict else ())
        ],
        "archivers": [archiver_json(report) for report in (verdict.archivers if verdict else ())],
    }


def error_json(status: int, text: str) -> dict[str, Any]:
    """Return the JSON of an error page. status: of HTTP."""
    return {"v": VERSION, "status": status, "error": text}
