"""Many streams at their own pace, from one process. `python -m bench.load.streams_sender PREFIX COUNT SIZE RATE`

Listens on a port for each of the streams PREFIX000, PREFIX001, …, and prints a line of JSON: the port of each. Who
connects is sent START, and then frames with SIZE bytes of data, RATE a second; the streams' turns are spread evenly
over the time between two frames. Prints `connected` when each stream has its reader. On the line `end` all send
END, and no more frames; prints `ended`. When stdin is closed, it prints a line of JSON, and ends: of each stream
`bytes`, of each frame, and `sent`, when each was handed to the kernel, ns since the epoch. A reader that comes a
second time is refused: whose frames those were could not be told.
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
    phase: float  # of the time between two frames
    sent: list[int] = field(default_factory=list)


class _Sender:
    """All streams. period: s between two frames of one."""

    def __init__(self, streams: list[_Stream], period: float) -> None:
        self._streams = streams
        self._period = period
        self._begun = time.monotonic()
        self._connected = 0
        self._over = asyncio.Event()
        self._kept: list[socket.socket] = []

    async def run(self) -> None:
        """Until stdin is closed."""
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
        """One reader, until `_over`. The connection stays open then: that it is lost would be another end."""
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
    """As the module says."""
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
