"""The page of the present: what it shows of a snapshot, as HTML and as JSON."""

import asyncio
import re
from dataclasses import replace

import pytest
from msgspec import structs
from starlette.types import ASGIApp

from archiver.catalog.recorded import Loss
from archiver.status.evidence import Evidence
from archiver.status.verdict import judge
from archiver.web.app import Pages
from archiver.web.live import LivePage
from archiver.web.now.rates import Rate
from archiver.web.now.snapshot import STALE_MS, Snapshot
from archiver.web.now.view import now_view
from archiver.web.read_only import CONTENT_SECURITY_POLICY
from archiver.web.records.pages import Parts
from archiver.web.rendering import FRAGMENTS, Renderer
from tests.support.asgi import get
from tests.unit.archiver.status.test_verdict import ARCHIVER, CALM, HOUR, INGEST, NOW
from tests.unit.archiver.web.recorded import LOSS, follower

OPEN = structs.replace(
    CALM, file="18000/s/2027-01-15-08-00-00_000.g3", file_start=NOW - 125_000, file_bytes=25_000_000, file_frames=9
)
RATES = {"s": (Rate(NOW - 20_000, 1e6), Rate(NOW - 10_000, 2e6))}


def snapshot(*, ingest: object = INGEST, status: object = OPEN) -> Snapshot:
    evidence = Evidence("g", [status], {"s": ingest}, {"daq1-0": ARCHIVER}, {})  # type: ignore[list-item, dict-item]  # of the tests above
    return Snapshot("g", NOW - HOUR, judge(evidence, NOW), NOW, RATES)


def rendered(shown: Snapshot, now_ms: int = NOW, losses: dict[str, Loss] | None = None) -> str:
    return "\n".join(Renderer("g").fragments(now_view(shown, losses or {}, now_ms)).values())


def words(html: str) -> str:
    """What is read on the page, without markup."""
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html))


def test_all_that_an_operator_asks_is_shown() -> None:
    found = words(rendered(snapshot()))
    for shown in (
        "All is well",
        "s recording",
        "07:57:55 2 min",
        "2.0 MB/s",
        "2027-01-15-08-00-00_000.g3",
        "25.0 MB, 2 min",
    ):
        assert shown in found
    assert "1 of 1" in found
    assert "daq1" in found
    assert "Not live" not in found


def test_a_state_has_a_word_a_shape_and_a_colour() -> None:
    html = rendered(snapshot())
    assert 'class="state-recording"' in html
    assert 'href="#s-recording"' in html


def test_a_dead_ingest_is_a_sentence_and_comes_first() -> None:
    dead = structs.replace(INGEST, time_ms=NOW - 60_000)
    html = rendered(snapshot(ingest=dead))
    assert "no ingest for s since" in html
    assert 'class="state-no-ingest"' in html
    assert html.index("1 problem") < html.index("Streams")


def test_the_last_loss_is_shown() -> None:
    found = words(rendered(snapshot(), losses={"s": replace(LOSS, records=1200)}))
    assert "1,200 records" in found


def test_a_stale_snapshot_is_not_live_and_not_well() -> None:
    now_ms = NOW + STALE_MS + 1
    found = words(rendered(snapshot(), now_ms))
    assert "Not live since" in found
    assert "All is well" not in found
    failed = replace(snapshot(), error="Kafka at k:9092: connection refused")
    assert "connection refused" in words(rendered(failed, NOW + 1000))


def test_before_kafka_has_answered_it_waits() -> None:
    assert "Waiting for Kafka" in words(rendered(Snapshot("g", NOW)))


def test_foreign_text_is_no_markup() -> None:
    evil = '<script>alert("1")</script>'
    html = rendered(
        snapshot(ingest=structs.replace(INGEST, problems=(evil,)), status=structs.replace(OPEN, problem=evil)),
        losses={"s": replace(LOSS, records=None, what=evil)},
    )
    assert "<script" not in html
    assert "&lt;script&gt;" in html


@pytest.fixture(scope="module")
def app() -> ASGIApp:
    """Return the page of an archive that is well."""
    renderer = Renderer("g")
    live = LivePage(lambda: renderer.fragments(now_view(snapshot(), {}, NOW)))
    asyncio.run(live.update())
    return Pages(live, Parts(renderer, follower([]), snapshot, None)).app()


def test_the_page_has_all_fragments_and_nothing_from_elsewhere(app: ASGIApp) -> None:
    answer = get(app, "/")
    assert answer.status == 200
    for name in FRAGMENTS:
        assert f'id="{name}"' in answer.text
    for url in re.findall(r'(?:src|href)="([^"]*)"', answer.text):
        assert re.match("[/#](?!/)", url), url
    assert not re.search(r"\sstyle=|\son[a-z]+=|<script>|<style", answer.text)
    for url in re.findall(r'(?:src|href)="(/static/[^"]*)"', answer.text):
        assert get(app, url).status == 200, url


def test_the_same_as_json(app: ASGIApp) -> None:
    for answer in (get(app, "/now.json"), get(app, "/", accept="application/json")):
        assert answer.headers["content-type"] == "application/json"
        found = answer.json
        assert (found["v"], found["group"], found["ok"], found["problems"]) == (1, "g", True, [])
        (stream,) = found["streams"]
        assert (stream["stream"], stream["state"], stream["file"]) == ("s", "recording", OPEN.file)
        assert [rate["bytes_per_s"] for rate in stream["rates"]] == [1e6, 2e6]
        (archiver,) = found["archivers"]
        assert archiver["instance"] == "daq1-0"


@pytest.mark.parametrize("url", ["/", "/nothing", "/now.json", "/static/page.css", "/static/../app.py", "/healthz"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_every_answer_has_the_policy_and_only_reading_is_answered(app: ASGIApp, url: str, method: str) -> None:
    answer = get(app, url, method=method)
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert (answer.status == 405) is (method not in ("GET", "HEAD"))


def test_an_unknown_url_gets_a_page_with_words_and_ways_on(app: ASGIApp) -> None:
    answer = get(app, "/%3Cscript%3E")
    assert answer.status == 404
    assert "<script>" not in answer.text
    assert 'href="/"' in answer.text
    assert get(app, "/nothing.json").json == {"v": 1, "status": 404, "error": "There is no page at /nothing."}


def test_a_viewer_gets_the_page_and_then_only_what_changes() -> None:
    texts = iter([{"a": "<p id=a>1\n</p>", "b": "<p id=b>x</p>"}, {"a": "<p id=a>2</p>", "b": "<p id=b>x</p>"}])

    async def view() -> list[bytes]:
        live = LivePage(lambda: next(texts))
        await live.update()
        events = live.events()
        found = [await anext(events) for _ in range(2)]
        await live.update()
        found.append(await anext(events))
        live.close()
        assert [it async for it in events] == []
        return found

    retry, first, second = asyncio.run(view())
    assert retry == b"retry: 2000\n\n"
    assert first == b"id: 1\nevent: now\ndata: <p id=a>1 </p> <p id=b>x</p>\n\n"
    assert second == b"id: 2\nevent: now\ndata: <p id=a>2</p>\n\n"
