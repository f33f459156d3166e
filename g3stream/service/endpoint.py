"""TCP endpoints: which side of a connection listens and where, and the listening socket.

For the connection to a stream's sender, and for the HTTP server.
"""

import errno
import socket
from dataclasses import dataclass


class ListenError(Exception):
    """The port to listen on isn't available; the message says which, and why."""


@dataclass(frozen=True, slots=True)
class ClientEndpoint:
    """The sender listens (a G3NetworkSender's usual way); we connect."""

    address: str
    port: int

    def __str__(self) -> str:
        return host_and_port(self.address, self.port)


@dataclass(frozen=True, slots=True)
class ListenEndpoint:
    """The sender connects out; we listen. An empty host is every interface."""

    host: str
    port: int

    def __str__(self) -> str:
        return host_and_port(self.host or "*", self.port)


def host_and_port(host: str, port: int) -> str:
    """As it is written: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(endpoint: ListenEndpoint) -> socket.socket:
    """A socket that listens there, and never blocks; on every interface, for IPv6 and IPv4. Raises ListenError."""
    try:
        listener = _listening_socket(endpoint)
    except OSError as error:
        # Python adds the address to the text.
        why = (error.strerror or str(error)).partition(" (while")[0]
        raise ListenError(f"can't listen on {endpoint}: {why}") from None
    except (TypeError, UnicodeError):
        raise ListenError(f"can't listen on {endpoint}: that is no host's name") from None
    listener.setblocking(False)
    return listener


def _listening_socket(endpoint: ListenEndpoint) -> socket.socket:
    """Raises OSError, and, of a name that is none, TypeError or UnicodeError."""
    if endpoint.host in ("", "::") and socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("::", endpoint.port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # a kernel that has IPv6 switched off
                raise
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    return socket.create_server((endpoint.host, endpoint.port), family=family)
