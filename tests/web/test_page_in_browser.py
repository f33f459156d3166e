"""The page in a real Chromium, beside a real recorder: what a viewer sees, by mouse, by keyboard, on a phone."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from testbed.debian_packages import FetchError
from tests.support.processes import SECONDS, Recorder, eventually
from tests.web.looks import CHANNELS, DEAD, MISSING, quicklook_server
from tests.web.night import Names, Night, Web
from tests.web.pages import found, urls

pytest.importorskip("playwright", reason="the browser's tests need playwright, of the extra `test`")

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it has no types
from playwright.sync_api import Browser, Page, expect

from tests.web.browser import PHONE, WALL, Theme, Viewer, chromium, viewer

KINDS = (
    *("now", "night", "hour", "files", "file", "acquisition", "sessions", "session", "losses"),
    *("quick look", "not found", "bad request"),
)
IS_ERROR = {"not found", "bad request"}
pytestmark = pytest.mark.timeout(600)  # the first one may have to fetch a Chromium
expect.set_options(timeout=1000 * SECONDS)
FOCUSABLE = "a[href], button:not([hidden]), input, [tabindex='0']"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(chromium())
        except FetchError as why:
            pytest.skip(f"no Chromium: {why}")
        yield running


@pytest.fixture(scope="module")
def night(kafka: str, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """A night of five streams, which goes on."""
    assert browser  # without one the night is not needed
    tag = secrets.token_hex(3)
    streams = Names(*(f"crate1slot{number}-{tag}" for number in range(2, 7)))
    directory = tmp_path_factory.mktemp("night")
    with Recorder(kafka, streams.well, directory) as recorder, Night(recorder, streams) as running:
        yield running


@pytest.fixture(scope="module")
def web(night: Night) -> Iterator[Web]:
    """The page of the night, with all its files, and quick looks."""
    with quicklook_server() as server:
        running = night.web(None, "--quicklook", f"http://127.0.0.1:{server.port}")
        eventually(lambda: found(running, "/files.json")["total"] == len(night.files()), "the catalog has all files")
        yield running


@pytest.fixture(scope="module")
def url_of(web: Web, night: Night) -> Mapping[str, str]:
    """A URL of each kind of page."""
    return urls(web, night)


@pytest.fixture
def desk(browser: Browser, web: Web) -> Iterator[Viewer]:
    """A window in a dark control room. At the end: nothing was requested elsewhere, and the console is empty."""
    with viewer(browser, web.url) as opened:
        yield opened
        assert (opened.errors, opened.foreign) == ([], [])


def row(page: Page, stream: str) -> Any:
    """Return the row of a stream on the page of the present."""
    return page.locator("#streams tbody tr").filter(has=page.get_by_role("rowheader", name=stream, exact=True))


def files(web: Web, query: str = "") -> list[dict[str, Any]]:
    """Return the first page of the files, the newest first."""
    listed: list[dict[str, Any]] = found(web, f"/files.json{query}")["files"]
    return listed


def test_the_present_shows_each_stream_a_loss_and_a_dead_ingest(desk: Viewer, night: Night) -> None:
    page, streams = desk.open("/"), night.streams
    expect(page.locator("#verdict")).to_contain_text(f"no ingest for {streams.dead} since")
    expect(page.locator("#streams tbody tr")).to_have_count(len(streams))
    expect(page.locator("#streams tbody tr").first).to_contain_text(streams.dead)
    expect(row(page, streams.dead)).to_contain_text("no ingest")
    for stream in (streams.lossy, streams.gap, streams.disconnected):
        expect(row(page, stream)).to_contain_text("recording")
        expect(row(page, stream)).to_contain_text(".g3")
    expect(row(page, streams.lossy)).to_contain_text("7 records")
    expect(page.locator("#archivers tbody tr")).to_have_count(1)


def test_it_is_up_to_date_by_itself_when_a_file_closes(desk: Viewer, web: Web, night: Night) -> None:
    page, stream = desk.open("/"), night.streams.well
    page.evaluate("window.stillTheSamePage = true")
    expect(row(page, stream)).to_contain_text("recording")
    before = len(night.files())
    name = row(page, stream).locator(".file .path").inner_text()
    night.end(stream)
    expect(row(page, stream)).to_contain_text("idle")
    expect(row(page, stream)).not_to_contain_text(name)
    night.start(stream)
    expect(row(page, stream)).to_contain_text("recording")
    assert page.evaluate("window.stillTheSamePage") is True
    eventually(lambda: len(night.files()) > before, "the file is finished")
    eventually(lambda: any(it["path"].endswith(name) for it in files(web)), "it is in the catalog")
    page.get_by_role("link", name="Files", exact=True).click()
    expect(page.get_by_role("link", name=name)).to_be_visible()


def test_from_the_nights_bar_to_the_file_and_what_is_known_of_it(
    desk: Viewer, web: Web, night: Night, url_of: Mapping[str, str]
) -> None:
    page = desk.open(url_of["night"])
    (file,) = [it for it in files(web) if it["url"] == url_of["file"]]
    bar = page.locator(f"svg a[href='{file['url']}']")
    expect(bar).to_have_count(1)
    assert file["path"] in (bar.locator("title").text_content() or "")
    bar.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{file['url']}")
    main = page.get_by_role("main")
    for known in (file["path"], file["sha256"], "Lost while it was recorded"):
        expect(main).to_contain_text(known)
    page.locator(f"a[href='{url_of['session']}']").first.click()
    page.wait_for_url(f"**{url_of['session']}")
    expect(main).to_contain_text(file["path"].rpartition("/")[2])
    expect(main).to_contain_text(night.streams.gap)


def test_files_are_found_by_stream_and_by_what_is_missing(desk: Viewer, web: Web, night: Night) -> None:
    page, streams = desk.open("/files"), night.streams
    page.get_by_label("Stream").fill(streams.lossy)
    page.get_by_label("with frames missing or records lost").check()
    page.get_by_role("button", name="Find").click()
    page.wait_for_url("**missing=1**")
    rows = page.locator("table.files tbody tr")
    wanted = files(web, f"?stream={streams.lossy}&missing=1")
    assert wanted
    expect(rows).to_have_count(len(wanted))
    expect(page.get_by_label("Stream")).to_have_value(streams.lossy)


def test_a_quick_look_is_a_click_away_and_shows_figures_of_the_channels_asked_for(desk: Viewer, night: Night) -> None:
    page, stream = desk.open("/"), night.streams.well
    row(page, stream).get_by_role("link", name="quick look").click()
    page.wait_for_url(f"**/quicklook/{stream}")
    main = page.get_by_role("main")
    for known in (f"{CHANNELS - DEAD} of {CHANNELS}", f"{MISSING} samples missing", "µrad/√Hz"):
        expect(main).to_contain_text(known)
    expect(page.get_by_role("img", name="Median spectrum of the live channels")).to_be_visible()
    page.get_by_role("textbox", name="Channels").fill("r0001, r0100")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/quicklook/*?channels=*")
    expect(page.get_by_role("img", name="Spectrum of r0100")).to_be_visible()
    expect(page.get_by_role("heading", level=3)).to_have_count(2)
    expect(main).to_contain_text("not live: constant, or not finite")
    page.evaluate("window.stillTheSamePage = true")
    before = page.locator("#look time").first.inner_text()
    expect(page.locator("#look time").first).not_to_have_text(before)
    assert page.evaluate("window.stillTheSamePage") is True


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_is_accessible_and_fits_a_phone_and_a_wall(
    kind: str, browser: Browser, web: Web, url_of: Mapping[str, str]
) -> None:
    themes: tuple[tuple[Theme, int], ...] = (("dark", WALL), ("light", PHONE))
    for theme, width in themes:
        with viewer(browser, web.url, theme, width) as opened:
            page = opened.open(url_of[kind])
            expect(page.locator("html")).to_have_attribute("data-theme", theme)
            assert violations(page) == [], f"{kind}, {theme}, {width} px"
            for now in (PHONE, 700, 1000, WALL):
                page.set_viewport_size({"width": now, "height": 900})
                assert opened.overflow() <= 0, f"{kind} is {opened.overflow()} px too wide for {now} px"
            errors = [it for it in opened.errors if not (kind in IS_ERROR and "Failed to load resource" in it)]
            assert (errors, opened.foreign) == ([], [])


def violations(page: Page) -> list[str]:
    """Return what axe-core finds, a line for each element."""
    response = Axe().run(page, options={"resultTypes": ["violations"]}).response
    return [
        f"{it['id']}: {it['help']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
        for it in response["violations"]
        for node in it["nodes"]
    ]


@pytest.mark.parametrize("kind", ["now", "night", "files", "file", "quick look"])
def test_everything_is_reached_by_keyboard_and_the_focus_is_seen(
    kind: str, desk: Viewer, url_of: Mapping[str, str]
) -> None:
    page = desk.open(url_of[kind])
    # The page keeps its elements when it is updated, so they are known by themselves.
    count = page.evaluate(
        """(focusable) => {
          window.wanted = [...document.querySelectorAll(focusable)].filter(it => it.checkVisibility());
          return wanted.length;
        }""",
        FOCUSABLE,
    )
    assert count > 5
    unseen = []
    for number in range(count):
        page.keyboard.press("Tab")
        if number == 0:
            expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
        html, is_seen = page.evaluate(
            """() => {
              const it = document.activeElement;
              const drawn = it.matches("svg a") ? [...it.querySelectorAll("rect, path")] : [];
              wanted = wanted.filter(other => other !== it);
              return [
                it.outerHTML.slice(0, 200),
                [it, ...drawn].some(part => {
                  const { outlineStyle, strokeWidth } = getComputedStyle(part);
                  return outlineStyle !== "none" || strokeWidth === "2px";
                }),
              ];
            }"""
        )
        if not is_seen:
            unseen.append(html)
    assert unseen == []
    assert page.evaluate("wanted.map(it => it.outerHTML.slice(0, 200))") == []


def test_by_keyboard_alone_from_the_present_to_a_file(desk: Viewer, night: Night) -> None:
    page = desk.open("/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # Skip to the content
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text(night.streams.dead)  # the first stream, as it is in trouble
    page.keyboard.press("Enter")
    page.wait_for_url("**/files?stream=*")
    page.get_by_role("table").get_by_role("link").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/file/**")
    expect(page.get_by_role("heading", level=1)).to_contain_text(night.streams.dead)


def test_the_focus_stays_where_it_is_while_the_page_is_updated(desk: Viewer, night: Night) -> None:
    page = desk.open("/")
    row(page, night.streams.gap).get_by_role("link").first.focus()
    clock = page.locator("#clock").inner_text()
    expect(page.locator("#clock")).not_to_have_text(clock)
    expect(page.locator(":focus")).to_have_text(night.streams.gap)


def test_it_says_when_it_is_not_live_and_is_live_again_by_itself(browser: Browser, night: Night) -> None:
    ours = night.web()
    with viewer(browser, ours.url) as opened:
        page = opened.open("/")
        page.evaluate("window.stillTheSamePage = true")
        banner = page.locator("#connection")
        expect(banner).to_be_hidden()
        expect(page.locator("#verdict")).to_contain_text(night.streams.dead)
        ours.stop()
        expect(banner).to_be_visible()
        expect(banner).to_contain_text("Not live since")
        assert violations(page) == []
        again = night.web(ours.port)
        expect(banner).to_be_hidden()
        clock = page.locator("#clock").inner_text()
        expect(page.locator("#clock")).not_to_have_text(clock)
        assert page.evaluate("window.stillTheSamePage") is True
        # Chromium reports each connection that was refused; nothing else is wrong.
        assert [it for it in opened.errors if "net::ERR_" not in it] == []
        assert opened.foreign == []
    again.stop()
