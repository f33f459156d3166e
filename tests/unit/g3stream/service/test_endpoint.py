"""Endpoints: which interfaces are listened on, and how addresses are written, for IPv6 and IPv4."""

import errno
import socket

import pytest

from g3stream.service.arguments import listen_endpoint
from g3stream.service.endpoint import ClientEndpoint, ListenEndpoint, listen, peer_address

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this kernel has no IPv6")


@needs_ipv6
@pytest.mark.parametrize("host", ["", "[::]:"])
@pytest.mark.parametrize(("client", "shown"), [("127.0.0.1", "127.0.0.1:"), ("::1", "[::1]:")])
def test_no_host_means_all_interfaces(host: str, client: str, shown: str) -> None:
    where = listen_endpoint(f"{host}50000")
    with listen(ListenEndpoint(where.host, 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((client, port), timeout=30):
            listener.setblocking(True)
            accepted, _ = listener.accept()
            with accepted:
                assert peer_address(accepted).startswith(shown)


def test_without_ipv6_all_interfaces_are_those_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    create = socket.create_server

    def create_server(address: tuple[str, int], *, family: int, dualstack_ipv6: bool = False) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return create(address, family=family, dualstack_ipv6=dualstack_ipv6)

    monkeypatch.setattr(socket, "create_server", create_server)
    with listen(ListenEndpoint("", 0)) as listener:
        assert listener.family == socket.AF_INET


def test_an_ipv4_address_is_listened_on_alone() -> None:
    with listen(ListenEndpoint("127.0.0.1", 0)) as listener:
        assert listener.family == socket.AF_INET


def test_an_ipv6_address_is_written_in_brackets() -> None:
    assert str(ClientEndpoint("::1", 50000)) == "[::1]:50000"
    assert str(ClientEndpoint("smurf", 50000)) == "smurf:50000"
    assert str(listen_endpoint("[fe80::1]:50000")) == "[fe80::1]:50000"
    assert str(listen_endpoint("50000")) == "*:50000"
