"""A sender that takes no CPU: it sends prepared bytes. `python -m bench.load.sender FILE FIRST TIMES`

It prepares the frames of FILE TIMES times, numbered as a streamer does. It prints its port, accepts one client and
sends it the bytes of FIRST. Each line on stdin is a number: it then sends FILE's frames that many times, the prepared
ones if the number is TIMES, else made on the fly. It disconnects when stdin is closed.
"""

import socket
import sys
from itertools import count
from pathlib import Path

from spt3g import core

from bench.load.frames import serialized
from testbed.frames import decode_frames

_NUMBER = "frame_num"


class _Numbered:
    """The same frames repeatedly, each with the next number."""

    def __init__(self, unit: bytes) -> None:
        self._frames = []
        for data in decode_frames(unit):
            frame = core.G3Frame()
            frame._cereal_loads(data)
            self._frames.append(frame)
        self._numbers = count(1)

    def times(self, times: int) -> bytearray:
        """Return all of them, `times` times."""
        made = bytearray()
        for _ in range(times):
            for frame in self._frames:
                del frame[_NUMBER]
                frame[_NUMBER] = next(self._numbers)
                made += serialized(frame)
        return made


def main() -> None:
    """Prepare the frames, accept a client, and send what stdin requests."""
    frames = _Numbered(Path(sys.argv[1]).read_bytes())
    first = Path(sys.argv[2]).read_bytes()
    expected = int(sys.argv[3])
    ready: bytearray | None = frames.times(expected)
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        client, _ = server.accept()
        with client:
            client.sendall(first)
            for line in sys.stdin:
                times = int(line)
                if ready is not None and times == expected:
                    client.sendall(ready)
                    ready, times = None, 0
                for _ in range(times):  # one by one: together they may exceed the memory
                    client.sendall(frames.times(1))


if __name__ == "__main__":
    main()
