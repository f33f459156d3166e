"""The pages of what was recorded: what they show of a catalog, as HTML and as JSON, and what they refuse."""

import re
from typing import Any

import pytest
from msgspec.structs import replace
from starlette.types import ASGIApp

from archiver.catalog.catalog_file import CatalogError
from archiver.core.events import Event, FileFinished
from archiver.core.formatting import format_time
from archiver.core.segmentation import CloseReason
from archiver.web.app import Pages
from archiver.web.live import LivePage
from archiver.web.now.snapshot import Snapshot
from archiver.web.records.pages import Parts
from archiver.web.rendering import Renderer
from tests.support.asgi import get
from tests.unit.archiver.core.test_catalog import FIRST, SALVAGED, STREAM, finished, lost, retired
from tests.unit.archiver.web.recorded import follower

SESSION = 1546344000
EVIL = '"><script>alert(1)</script>'


def with_session(event: FileFinished) -> FileFinished:
    return replace(
        event, checkpoint=replace(event.checkpoint, state=replace(event.checkpoint.state, session=SESSION))
    )


FILES = [
    with_session(finished(1, why=CloseReason.TIME)),
    with_session(finished(2, why=CloseReason.END, missing=7)),
]
EVENTS: list[Event] = [
    *FILES,
    replace(SALVAGED, what=EVIL),
    replace(lost(5, FIRST.time + 10), what=EVIL),
    retired(FILES[0]),
]


def app_of(events: list[Event], error: Exception | None = None, data_dir: str | None = "/data") -> ASGIApp:
    parts = Parts(Renderer("archiver"), follower(events, error), lambda: Snapshot("archiver", 0), data_dir)
    return Pages(LivePage(dict), parts).app()


@pytest.fixture(scope="module")
def app() -> ASGIApp:
    """Return the pages of an archive of two files, one of them retired, a salvaged file and a loss."""
    return app_of(EVENTS)


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html))


NIGHT = f"/night/{format_time(FIRST.time - 43_200_000)[:10]}"
PAGES = [
    NIGHT,
    "/night",
    "/files",
    f"/files?stream={STREAM}&session={SESSION}&since=2018-12-31&until=2030-01-01&missing=1",
    f"/file/{FILES[1].path}",
    f"/file/{SALVAGED.path}",
    f"/acquisition/{STREAM}/{FILES[0].number}",
    "/sessions",
    f"/session/{SESSION}",
    "/losses",
    f"/losses?stream={STREAM}",
]


@pytest.mark.parametrize("url", PAGES)
def test_each_is_a_page_and_json_and_links_only_to_what_is_there(app: ASGIApp, url: str) -> None:
    answer = get(app, url)
    assert answer.status == 200, answer.text
    assert "<script>alert" not in answer.text
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style", answer.text)
    for link in {it for it in re.findall(r'href="(/[^"]*)"', answer.text) if not it.startswith("/static/")} - {"/"}:
        assert get(app, link.replace("&amp;", "&")).status == 200, link
    path, _, query = url.partition("?")
    found = get(app, f"{path}.json?{query}")
    assert found.headers["content-type"] == "application/json"
    assert found.json["v"] == 1
    assert get(app, url, accept="application/json").json == found.json


def test_a_file_has_all_that_is_known_of_it(app: ASGIApp) -> None:
    path = FILES[1].path
    found = words(get(app, f"/file/{path}").text)
    for shown in (FILES[1].sha256, f"/data/{path}", "7 frames never reached ingest", str(SESSION), STREAM):
        assert shown in found
    assert "core.G3File(" in found
    json = get(app, f"/file/{path}.json").json
    assert (json["absolute_path"], json["missing"], json["why"]) == (f"/data/{path}", 7, "end")
    assert json["acquisition"] == FILES[0].number
    first = get(app, f"/file/{FILES[0].path}.json").json
    assert first["retired"]["who"]
    assert [it["file"] for it in first["losses"]] in ([FILES[0].path], [])


def test_the_night_shows_bars_losses_and_the_way_to_other_nights(app: ASGIApp) -> None:
    html = get(app, NIGHT).text
    assert f'href="/file/{FILES[1].path}"' in html
    assert 'rel="prev"' in html
    assert 'rel="next"' in html
    json = get(app, f"{NIGHT}.json").json
    assert [it["number"] for it in json["acquisitions"]] == [FILES[0].number]
    assert [it["kind"] for it in json["others"]] == ["salvaged"]
    assert len(json["losses"]) == 1


def test_a_search_finds_only_what_was_asked_for(app: ASGIApp) -> None:
    def total(query: str) -> Any:
        return get(app, f"/files.json?{query}").json["total"]

    assert total("") == 3
    assert total("stream=nobody") == 0
    assert total("session=1") == 0
    assert total(f"session={SESSION}") == 2
    assert total("until=2000-01-01") == 0


@pytest.mark.parametrize(
    "url",
    ["/file/17959/s/nothing.g3", "/file/../../etc/passwd", "/acquisition/nobody/1", "/session/5", "/nothing/at/all"],
)
def test_what_is_unknown_gets_a_page_with_a_way_on(app: ASGIApp, url: str) -> None:
    answer = get(app, url)
    assert answer.status == 404
    assert 'href="/files"' in answer.text
    assert get(app, f"{url}.json").json["status"] == 404


@pytest.mark.parametrize(
    "url",
    [
        "/night/2026-02-30",
        "/night/9999-12-31",
        "/night/yesterday",
        "/night/2026-11-29?from=nonsense",
        "/night/2026-11-29?from=2026-11-29T21:00Z&to=2026-11-29T20:00Z",
        "/files?page=0",
        "/files?page=99999999999999999999999",
        "/files?stream=%27%20OR%201=1%20--",
        "/files?session=1;DROP%20TABLE%20file",
        "/files?since=" + "9" * 60,
        "/session/-1",
        "/session/%D9%A1",
        "/acquisition/a%00b/1",
        "/losses?stream=%3Cscript%3E",
    ],
)
def test_what_can_not_be_understood_gets_a_page_that_says_so(app: ASGIApp, url: str) -> None:
    answer = get(app, url)
    assert answer.status == 400, answer.text
    assert "can't be understood" in words(answer.text).replace("&#39;", "'")
    assert "<script>" not in answer.text


def test_an_archive_without_files_says_so() -> None:
    app = app_of([])
    assert "Nothing was recorded" in get(app, "/night").text
    assert "0 files" in get(app, "/files").text
    assert "None was recorded" in get(app, "/sessions").text
    assert "Nothing was lost" in get(app, "/losses").text


def test_a_broken_catalog_gets_a_page_that_says_so() -> None:
    app = app_of([], CatalogError("/data/x.sqlite is no catalog of this program"))
    for url in ("/files", "/night", "/sessions"):
        answer = get(app, url)
        assert answer.status == 503
        assert "is no catalog of this program" in answer.text


def test_before_g3_files_was_read_the_pages_say_that_more_may_come(app: ASGIApp) -> None:
    assert "for the first time" in get(app, "/files").text
