"""Sees a file grow. `python -m bench.measure.watcher FILE`

Prints `ready`; when stdin is closed, a line of JSON: [[when, size], …] for each growth seen, ns since the epoch and
bytes. The kernel tells of each write (inotify), so that looking takes no CPU from whom it looks at.
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
    """As the module says."""
    libc = ctypes.CDLL(None, use_errno=True)
    file = os.open(sys.argv[1], os.O_RDONLY)
    told = libc.inotify_init1(os.O_NONBLOCK)
    # By its descriptor's name: the file may have been given another one meanwhile.
    if libc.inotify_add_watch(told, f"/proc/self/fd/{file}".encode(), _IN_MODIFY) < 0:
        raise OSError(ctypes.get_errno(), f"can't watch {sys.argv[1]}")
    grown = []
    print("ready", flush=True)
    waiting = select.poll()
    waiting.register(told, select.POLLIN)
    waiting.register(sys.stdin, select.POLLIN | select.POLLHUP)
    while True:
        happened = [fd for fd, _ in waiting.poll()]
        if told in happened:
            os.read(told, _EVENT_BYTES)
            grown.append((time.time_ns(), os.fstat(file).st_size))
        else:
            break
    print(json.dumps(grown), flush=True)


if __name__ == "__main__":
    main()
