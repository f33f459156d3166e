"""The page of a quick look: what it shows, and that it says when the quick-look process doesn't answer, or is old."""

import asyncio
import re
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from string import ascii_letters
from typing import Any

import msgspec
import numpy as np
import pytest
from starlette.types import ASGIApp

from archiver.commands.web import make_parser
from archiver.quicklook.answers import Answer, answer
from archiver.quicklook.state import DecoderStatus, State
from archiver.web.app import Pages
from archiver.web.live import LivePage
from archiver.web.now.snapshot import Snapshot
from archiver.web.now.view import now_view
from archiver.web.quicklook.client import Fetch, QuickLook, QuickLookClient, fetch_from
from archiver.web.quicklook.view import quicklook_view
from archiver.web.records.pages import Parts
from archiver.web.rendering import Renderer
from g3stream.service.endpoint import ClientEndpoint
from tests.support.asgi import get
from tests.unit.archiver.quicklook.known import NOW_MS, STREAM, look_at, scans, state_with, two_gaps, white
from tests.unit.archiver.status.test_verdict import NOW
from tests.unit.archiver.web.recorded import follower
from tests.unit.archiver.web.test_now_page import snapshot

EVIL = '"><script>alert(1)</script>'


def answered(state: State, channels: Sequence[str] = ()) -> Answer:
    found = answer(state, STREAM, channels, NOW_MS)
    assert found is not None
    return found


def fetch_of(state: State) -> Fetch:
    def fetch(stream: str, channels: Sequence[str]) -> bytes | None:
        return msgspec.json.encode(answered(state, channels)) if stream == STREAM else None

    return fetch


def app_of(fetch: Fetch | None) -> ASGIApp:
    client = QuickLookClient("127.0.0.1:8781", fetch) if fetch else None
    renderer = Renderer("archiver", has_quicklook=client is not None)
    parts = Parts(renderer, follower([]), lambda: Snapshot("archiver", 0), None)
    return Pages(LivePage(dict), parts, client).app()


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html)).replace("&#39;", "'")


def test_it_shows_the_numbers_and_figures_with_words_for_each() -> None:
    html = get(app_of(fetch_of(state_with(look_at(two_gaps())))), f"/quicklook/{STREAM}").text
    for shown in ("200.0 Hz", "7 samples missing before", "1 sample missing before", "at 5 to 50 Hz"):
        assert shown in words(html)
    assert re.search(r"<dt>channels live</dt><dd>7 of 8</dd>", html)
    assert re.search(r'<dt>samples missing</dt><dd class="attention">8</dd>', html)
    figures = re.findall(r'<svg class="canvas" role="img" aria-label="([^"]*)"', html)
    assert len(figures) == 1 + 2 * 6
    assert figures[0].startswith("Median spectrum of the live channels: ")
    assert "µrad/√Hz at 10 Hz" in figures[0]
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style", html)
    assert "NaN" not in html
    assert 'aria-current="page">Now' in html


def test_channels_are_chosen_by_the_url_and_a_hostile_one_is_no_markup() -> None:
    app = app_of(fetch_of(state_with(look_at(two_gaps()))))
    html = get(app, f"/quicklook/{STREAM}?channels=r0003,r0001,{EVIL.replace(' ', '')}").text
    assert "<script>alert" not in html
    assert "The stream has no such channel" in words(html)
    assert "not live: constant, or not finite" in words(html)
    json = get(app, f"/quicklook/{STREAM}.json?channels=r0001").json
    assert [it["name"] for it in json["answer"]["look"]["shown"]] == ["r0001"]


def test_the_same_as_json_has_times_in_iso_8601() -> None:
    json = get(app_of(fetch_of(state_with(look_at(two_gaps())))), f"/quicklook/{STREAM}.json").json
    assert (json["v"], json["stream"], json["error"]) == (1, STREAM, None)
    look = json["answer"]["look"]
    assert (look["live_channels"], look["missing_samples"]) == (7, 8)
    assert look["received"].endswith("Z") or "+00:00" in look["received"]
    assert [it["missing"] for it in look["gaps"]] == [1, 7]
    assert look["gaps"][0]["time"] < look["gaps"][1]["time"]


@pytest.mark.parametrize("url", ["/quicklook/another", "/quicklook", "/quicklook/a/b"])
def test_a_stream_that_is_not_looked_at_is_not_found(url: str) -> None:
    assert get(app_of(fetch_of(state_with())), url).status == 404


@pytest.mark.parametrize("url", [f"/quicklook/{EVIL}", f"/quicklook/{STREAM}?channels={','.join(ascii_letters)}"])
def test_what_can_not_be_understood_is_a_bad_request(url: str) -> None:
    found = get(app_of(fetch_of(state_with())), url)
    assert found.status in (400, 404)
    assert "<script>alert" not in found.text


def test_without_a_quick_look_process_there_is_no_such_page() -> None:
    assert get(app_of(None), f"/quicklook/{STREAM}").status == 404


def test_each_streams_row_links_to_it_only_if_there_is_a_quick_look_process() -> None:
    view = now_view(snapshot(), {}, NOW)
    assert 'href="/quicklook/s"' in Renderer("archiver", has_quicklook=True).fragments(view)["streams"]
    assert "/quicklook/" not in Renderer("archiver").fragments(view)["streams"]


