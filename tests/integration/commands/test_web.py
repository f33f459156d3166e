"""`archiver web` beside a real recorder: the page, its JSON and its updates show what is recorded, lost, and dead."""

import hashlib
import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest

from archiver.web.read_only import CONTENT_SECURITY_POLICY
from testbed.child_process import free_port
from tests.integration.commands.test_status_verdict import let_time_pass, sending
from tests.support.archives import Source
from tests.support.processes import SECONDS, Program, RawSender, Recorder, eventually, flow, get


class Web:
    """A running `archiver web` of the recorder's archive. arguments: further ones."""

    def __init__(self, recorder: Recorder, *arguments: str) -> None:
        self.port = free_port()
        whose = ("--stream", recorder.stream, "--group", f"{recorder.stream}.archive")
        self.program: Program = recorder.start("archiver", "web", "--http", str(self.port), *whose, *arguments)
        self.program.await_line("the page is at")

    def json(self, path: str) -> Any:
        """Return the JSON at this URL."""
        status, text = get(self.port, path)
        assert status == 200, text
        return json.loads(text)

    def page(self, path: str) -> str:
        """Return the page at this URL."""
        status, text = get(self.port, path)
        assert status == 200, text
        return text

    @contextmanager
    def updates(self) -> Iterator["Updates"]:
        """Context of a viewer's connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        connection.request("GET", "/live")
        response = connection.getresponse()
        assert response.getheader("Content-Type", "").startswith("text/event-stream")
        try:
            yield Updates(line.decode() for line in iter(response.readline, b"") if line.startswith(b"data: "))
        finally:
            connection.close()


class Updates:
    """The updates that a viewer is sent: the whole page, then what changes. lines: one for each."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines

    def await_shown(self, *texts: str) -> None:
        """Wait until each of these has come, from now on; in whatever order, as unchanged parts aren't sent again."""
        deadline = time.monotonic() + SECONDS
        missing = set(texts)
        for line in self._lines:
            missing -= {text for text in missing if text in line}
            if not missing:
                return
            assert time.monotonic() < deadline, f"never shown: {missing}"
        raise AssertionError(f"the connection ended before these were shown: {missing}")


def test_what_is_recorded_is_on_the_page_at_once_and_what_has_died_too(recorder: Recorder) -> None:
    recorder.create_topic()
    stream = recorder.stream
    with RawSender() as sender:
        ingest, recording = recorder.ingest(sender.port), recorder.archiver()
        web = Web(recorder, "--data-dir", str(recorder.data()))
        with sender.accept() as connection:
            with web.updates() as updates, sending(connection):
                opened = recording.await_line(r"opened (\S+\.g3)")[1]
                updates.await_shown(f">{opened.rpartition('/')[2]}<", "All is well")
            connection.sendall(flow(2))
            recording.await_line(r"finished .* \(end\)")
            (path,) = (str(file.relative_to(recorder.data())) for file in recorder.files())
            with web.updates() as updates:
                updates.await_shown('class="state-idle"')
            eventually(lambda: web.json("/files.json")["total"] == 1, "the catalog has the file")
            (found,) = web.json("/files.json")["files"]
            assert found["path"] == path
            assert found["sha256"] == hashlib.sha256((recorder.data() / path).read_bytes()).hexdigest()
            assert found["absolute_path"] == str(recorder.data() / path)
            for url in ("/files", "/night", f"/file/{path}", f"/acquisition/{stream}/1"):
                assert f"/file/{path}" in web.page(url) or found["sha256"] in web.page(url), url
            ingest.kill()
    let_time_pass(recorder, f"ingest:{stream}")
    with web.updates() as updates:
        updates.await_shown(f"no ingest for {stream} since", "1 problem")
    assert web.json("/now.json")["ok"] is False
    assert 'class="state-no-ingest"' in web.page("/")
    assert web.program.stop() == 0


def test_a_loss_is_on_the_page(recorder: Recorder) -> None:
    recorder.create_topic()
    source = Source(recorder.servers, recorder.stream, epochs=0)
    recording = recorder.archiver()
    source.start()
    source.scans(10)
    source.lose(7)
    source.scans(10)
    source.end()
    recording.await_line(r"finished .* \(end\)")
    web = Web(recorder)
    eventually(lambda: web.json("/losses.json")["losses"] != [], "the loss is in the catalog")
    (loss,) = web.json("/losses.json")["losses"]
    assert (loss["stream"], loss["records"]) == (recorder.stream, 7)
    with web.updates() as updates:
        updates.await_shown("7 records")
    assert loss["what"].replace("'", "&#39;") in web.page("/night")
    assert loss["file"] in web.page(f"/file/{loss['file']}")
    assert [it["path"] for it in web.json("/files.json?missing=1")["files"]] == [loss["file"]]


HOSTILE = (
    "/file/" + quote("../../../../etc/passwd"),
    "/static/" + quote("../app.py"),
    "/static/%2e%2e/%2e%2e/console/arguments.py",
    "/files?stream=" + quote("' OR 1=1; DROP TABLE file; --"),
    "/night/" + quote("<script>alert(1)</script>"),
    "/session/" + "9" * 400,
    "/" + "x" * 15_000,
    "/files?" + "&".join(f"a{n}=1" for n in range(1000)),
    "/acquisition/%00/%ff",
)


def test_hostile_requests_get_a_page_and_harm_nothing(recorder: Recorder) -> None:
    web = Web(recorder)
    for url in HOSTILE:
        status, text = get(web.port, url)
        assert status in (200, 400, 404), url
        assert "Traceback" not in text
        assert "<script>alert" not in text
        assert "root:" not in text
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=SECONDS)
        connection.request(method, "/files", body=b"x" * 100_000)
        response = connection.getresponse()
        assert (response.status, response.getheader("Allow")) == (405, "GET, HEAD")
        assert response.getheader("Content-Security-Policy") == CONTENT_SECURITY_POLICY
        connection.close()
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=SECONDS)
    connection.request("HEAD", "/files")
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"")
    connection.close()
    assert get(web.port, "/files")[0] == 200


def test_many_viewers_get_the_same_page_and_a_stopped_server_lets_them_go(recorder: Recorder) -> None:
    recorder.create_topic()
    web = Web(recorder)
    eventually(lambda: web.json("/now.json")["live"], "live")
    viewers = []
    for _ in range(100):
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=SECONDS)
        connection.request("GET", "/live")
        viewers.append((connection, connection.getresponse()))
    for _, response in viewers:
        lines = (line for line in iter(response.readline, b""))
        assert any(recorder.stream.encode() in line for line in lines)
    assert web.program.stop() == 0
    for connection, response in viewers:
        response.read()  # to its end
        connection.close()


@pytest.mark.parametrize("content", [b"no database", b""], ids=["another file", "an empty file"])
def test_a_file_that_is_no_catalog_is_left_alone_and_the_present_is_shown(recorder: Recorder, content: bytes) -> None:
    recorder.create_topic()
    file = recorder.directory / "something"
    file.write_bytes(content)
    web = Web(recorder, "--catalog", str(file))
    eventually(lambda: web.json("/now.json")["live"], "live")
    if content:
        assert get(web.port, "/files")[0] == 503
        assert "no catalog" in get(web.port, "/files")[1]
        assert file.read_bytes() == content
    else:
        eventually(lambda: get(web.port, "/files")[0] == 200, "it is made")
