"""A sender of many live streams. `python -m bench.load.streams_sender PREFIX COUNT SIZE RATE`

It listens on a port for each of the streams PREFIX000, PREFIX001, …, and prints the ports as a line of JSON. A client
gets START, then frames with SIZE bytes of data, RATE per second; the streams' frames are spread evenly over the time
between two frames. It prints `connected` when each stream has a reader. On the line `end` all streams send END and no
more frames, and it prints `ended`. When stdin is closed, it prints a line of JSON and ends: for each stream `bytes`,
the size of a frame, and `sent`, when each was handed to the kernel, ns since the epoch. A reader that reconnects is
refused, because the frames couldn't be assigned to a reader.
"""

import asyncio
import json
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field

from bench.load.frames import flow_control
from bench.load.numbered import Numbered
from ingest.receive.frame_info import FlowControl

_BACKLOG_BYTES = 1 << 20


@dataclass(slots=True)
class _Stream:
    name: str
    frames: Numbered
    server: socket.socket
    phase: float
    """Its delay, as a fraction of the time between two frames."""
    sent: list[int] = field(default_factory=list)


class _Sender:
    """The sender of all streams. period: between two frames of a stream, s."""

    def __init__(self, streams: list[_Stream], period: float) -> None:
        self._streams = streams
        self._period = period
        self._begun = time.monotonic()
        self._connected = 0
        self._over = asyncio.Event()
        self._kept: list[socket.socket] = []

    async def run(self) -> None:
        """Send until stdin is closed."""
        stdin = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
        serving = [asyncio.create_task(self._serve(stream)) for stream in self._streams]
        while await stdin.readline():
            self._over.set()
            await asyncio.gather(*serving)
            print("ended", flush=True)
        for task in serving:
            task.cancel()

    async def _serve(self, stream: _Stream) -> None:
        """Serve one reader until `_over`. The connection then stays open: a disconnect would be another end."""
        loop = asyncio.get_running_loop()
        client, _ = await loop.sock_accept(stream.server)
        stream.server.close()
        self._connected += 1
        if self._connected == len(self._streams):
            print("connected", flush=True)
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BACKLOG_BYTES)
        await loop.sock_sendall(client, flow_control(FlowControl.START))
        turn = (time.monotonic() - self._begun) // self._period + 1
        while not self._over.is_set():
            due = self._begun + (turn + stream.phase) * self._period
            if (wait := due - time.monotonic()) > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), wait)
                    break
            await loop.sock_sendall(client, stream.frames.frame(len(stream.sent)))
            stream.sent.append(time.time_ns())
            turn += 1
        await loop.sock_sendall(client, flow_control(FlowControl.END))
        self._kept.append(client)


def main() -> None:
    """Serve all streams and report what was sent."""
    prefix, count, size, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    streams = []
    for number in range(count):
        name = f"{prefix}{number:03d}"
        server = socket.create_server(("127.0.0.1", 0))
        server.setblocking(False)
        streams.append(_Stream(name, Numbered(name, size), server, number / count))
    print(json.dumps({stream.name: stream.server.getsockname()[1] for stream in streams}), flush=True)
    with suppress(asyncio.CancelledError):
        asyncio.run(_Sender(streams, 1 / rate).run())
    found = {stream.name: {"bytes": stream.frames.length, "sent": stream.sent} for stream in streams}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
