"""The frames of a SMuRF streamer, sent through a real spt3g `G3NetworkSender`."""

import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spt3g import core

ALIVE_SECONDS = 1.0
"""Interval of a SMuRF streamer's ALIVE frames while it has no data."""
_POLL_SECONDS = 0.01
_DRAIN_TIMEOUT_SECONDS = 5.0
_LISTEN, _ESTABLISHED = "0A", "01"


class FlowControl(IntEnum):
    """The values of `sostream_flowcontrol`."""

    ALIVE = 0
    START = 1
    END = 2
    CLEANSE = 3


def scan_data(session: int, num: int, size: int) -> NDArray[np.int64]:
    """Return random data for a Scan frame, `size` bytes (rounded up to 8), reproducible from the arguments."""
    limits = np.iinfo(np.int64)
    return np.random.default_rng((session, num)).integers(limits.min, limits.max, math.ceil(size / 8), np.int64)


@dataclass(frozen=True, slots=True)
class _TcpSocket:
    """A TCP connection as the kernel lists it."""

    local: str
    remote: str
    state: str
    unacknowledged: int
    """Bytes not yet acknowledged by the peer."""
    inode: str


def _tcp_sockets() -> Iterator[_TcpSocket]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:  # the machine has no IPv6
            continue
        for line in lines:
            _, local, remote, state, queues, _, _, _, _, inode, *_ = line.split()
            yield _TcpSocket(local, remote, state, int(queues.partition(":")[0], 16), inode)


