"""Where a stream's frames come from: which side of the TCP connection listens, and where."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectTo:
    """The sender listens (a G3NetworkSender's usual way); we connect."""

    address: str
    port: int

    def __str__(self) -> str:
        return host_and_port(self.address, self.port)


@dataclass(frozen=True, slots=True)
class ListenOn:
    """The sender connects out; we listen. An empty host is every interface."""

    host: str
    port: int

    def __str__(self) -> str:
        return host_and_port(self.host or "*", self.port)


def host_and_port(host: str, port: int) -> str:
    """As it is written: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
