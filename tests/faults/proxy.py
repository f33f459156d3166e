"""A TCP proxy that breaks what passes through it: connections cut, or stalled, and let through again."""

import select
import socket
import threading
from types import TracebackType
from typing import Self

from compose.tether import HOST

_BYTES = 1 << 16
_RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER with 0 s: closing sends RST, as a host that vanished and came back does


class Proxy:
    """Passes connections to `port` of this host through to `target`, in a thread of its own.

    port: where it listens (0: a free one). It is for one broker that advertises this port.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self._target = target
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
        """What clients take as `bootstrap.servers`."""
        return f"{HOST}:{self.port}"

    def cut(self) -> int:
        """Reset all connections there are; new ones are let through. Gives how many."""
        with self._lock:
            ends = list(self._peers)
            self._peers.clear()
            for end in ends:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.close()
        self._waker.send(b".")
        return len(ends) // 2

    def stall(self) -> None:
        """Pass nothing on until `flow`: packets get lost, nobody is told."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass on again, what has piled up first."""
        self._flowing.set()
        self._waker.send(b".")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self.flow()
        self._thread.join()
        self.cut()
        for end in (self._listener, self._waker, self._woken):
            end.close()

    def _run(self) -> None:
        while not self._closed:
            self._flowing.wait()
            with self._lock:
                ends = [self._woken, self._listener, *self._peers]
            try:
                readable = select.select(ends, [], [])[0]
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

    def _pass_on(self, end: socket.socket) -> None:
        peer = self._peers.get(end)
        if peer is None:
            return
        try:
            data = end.recv(_BYTES)
            peer.sendall(data)
        except OSError:
            data = b""
        if not data:
            with self._lock:
                self._peers.pop(end, None)
                self._peers.pop(peer, None)
                end.close()
                peer.close()
