"""A real spt3g G3NetworkSender. `python -m bench.load.network_sender PORT SIZE COUNT RATE`

It prints `ready` when it listens. Until it reads a line from stdin it sends ten tiny frames per second, because a
client is accepted only while it sends. Then it sends COUNT frames of SIZE (20kB, …), RATE per second (0: as fast as
possible), and prints `done` when spt3g has the last one. When stdin is closed, it prints a line of JSON and ends:
`bytes`, the size of a frame, and `sent`, when spt3g got each of the COUNT frames, ns since the epoch.
"""

import json
import select
import sys
import time

from spt3g import core

from bench.load.frames import data_frame, serialized, size_in_bytes

_WARMING_SECONDS = 0.1


def main() -> None:
    """Send the frames and report them."""
    port, size, count, rate = int(sys.argv[1]), size_in_bytes(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    sender = core.G3NetworkSender(hostname="*", port=port)
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], _WARMING_SECONDS)[0]:
        sender.Process(data_frame(0, 0))
    sys.stdin.readline()
    sent = []
    # Without pauses, making the frames would dominate: so the same one is sent repeatedly, serialized once.
    frame = data_frame(size, 0)
    begun = time.monotonic()
    for number in range(count):
        if rate:
            frame = data_frame(size, number)
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        sent.append(time.time_ns())
        sender.Process(frame)
    print("done", flush=True)
    sys.stdin.read()
    print(json.dumps({"bytes": len(serialized(frame)), "sent": sent}), flush=True)


if __name__ == "__main__":
    main()
