"""One URL of each kind of page, of a night."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from tests.support.processes import get
from tests.web.night import Night, Web


def urls(web: Web, night: Night) -> Mapping[str, str]:
    """Return the URLs by kind: those of the stream with a loss, where a stream is named."""
    stream = quote(night.streams.lossy)
    loss = found(web, f"/losses.json?stream={stream}")["losses"][0]
    file = next(it for it in found(web, f"/files.json?stream={stream}")["files"] if it["path"] == loss["file"])
    return {
        "now": "/",
        "night": _hour(file["first_frame"]).partition("?")[0],
        "hour": _hour(file["first_frame"]),
        "files": "/files",
        "file": file["url"],
        "acquisition": f"/acquisition/{stream}/1",
        "sessions": "/sessions",
        "session": f"/session/{file['session']}",
        "losses": "/losses",
        "quick look": f"/quicklook/{stream}",
        "not found": "/file/1/2/3.g3",
        "bad request": "/files?since=whenever",
    }


def found(web: Web, path: str) -> Any:
    """Return the JSON at a path."""
    status, text = get(web.port, path)
    assert status == 200, text
    return json.loads(text)


def _hour(time: str) -> str:
    """Return the URL of the hour that a time is in. time: as in JSON, in UTC."""
    start = datetime.fromisoformat(time).replace(minute=0, second=0, microsecond=0)
    night = (start - timedelta(hours=12)).date()
    ends = [f"{it:%Y-%m-%dT%H:%M}" for it in (start, start + timedelta(hours=1))]
    return f"/night/{night}?from={ends[0]}&to={ends[1]}"