def test_while_the_process_does_not_answer_its_last_answer_is_shown_with_the_reason() -> None:
    fails = threading.Event()
    good = fetch_of(state_with(look_at(two_gaps())))

    def fetch(stream: str, channels: Sequence[str]) -> bytes | None:
        if fails.is_set():
            raise ConnectionRefusedError
        return good(stream, channels)

    async def asked() -> tuple[QuickLook, QuickLook, QuickLook]:
        client = QuickLookClient("127.0.0.1:8781", fetch, fresh_s=0)
        before = await client.get(STREAM, [])
        fails.set()
        other = await client.get(STREAM, ["r0001"])
        return before, await client.get(STREAM, []), other

    before, after, other = asyncio.run(asked())
    assert (before.error, after.answer) == (None, before.answer)
    assert after.error == "the quick-look process at 127.0.0.1:8781 doesn't answer: nothing listens there"
    assert after.error_since_ms == other.error_since_ms
    assert other.answer is None
    [note] = quicklook_view(replace(after, error_since_ms=NOW_MS - 90_000), STREAM, [], NOW_MS).notes
    assert note.startswith("Not live since ")
    assert "(1 min ago)" in note
    assert "Recording doesn't depend on it." in note
    assert quicklook_view(other, STREAM, [], NOW_MS).sums == ()


def test_a_process_that_hangs_holds_up_no_other_page_and_viewers_share_one_request() -> None:
    answers, asked_for = threading.Event(), []

    def fetch(stream: str, _: Sequence[str]) -> bytes | None:
        asked_for.append(stream)
        answers.wait(30)
        return None

    async def asked() -> list[Any]:
        client = QuickLookClient("127.0.0.1:8781", fetch, deadline_s=0.5)
        waiting = [asyncio.create_task(client.get(STREAM, [])) for _ in range(50)]
        waiting += [asyncio.create_task(client.get(f"s{number}", [])) for number in range(10)]
        # The loop's own threads, which all other pages use, are free.
        await asyncio.gather(*(asyncio.to_thread(len, "") for _ in range(20)))
        assert not any(task.done() for task in waiting)
        return await asyncio.gather(*waiting)

    try:
        found = asyncio.run(asked())
    finally:
        answers.set()
    assert len(asked_for) == 2  # as many as there are threads
    assert all("it took too long" in it.error for it in found)


@pytest.mark.parametrize("data", [b"", b"no JSON", b"{}", b"[1]", b'{"v": 1, "stream": 7}'])
def test_an_answer_in_another_form_is_an_error(data: bytes) -> None:
    found = asyncio.run(QuickLookClient("there", lambda *_: data).get(STREAM, []))
    assert found.error is not None
    assert "not as agreed" in found.error


NOTES = [
    (state_with(looked_ms=None), "There is no look yet: it is looked at every 30 s"),
    (state_with(), "the latest 10 s of its topic have no Scan frame"),
    (state_with(look_at(two_gaps()), error="bad", error_since_ms=NOW_MS - 5000), "There is no newer look since"),
    (state_with(look_at(two_gaps()), received_ms=NOW_MS - 600_000), "Old: the data were received at"),
    (state_with(look_at(two_gaps(), undecodable=1)), "1 frame couldn't be decoded: RuntimeError: bad."),
    (state_with(look_at(two_gaps(), left_out=3)), "3 records were too much"),
    (
        replace(state_with(), decoder=DecoderStatus(problem="it has ended", since_ms=NOW_MS)),
        "the decoder doesn't work, and is started again by itself: it has ended.",
    ),
]


@pytest.mark.parametrize(("state", "note"), NOTES)
def test_the_page_says_what_is_wrong(state: State, note: str) -> None:
    notes = quicklook_view(QuickLook(answered(state)), STREAM, [], NOW_MS).notes
    assert any(note in it for it in notes), notes


def test_a_look_without_problems_has_no_note() -> None:
    state = state_with(look_at(two_gaps()))
    assert quicklook_view(QuickLook(answered(state)), STREAM, [], NOW_MS).notes == ()


@pytest.mark.parametrize("samples", [1, 2, 40, 2000])
def test_there_is_a_page_for_however_few_samples(samples: int) -> None:
    app = app_of(fetch_of(state_with(look_at(scans(white(3, samples))))))
    assert get(app, f"/quicklook/{STREAM}").status == 200


def test_where_the_process_serves_is_a_plain_url() -> None:
    parse = make_parser().parse_args
    assert parse([]).quicklook is None
    assert parse(["--quicklook", "http://127.0.0.1:8781/"]).quicklook == ClientEndpoint("127.0.0.1", 8781)
    for wrong in ("127.0.0.1:8781", "https://host:1", "http://host", "http://host:1/path", "http://host:99999", "x"):
        with pytest.raises(SystemExit):
            parse(["--quicklook", wrong])


def test_an_answer_that_comes_byte_by_byte_without_end_holds_no_thread() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def trickle() -> None:
            client, _ = listener.accept()
            with client, suppress(OSError):
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while not over.wait(0.2):
                    client.sendall(b"{")

        server = threading.Thread(target=trickle)
        server.start()
        try:
            fetch = fetch_from(ClientEndpoint("127.0.0.1", listener.getsockname()[1]))
            assert set(fetch(STREAM, ()) or b"{") == set(b"{"), "what had come when it was given up"
        finally:
            over.set()
            server.join()


def test_a_signal_beyond_the_largest_number_has_no_figure() -> None:
    counts = np.zeros((2, 2000), np.int32)
    counts[1, ::8] = 2**31 - 1
    html = get(app_of(fetch_of(state_with(look_at(scans(counts))))), f"/quicklook/{STREAM}?channels=r0001")
    assert html.status == 200
    assert "r0001" in html.text
