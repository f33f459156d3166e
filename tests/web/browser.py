"""Chromium without a window, and what a page in it did: errors on its console, and requests."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

from testbed.debian_packages import unpack_package
from tests.support.processes import SECONDS

Theme = Literal["dark", "light"]
PHONE, WALL = 380, 1600
"""The widths at which the page is looked at, in pixels."""
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Context of a running Chromium: the one on PATH, else Debian's, fetched first. Raises FetchError."""
    path, libraries = _executable()
    # Root may not use Chromium's sandbox, and containers have a small /dev/shm. The pages are our own.
    arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    env: dict[str, str | float | bool] = {"LD_LIBRARY_PATH": libraries} if libraries else {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=arguments, env=env or None, timeout=2000 * SECONDS
        )
        yield browser
        browser.close()


def _executable() -> tuple[str, str]:
    """Return the path of a Chromium, and where its libraries are; empty if the system has them."""
    if path := next(filter(None, map(shutil.which, _PROGRAMS)), None):
        return path, ""
    home = unpack_package("chromium", "chromium", with_dependencies=True)
    libraries = {str(it.parent) for it in (*home.glob("usr/lib/**/*.so*"), *home.glob("lib/**/*.so*"))}
    return str(home / "usr" / "lib" / "chromium" / "chromium"), ":".join(sorted(libraries))


@dataclass
class Viewer:
    """A page in a browser. url: of the server, without a path."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)
    """What the console shows as errors or warnings, and exceptions."""
    foreign: list[str] = field(default_factory=list)
    """Requests to any other server."""

    def open(self, path: str) -> Page:
        """Go to a path of the server; return the page."""
        self.page.goto(self.url + path)
        return self.page

    def watch(self) -> None:
        """Begin to note errors and requests."""
        self.page.on("console", lambda it: self.errors.append(it.text) if it.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda it: self.errors.append(str(it)))
        self.page.on("request", lambda it: None if self._is_ours(it.url) else self.foreign.append(it.url))

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window: it can be scrolled sideways by so much."""
        width: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return width

    def _is_ours(self, url: str) -> bool:
        return urlsplit(url).netloc == urlsplit(self.url).netloc or url.startswith("data:")


@contextmanager
def viewer(browser: Browser, url: str, theme: Theme = "dark", width: int = WALL) -> Iterator[Viewer]:
    """Context of a new window, with a profile of its own."""
    is_phone = width < 600
    options: dict[str, Any] = {
        "viewport": {"width": width, "height": 800 if is_phone else 1000},
        "device_scale_factor": 2 if is_phone else 1,
        "has_touch": is_phone,
        "color_scheme": theme,
        "reduced_motion": "reduce",
    }
    context = browser.new_context(**options)
    context.set_default_timeout(2000 * SECONDS)
    context.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    page = context.new_page()
    found = Viewer(page, url)
    found.watch()
    try:
        yield found
    finally:
        context.close()
