"""The page beside a recorder with an archive of many files: how fast it answers, and what 100 viewers cost."""

import http.client
import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from bench.load.many_files import OldFiles
from bench.measure.cost_over_time import Course, Courses
from bench.measure.lags import between, quantiles
from bench.measure.process_cost import ContestError, Measured
from bench.report.results import Run
from bench.scenarios.many import Load, Many, WatchedSite
from bench.scenarios.site import environment
from bench.scenarios.width import Found
from testbed.child_process import free_port

VIEWERS = 100
_ANSWERS = 20
"""Requests of each URL."""
_TIMEOUT_S = 300.0
_SETTLED_S = 5.0
_ALONE_S = 60.0
"""For so long it is recorded without the page, at most."""
_EVERY_MIN = 5
"""How far apart the samples of memory are that are shown."""


def page(site: WatchedSite, load: Load, files: int, seconds: float) -> Iterator[Found]:
    """Record without the page, for a minute at most, then for `seconds` with the page and its viewers."""
    with Many(site, load, "p-") as many, ExitStack() as stack:
        many.archiver("archiver")
        OldFiles(site.new_path("old"), many.data.name).grow(site.servers, files)
        many.await_alive()
        many.await_near()
        begin = time.time()
        time.sleep(min(_ALONE_S, seconds))
        alone = time.time()
        port = free_port()
        web = stack.enter_context(Measured(_command(many, port), env=environment()))
        filled_s = _await_filled(web, port, files)
        times = {f"{url.partition('/2')[0]} s": _median_s(port, url) for url in _urls(port)}
        time.sleep(_SETTLED_S)
        web.begin()
        watched = time.time()
        with _viewers(port) as updates, Courses({"page": web.pid}) as courses:
            time.sleep(seconds)
        end = time.time()
        used = web.used()
        found = many.finish()
        many.forget()
    course = courses.of["page"]
    more = {f"alone lag {name} s": value for name, value in quantiles(between(found, begin, alone)).items()}
    more |= {f"with viewers lag {name} s": value for name, value in quantiles(between(found, watched, end)).items()}
    more |= {"catalog filled s": filled_s, **times, "viewers": VIEWERS, "updates each": sum(updates) / VIEWERS}
    more |= {"page cores": course.cores(), "page MB/h": course.growth(), "files": float(files)}
    more |= {f"page MB after {minutes} min": value for minutes, value in _memory(course).items()}
    curve = list(zip(course.times, course.memory, strict=True))
    yield Found(Run("page", "ours", load.name, 0, end - watched, {"page": used}, more), {"page, MB": curve})


def _memory(course: Course) -> dict[int, float]:
    """Return the median anonymous memory in the minute before each so many minutes, MB: it varies within seconds."""
    found = {}
    for minutes in range(_EVERY_MIN, int(course.times[-1] // 60) + 1, _EVERY_MIN):
        samples = zip(course.times, course.memory, strict=True)
        found[minutes] = statistics.median(mb for at, mb in samples if 0 <= 60 * minutes - at < 60)
    return found


def _command(many: Many, port: int) -> list[str]:
    where = ["--group", many.data.name, "--bootstrap-servers", many.site.servers, "--data-dir", str(many.data)]
    return [sys.executable, "-m", "archiver", "web", "--http", str(port), *where]


def _await_filled(web: Measured, port: int, files: int) -> float:
    """Wait until the catalog has so many files; return the seconds since now."""
    begun = time.monotonic()
    while time.monotonic() - begun < _TIMEOUT_S:
        if not web.running:
            web.wait()
        with suppress(OSError, KeyError):
            if json.loads(_get(port, "/files.json"))["total"] >= files:
                return time.monotonic() - begun
        time.sleep(0.1)
    raise ContestError(f"the page doesn't know {files} files")


def _urls(port: int) -> list[str]:
    """Return one URL of each kind, of files in the middle of the archive."""
    page = json.loads(_get(port, "/files.json?page=200"))
    file = page["files"][0]
    night = file["first_frame"][:10]
    return [
        *("/", "/now.json", "/static/page.css", f"/night/{night}", "/files", "/files?missing=1", "/sessions"),
        *(f"/files?stream={file['stream']}", file["url"]),
    ]


def _median_s(port: int, url: str) -> float:
    """Return how long an answer takes, the median, s."""
    found = []
    for _ in range(_ANSWERS):
        begun = time.perf_counter()
        _get(port, url)
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def _get(port: int, url: str) -> bytes:
    """Return an answer's body. Raises OSError if it isn't there, or isn't what was asked for."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", url)
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise OSError(f"{url}: status {response.status}")
        return response.read()
    finally:
        connection.close()


@contextmanager
def _viewers(port: int) -> Iterator[list[int]]:
    """Context in which VIEWERS look at the page: how many updates each has received."""
    received = [0] * VIEWERS
    connections = []

    def view(number: int, response: http.client.HTTPResponse) -> None:
        with suppress(OSError, ValueError, AttributeError):  # it was closed meanwhile
            for line in iter(response.readline, b""):
                received[number] += line.startswith(b"event:")

    for number in range(VIEWERS):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/live")
        connections.append(connection)
        threading.Thread(target=view, args=(number, connection.getresponse()), daemon=True).start()
    try:
        yield received
    finally:
        for connection in connections:
            connection.close()
