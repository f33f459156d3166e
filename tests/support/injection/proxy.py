"""A TCP proxy between clients and a broker, which delays data, resets connections, or stalls them."""

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from testbed.child_process import HOST, free_port
from testbed.kafka.broker import Broker

FAR_MS = 5.0
"""The delay of a broker that is near but not on the loopback, each way."""

_BYTES = 1 << 16
_RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER with 0 s: closing sends RST, as a host after a reboot does


class Proxy:
    """A proxy from `port` of this host to `target`, in a thread of its own.

    port: the port to listen on (0: a free one). The proxy is for one broker, which advertises this port.
    delay_ms: the delay of all data, each way, as on a real network.
    """

    def __init__(self, target: int, port: int = 0, delay_ms: float = 0.0) -> None:
        self._target = target
        self._delay_s = delay_ms / 1000
        self._delayed: deque[tuple[float, socket.socket, bytes]] = deque()
        """Data to pass on: when, to which socket, which bytes; no bytes: the other side has closed."""
        self.responses_dropped_after: int | None = None
        """After a client has sent more bytes than this on a connection, its responses are dropped: the requests have
        arrived, and the client doesn't know it."""
        self._sent: dict[socket.socket, int] = {}
        """Bytes sent by each client."""
        self._listener = socket.create_server((HOST, port))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = False
        self._waker, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    @property
    def servers(self) -> str:
        """The `bootstrap.servers` for clients."""
        return f"{HOST}:{self.port}"

    def cut(self) -> int:
        """Reset all present connections, but no later ones; return how many."""
        with self._lock:
            ends = list(self._peers)
            self._peers.clear()
            for end in ends:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.close()
        self._waker.send(b".")
        return len(ends) // 2

    def stall(self) -> None:
        """Pass nothing on until `flow`, as a network that drops packets silently."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass data on again, the waiting data first."""
        self._flowing.set()
        self._waker.send(b".")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self.flow()
        self._thread.join()
        self.cut()
        for end in (self._listener, self._waker, self._woken):
            end.close()

    def _run(self) -> None:
        while not self._closed:
            self._flowing.wait()
            while self._delayed and self._delayed[0][0] <= time.monotonic():
                _, peer, data = self._delayed.popleft()
                self._send(peer, data)
            wait_s = max(0.0, self._delayed[0][0] - time.monotonic()) if self._delayed else None
            with self._lock:
                ends = [self._woken, self._listener, *self._peers]
            try:
                readable = select.select(ends, [], [], wait_s)[0]
            except (OSError, ValueError):
                continue  # one of them has just been cut
            for end in readable:
                if end is self._woken:
                    end.recv(_BYTES)
                elif end is self._listener:
                    self._accept()
                elif self._flowing.is_set():
                    self._pass_on(end)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            broker = socket.create_connection((HOST, self._target))
        except OSError:
            client.close()  # the broker is down; its clients see that
            return
        with self._lock:
            self._peers[client], self._peers[broker] = broker, client
        self._sent[client] = 0

    def _pass_on(self, end: socket.socket) -> None:
        peer = self._peers.get(end)
        if peer is None:
            return
        try:
            data = end.recv(_BYTES)
        except OSError:
            data = b""
        if end in self._sent:
            self._sent[end] += len(data)
        elif (
            data
            and self.responses_dropped_after is not None
            and self._sent.get(peer, 0) > self.responses_dropped_after
        ):
            return
        if self._delay_s and data:
            self._delayed.append((time.monotonic() + self._delay_s, peer, data))
        elif self._delay_s:
            with self._lock:
                self._peers.pop(end, None)  # it is read no longer; its peer is closed after the delay
            self._delayed.append((time.monotonic() + self._delay_s, peer, b""))
        else:
            self._send(peer, data)

    def _send(self, peer: socket.socket, data: bytes) -> None:
        try:
            peer.sendall(data)
        except OSError:
            data = b""
        if data:
            return
        with self._lock:
            end = self._peers.pop(peer, None)
            if end is not None:
                self._peers.pop(end, None)
            for each in filter(None, (peer, end)):
                self._sent.pop(each, None)
                each.close()


class FarBroker(Broker):
    """A broker for one test, with a delay of FAR_MS each way."""

    def __init__(self, directory: Path, properties: Mapping[str, str] | None = None) -> None:
        port = free_port()
        self._proxy = Proxy(port, delay_ms=FAR_MS)
        advertised = {"advertised.listeners": f"PLAINTEXT://{self._proxy.servers}"}
        super().__init__(directory, port, {**advertised, **(properties or {})})

    @property
    def bootstrap_servers(self) -> str:
        """The `bootstrap.servers` for clients."""
        return self._proxy.servers

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._proxy.__exit__(None, None, None)
