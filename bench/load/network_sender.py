"""A real spt3g G3NetworkSender. `python -m bench.load.network_sender PORT SIZE COUNT RATE`

Prints `ready` when it listens. Until a line comes on stdin it sends tiny frames, ten a second: a client is accepted
only while it sends. Then COUNT frames of SIZE (20kB, …), RATE a second (0: as fast as it goes). Prints `done` when
it has handed the last one over. When stdin is closed, it prints a line of JSON: `bytes`, of each frame, and `sent`,
when each of the COUNT was handed over, ns since the epoch; and ends.
"""

import json
import select
import sys
import time

from spt3g import core

from bench.load.frames import data_frame, serialized, size_in_bytes

_WARMING_SECONDS = 0.1


def main() -> None:
    """As the module says."""
    port, size, count, rate = int(sys.argv[1]), size_in_bytes(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    sender = core.G3NetworkSender(hostname="*", port=port)
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], _WARMING_SECONDS)[0]:
        sender.Process(data_frame(0, 0))
    sys.stdin.readline()
    sent = []
    # Unpaced, making frames would be what is measured: the same one again and again, serialized once.
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
