"""Pictures of the page, of a night that is recorded for them: `python -m tests.web.screenshots DIRECTORY`.

Each kind of page, dark and light, on a wall and on a phone. It takes a minute or two. `--docs` makes those that
docs/operate/page.md shows.
"""

import argparse
import base64
import sys
import tempfile
from pathlib import Path
from typing import Final

from testbed.kafka.broker import Broker
from tests.support.processes import Recorder, eventually
from tests.web.browser import PHONE, WALL, Theme, Viewer, chromium, viewer
from tests.web.looks import quicklook_server
from tests.web.night import WHOLE, Names, Night, Web
from tests.web.pages import found, urls

STREAMS: Final = Names("crate1slot2", "crate1slot3", "crate1slot4", "crate2slot2", "crate2slot5")
_FRAME_BYTES: Final = 60_000
_LOOKS: Final[tuple[tuple[Theme, int], ...]] = (("dark", WALL), ("light", WALL), ("dark", PHONE), ("light", PHONE))
_IN_DOCS: Final[tuple[tuple[str, Theme, int, int], ...]] = (
    ("now", "dark", WALL, 800),
    ("night", "dark", WALL, 850),
    ("file", "light", WALL, 850),
    ("now", "dark", PHONE, 800),
    ("quick look", "dark", WALL, 1000),
)
"""Kind of page, theme, width and height."""
_WEBP_QUALITY: Final = 80


def main() -> int:
    """Make the pictures; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.web.screenshots", description=__doc__)
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="where the pictures are written")
    parser.add_argument("--docs", action="store_true", help="only those of docs/operate/page.md, compressed")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="g3-screenshots-") as scratch, Broker(Path(scratch, "kafka")) as broker:
        data = Path(scratch, "night")
        data.mkdir()
        with (
            Recorder(broker.bootstrap_servers, STREAMS.well, data) as recorder,
            Night(recorder, STREAMS, WHOLE, _FRAME_BYTES) as night,
            quicklook_server() as server,
        ):
            web = night.web(None, "--quicklook", f"http://127.0.0.1:{server.port}")
            eventually(lambda: found(web, "/files.json")["total"] == len(night.files()), "the catalog has all files")
            # The night's records are hours old, and so counts their lag, until the first live ones are recorded.
            eventually(lambda: len(found(web, "/now.json")["problems"]) == 1, "only the dead ingest is wrong")
            take = _take_for_docs if options.docs else _take_all
            take(web, night, options.directory)
    return 0


def _take_all(web: Web, night: Night, directory: Path) -> None:
    with chromium() as browser:
        for theme, width in _LOOKS:
            with viewer(browser, web.url, theme, width) as window:
                for kind, url in urls(web, night).items():
                    path = directory / f"{kind.replace(' ', '-')}-{theme}-{width}.png"
                    window.open(url).screenshot(path=path, full_page=True)
                    print(path, flush=True)


def _take_for_docs(web: Web, night: Night, directory: Path) -> None:
    with chromium() as browser:
        for kind, theme, width, height in _IN_DOCS:
            with viewer(browser, web.url, theme, width) as window:
                window.page.set_viewport_size({"width": width, "height": height})
                window.open(urls(web, night)[kind])
                path = directory / f"{kind.replace(' ', '')}-{width}.webp"
                path.write_bytes(_as_webp(window))
                print(path, flush=True)


def _as_webp(window: Viewer) -> bytes:
    """Return what the window shows; a third as large as Chromium's PNG, which is all that playwright offers."""
    session = window.page.context.new_cdp_session(window.page)
    answer = session.send("Page.captureScreenshot", {"format": "webp", "quality": _WEBP_QUALITY})
    return base64.b64decode(answer["data"])


if __name__ == "__main__":
    sys.exit(main())
