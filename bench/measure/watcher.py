"""A watcher of a growing file. `python -m bench.measure.watcher FILE`

It prints `ready`; when stdin is closed, a line of JSON: [[when, size], …] for each growth, ns since the epoch and
bytes. The kernel reports each write (inotify), so that watching takes no CPU from the watched program.
"""

import ctypes
import json
import os
import select
import sys
import time

_IN_MODIFY = 2
_EVENT_BYTES = 1 << 16


def main() -> None:
    """Watch the file and report its growth."""
    libc = ctypes.CDLL(None, use_errno=True)
    file = os.open(sys.argv[1], os.O_RDONLY)
    events = libc.inotify_init1(os.O_NONBLOCK)
    # By its descriptor: the file may have been renamed.
    if libc.inotify_add_watch(events, f"/proc/self/fd/{file}".encode(), _IN_MODIFY) < 0:
        raise OSError(ctypes.get_errno(), f"can't watch {sys.argv[1]}")
    grown = []
    print("ready", flush=True)
    waiting = select.poll()
    waiting.register(events, select.POLLIN)
    waiting.register(sys.stdin, select.POLLIN | select.POLLHUP)
    while True:
        ready = [fd for fd, _ in waiting.poll()]
        if events in ready:
            os.read(events, _EVENT_BYTES)
            grown.append((time.time_ns(), os.fstat(file).st_size))
        else:
            break
    print(json.dumps(grown), flush=True)


if __name__ == "__main__":
    main()
