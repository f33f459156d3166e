"""TCP endpoints: which side of a connection listens, at which address, and the listening socket.

For the connection to a stream's sender, and for the HTTP server.
"""

import errno
import socket
from dataclasses import dataclass


class ListenError(Exception):
    """The port to listen on isn't available; the message says which one, and why."""


@dataclass(frozen=True, slots=True)
class ClientEndpoint:
    """The sender listens, as a G3NetworkSender usually does, and ingest connects."""

    address: str
    port: int

    def __str__(self) -> str:
        return host_and_port(self.address, self.port)


@dataclass(frozen=True, slots=True)
class ListenEndpoint:
    """The other side connects, and this program listens. An empty host means all interfaces."""

    host: str
    port: int

    def __str__(self) -> str:
        return host_and_port(self.host or "*", self.port)


def host_and_port(host: str, port: int) -> str:
    """Return HOST:PORT, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def peer_address(client: socket.socket) -> str:
    """Return the HOST:PORT of a connection's other side; "gone" if it has disconnected."""
    try:
        host, port = client.getpeername()[:2]
    except OSError:
        return "gone"
    return host_and_port(host.removeprefix("::ffff:"), port)  # as IPv6 sockets show IPv4 addresses


def listen(endpoint: ListenEndpoint) -> socket.socket:
    """Return a non-blocking socket that listens there; on all interfaces, for IPv6 and IPv4. Raises ListenError."""
    try:
        listener = _listening_socket(endpoint)
    except OSError as error:
        # Python appends the address to the text.
        why = (error.strerror or str(error)).partition(" (while")[0]
        raise ListenError(f"can't listen on {endpoint}: {why}") from None
    except (TypeError, UnicodeError):
        raise ListenError(f"can't listen on {endpoint}: that is not a host name") from None
    listener.setblocking(False)
    return listener


def _listening_socket(endpoint: ListenEndpoint) -> socket.socket:
    """Return a listening socket. Raises OSError; TypeError or UnicodeError if the host is not a name."""
    if endpoint.host in ("", "::") and socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("::", endpoint.port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # IPv6 is disabled in the kernel
                raise
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    return socket.create_server((endpoint.host, endpoint.port), family=family)
