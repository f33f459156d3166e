"""A sender that costs nothing: ready bytes into a socket. `python -m bench.load.sender FILE FIRST TIMES`

Numbers the frames of FILE as a streamer would, TIMES times over, and keeps them ready. Prints its port, takes one
client, sends it the bytes of FIRST; then for each line from stdin, a number, the next so many times of FILE's frames:
the ready ones if it is TIMES, else made meanwhile. It closes when stdin does.
"""

import socket
import sys
from itertools import count
from pathlib import Path

from spt3g import core

from bench.load.frames import serialized
from g3stream.frames.decoder import decode_frames

_NUMBER = "frame_num"


class _Numbered:
    """Frames, again and again, each with the next number."""

    def __init__(self, unit: bytes) -> None:
        self._frames = []
        for data in decode_frames(unit):
            frame = core.G3Frame()
            frame._cereal_loads(data)
            self._frames.append(frame)
        self._numbers = count(1)

    def times(self, times: int) -> bytearray:
        """So many times all of them."""
        made = bytearray()
        for _ in range(times):
            for frame in self._frames:
                del frame[_NUMBER]
                frame[_NUMBER] = next(self._numbers)
                made += serialized(frame)
        return made


def main() -> None:
    """As the module says."""
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
                for _ in range(times):  # not all at once: they may be more than the memory
                    client.sendall(frames.times(1))


if __name__ == "__main__":
    main()
