"""HTTP server: /metrics and /healthz for good clients, whatever bad clients do."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g3stream.service.endpoint import ListenEndpoint, ListenError
from g3stream.service.http_server import MAX_CONNECTIONS, HttpServer

SECONDS = 30.0


class Served:
    """A server with its problems, the number of its collections of metrics, and its clock `now`, in seconds."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.collections = 0
        self.now = 0.0
        self.server = HttpServer(
            ListenEndpoint("127.0.0.1", 0), self._metrics, lambda: self.problems, clock=lambda: self.now
        )

    def _metrics(self) -> bytes:
        self.collections += 1
        if "fail" in self.problems:
            raise ValueError("a fault")
        return b"g3_things_total 7.0\n"

    def get(self, path: str, method: str = "GET") -> tuple[int, str, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=SECONDS)
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), SECONDS)

    def raw(self, data: bytes) -> bytes:
        """Send bytes; return the whole response until the server closes the connection."""
        with self.connect() as client:
            response = b""
            try:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                while more := client.recv(65536):
                    response += more
            except OSError:
                pass  # closed before it had read all
            return response


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    served = Served()
    with served.server:
        yield served


@pytest.fixture(autouse=True)
def healthy(served: Served) -> Iterator[None]:
    served.now += 3600  # metrics collected for another test have expired
    yield
    served.problems = []


def test_metrics(served: Served) -> None:
    status, body, headers = served.get("/metrics?name=x")
    assert (status, body) == (200, "g3_things_total 7.0\n")
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_health(served: Served) -> None:
    assert served.get("/healthz")[:2] == (200, "ok\n")
    served.problems = ["no connection", "the disk is full"]
    assert served.get("/healthz")[:2] == (503, "no connection\nthe disk is full\n")


def test_head_is_get_without_the_body(served: Served) -> None:
    response = served.raw(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 3\r\n" in response
    assert response.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(served: Served, method: str) -> None:
    status, _, headers = served.get("/metrics", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/..%2f..%2fetc/passwd", "//metrics", "/debug/pprof"])
def test_other_paths_do_not_exist(served: Served, path: str) -> None:
    assert served.get(path)[0] == 404


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/x"])
def test_every_response_forbids_browsers_to_interpret_it(served: Served, path: str) -> None:
    _, _, headers = served.get(path)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Connection"] == "close"
    assert headers["Server"] is None, "versions are not disclosed"


def test_a_fault_in_the_collection_is_a_response_and_the_next_one_is_good(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.problems = ["fail"]
    assert served.get("/metrics")[0] == 500
    assert "ValueError: a fault" in caplog.text
    served.problems = []
    assert served.get("/metrics")[0] == 200


def test_many_requests_at_once_share_one_collection(served: Served) -> None:
    before = served.collections
    for _ in range(20):
        assert served.get("/metrics")[0] == 200
    assert served.collections - before == 1


def test_metrics_are_collected_again_for_a_request_half_a_second_later(served: Served) -> None:
    before = served.collections
    for _ in range(3):
        served.get("/metrics")
        served.now += 0.6
    assert served.collections - before == 3


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET /metrics\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",  # no Host
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"\x00" * 100_000,
        b"",
    ],
)
def test_an_invalid_request_is_refused(served: Served, data: bytes) -> None:
    response = served.raw(data)
    assert not response or response.startswith(b"HTTP/1.1 4")
    assert served.get("/healthz")[0] == 200


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_do_any_harm(served: Served, data: bytes) -> None:
    served.raw(data)
    assert served.get("/healthz")[0] == 200


def test_too_many_clients_close_the_oldest_connections(served: Served) -> None:
    with ExitStack() as stack:
        stalled = [stack.enter_context(served.connect()) for _ in range(MAX_CONNECTIONS + 20)]
        assert served.get("/healthz")[0] == 200
        assert stalled[0].recv(1) == b"", "disconnected"


def test_a_client_that_never_ends_its_request_is_disconnected(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("g3stream.service.http_server.RESPONSE_TIMEOUT_SECONDS", 0.2)
    with served.connect() as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
        assert client.recv(1) == b""


def test_it_stops_at_once_with_clients_connected_and_frees_its_port() -> None:
    served = Served()
    with served.connect() as client:
        assert served.get("/healthz")[0] == 200
        served.server.close()
        assert client.recv(1) == b""
    HttpServer(ListenEndpoint("127.0.0.1", served.server.port), lambda: b"", list).close()


def test_an_invalid_host_name_is_an_error() -> None:
    with pytest.raises(ListenError, match="not a host name"):
        HttpServer(ListenEndpoint("ü..", 1), lambda: b"", list)


def test_a_port_in_use_is_an_error_that_names_it(served: Served) -> None:
    port = served.server.port
    with pytest.raises(ListenError, match=f"can't listen on 127.0.0.1:{port}: Address already in use"):
        HttpServer(ListenEndpoint("127.0.0.1", port), lambda: b"", list)


def test_a_program_may_have_documents_at_other_paths() -> None:
    def document(path: str, query: str) -> bytes | None:
        return b'{"a": 1}' if (path, query) == ("/v1/a.json", "b=c") else None

    with HttpServer(ListenEndpoint("127.0.0.1", 0), lambda: b"", list, document=document) as server:

        def get(path: str) -> tuple[int, str | None, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.headers["Content-Type"], response.read()

        assert get("/v1/a.json?b=c") == (200, "application/json", b'{"a": 1}')
        assert get("/v1/a.json")[0] == 404
        assert get("/healthz")[0] == 200