def _own_sockets() -> dict[str, int]:
    """Return the descriptors of this process's sockets, by inode."""
    found = {}
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:  # the listing's own descriptor
            continue
        if target.startswith("socket:["):
            found[target.removeprefix("socket:[").removesuffix("]")] = int(descriptor.name)
    return found


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let a signal end the process at once, where C++ blocks with the GIL and no Python handler could run."""
    previous = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@dataclass(slots=True)
class Streamer:
    """Sender of the frames of one stream. host: "*" to listen on the port, else it connects out to host:port."""

    host: str
    port: int
    stream_id: str
    _sender: Any = None
    _session: int | None = None
    _last_session: int = 0
    _num: int = 0
    _sent: list[int] = field(default_factory=list)

    def open(self) -> None:
        """Make the sender. Raises RuntimeError (spt3g's) if the port is in use, or nothing listens there."""
        with _interruptible():
            self._sender = core.G3NetworkSender(hostname=self.host, port=self.port)

    def connected(self) -> bool:
        """Whether a reader is connected: accepted by the sender, and not known to have disconnected."""
        return any(link.state == _ESTABLISHED for link in self._own_links())

    def wait(self, seconds: float) -> None:
        """Send ALIVE until a reader is connected. Raises TimeoutError after `seconds`."""
        deadline = time.monotonic() + seconds
        next_alive = 0.0
        while not self.connected():
            if (now := time.monotonic()) > deadline:
                raise TimeoutError(f"no reader in {seconds:g} s")
            if self.host != "*":
                try:
                    self._sender = None
                    self.open()
                    continue
                except RuntimeError:
                    time.sleep(0.2)  # nothing listens there yet, and no event would notify us
            elif now >= next_alive or self._pending():
                self.flow(FlowControl.ALIVE)
                next_alive = now + ALIVE_SECONDS
            else:
                time.sleep(_POLL_SECONDS)  # the kernel has no event for a connection in another socket's backlog

    def flow(self, value: FlowControl, kind: Any = core.G3FrameType.none) -> None:
        """Send a flow control frame."""
        frame = core.G3Frame(kind)
        frame["sostream_flowcontrol"] = int(value)
        if value is FlowControl.ALIVE:
            frame["time"] = core.G3Time.Now()
        self._process(frame)

    def observation(self, placement: str) -> None:
        """Send an Observation frame; placement: "start" or "end"."""
        frame = self._data_frame(core.G3FrameType.Observation)
        frame["stream_placement"] = placement
        self._process(frame)

    def wiring(self, *, dump: bool = True) -> None:
        """Send a Wiring frame with a short status. dump: mark it as the whole status, not a change."""
        frame = self._data_frame(core.G3FrameType.Wiring)
        frame["status"] = "AMCc.SmurfProcessor.SOStream.open_g3stream: 1\n"
        frame["dump"] = int(dump)
        self._process(frame)

    def scans(self, count: int, rate: float, size: int) -> None:
        """Send Scan frames with `size` bytes of data each, `rate` per second (0: as fast as possible)."""
        begun = time.monotonic()
        for number in range(count):
            if rate:
                time.sleep(max(0.0, begun + number / rate - time.monotonic()))
            frame = self._data_frame(core.G3FrameType.Scan)
            frame["data"] = core.G3VectorInt(scan_data(frame["session_id"], frame["frame_num"], size))
            self._process(frame)

    def start(self) -> None:
        """Begin a session: START."""
        self._session = None
        self.flow(FlowControl.START)

    def end(self) -> None:
        """End the session: END. The next data frame begins another, with or without START."""
        self.flow(FlowControl.END)
        self._session = None

    def pipelineinfo(self) -> None:
        """Send a PipelineInfo frame, as spt3g pipelines do at their start."""
        frame = core.G3Frame(core.G3FrameType.PipelineInfo)
        frame["simulator"] = core.G3PipelineInfo()
        self._process(frame)

    def close(self) -> bool:
        """Close the sender once its queues are written. Returns whether the reader's kernel acknowledged all."""
        links = [link for link in self._own_links() if link.state != _LISTEN]
        with _interruptible():
            # Its destructor writes the queues, however long the reader takes.
            self._sender = None
        # But it leaves the sockets that it accepted open: their readers would never see the end.
        left = _own_sockets()
        for link in links:
            if link.inode in left:
                os.close(left[link.inode])
        deadline = time.monotonic() + _DRAIN_TIMEOUT_SECONDS
        ends = {(link.local, link.remote) for link in links}
        while any(link.unacknowledged and (link.local, link.remote) in ends for link in _tcp_sockets()):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def take_sent(self) -> dict[str, int | None]:
        """Return what was sent since the last call: number of data frames, session, first and last frame_num."""
        sent, self._sent = self._sent, []
        first, last = (sent[0], sent[-1]) if sent else (None, None)
        session = self._last_session if sent else None
        return {"session": session, "first": first, "last": last, "frames": len(sent)}

    def _begun_session(self) -> int:
        """Return the session's id, beginning a session if there is none."""
        if self._session is None:
            self._last_session = self._session = max(int(time.time()), self._last_session + 1)
            self._num = 0
        return self._session

    def _next_num(self) -> tuple[int, int]:
        """Count the next data frame as sent. Returns its session and frame_num."""
        session, num = self._begun_session(), self._num
        self._sent.append(num)
        self._num += 1
        return session, num

    def _data_frame(self, kind: Any) -> Any:
        frame = core.G3Frame(kind)
        frame["time"] = core.G3Time.Now()
        frame["sostream_version"] = 2
        frame["sostream_id"] = self.stream_id
        frame["session_id"], frame["frame_num"] = self._next_num()
        return frame

    def _process(self, frame: Any) -> None:
        if self._sender is None:
            raise RuntimeError("not connected yet; `wait` first")
        self._sender.Process(frame)

    def _own_links(self) -> list[_TcpSocket]:
        own = _own_sockets()
        return [link for link in _tcp_sockets() if link.inode in own]

    def _pending(self) -> bool:
        """Whether a client waits to be accepted: its connection is established, but has no descriptor yet."""
        port = f":{self.port:04X}"
        return any(
            link.state == _ESTABLISHED and link.inode == "0" and link.local.endswith(port) for link in _tcp_sockets()
        )
