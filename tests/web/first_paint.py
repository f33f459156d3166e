"""When Chromium first paints each kind of page of a running `archiver web`: `python -m tests.web.first_paint PORT`.

Each time in a new window, which has nothing in its cache.
"""

import argparse
import json
import statistics
import sys

from tests.support.processes import get
from tests.web.browser import WALL, Viewer, chromium, viewer

_TIMES = 7
_PAINTS = """() => new Promise(found => new PerformanceObserver(
  list => list.getEntriesByName("first-contentful-paint").forEach(it => found(it.startTime))
).observe({ type: "paint", buffered: true }))"""


def main() -> int:
    """Print the times; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.web.first_paint", description=__doc__)
    parser.add_argument("port", type=int, metavar="PORT", help="of the page, on this host; it has files")
    port: int = parser.parse_args().port
    file = json.loads(get(port, "/files.json")[1])["files"][-1]
    night = f"/night/{file['first_frame'][:10]}"
    paths = ("/", "/night", night, "/files", "/files?missing=1", "/sessions", file["url"])
    with chromium() as browser:
        for path in paths:
            times = []
            for _ in range(_TIMES):
                with viewer(browser, f"http://127.0.0.1:{port}", "dark", WALL) as window:
                    times.append(_first_paint_ms(window, path))
            print(f"{statistics.median(times):5.0f} ms, {max(times):5.0f} ms at most  {path}", flush=True)
    return 0


def _first_paint_ms(window: Viewer, path: str) -> float:
    """Return when a page was painted first, ms after the request began."""
    found: float = window.open(path).evaluate(_PAINTS)
    return found


if __name__ == "__main__":
    sys.exit(main())
