"""A watcher of the growing files of many streams. `python -m bench.measure.streams_watcher DATA_DIR STREAM...`

DATA_DIR/.archiver/STREAM is made if missing. It prints `ready`; then for any line on stdin `alive N`, the number of
streams that have been written to. When stdin is closed, it prints a line of JSON: for each stream, for each of its
files in the order of their names, [[when, size], ...] for each growth beyond the largest size so far, ns since the
epoch and bytes. The kernel reports each write (inotify), so that watching takes no CPU from the watched programs.
A file that is continued in another partial, after a kill, is the same file.
"""

import ctypes
import json
import os
import select
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

from archiver.core.paths import PRIVATE_DIRECTORY, PartialName

_IN_MODIFY = 2
_EVENT = struct.Struct("iIII")
_EVENT_BYTES = 1 << 16
_Grown = list[tuple[int, int]]


class Watcher:
    """Watches all streams. root: the data directory."""

    def __init__(self, root: Path, streams: list[str]) -> None:
        self.grown: dict[str, dict[str, _Grown]] = {stream: {} for stream in streams}
        self._directories: dict[int, tuple[str, Path]] = {}
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK)
        for stream in streams:
            directory = root / PRIVATE_DIRECTORY / stream
            directory.mkdir(parents=True, exist_ok=True)
            watch = libc.inotify_add_watch(self.fd, os.fsencode(directory), _IN_MODIFY)
            if watch < 0:
                raise OSError(ctypes.get_errno(), f"can't watch {directory}")
            self._directories[watch] = stream, directory

    def read_events(self) -> None:
        """Read the kernel's events and the sizes of the files that have changed."""
        events = os.read(self.fd, _EVENT_BYTES)
        now = time.time_ns()
        changed = set()
        at = 0
        while at < len(events):
            watch, _, _, length = _EVENT.unpack_from(events, at)
            at += _EVENT.size + length
            changed.add((watch, events[at - length : at].rstrip(b"\0").decode()))
        for watch, name in changed:
            stream, directory = self._directories[watch]
            if partial := PartialName.parse(name):
                grown = self.grown[stream].setdefault(partial.path, [])
                with suppress(FileNotFoundError):  # already finished
                    size = (directory / name).stat().st_size
                    if size > (grown[-1][1] if grown else 0):
                        grown.append((now, size))


def main() -> None:
    """Watch the streams and report their growth."""
    watcher = Watcher(Path(sys.argv[1]), sys.argv[2:])
    print("ready", flush=True)
    waiting = select.poll()
    waiting.register(watcher.fd, select.POLLIN)
    waiting.register(sys.stdin, select.POLLIN | select.POLLHUP)
    while True:
        ready = [fd for fd, _ in waiting.poll()]
        if watcher.fd in ready:
            watcher.read_events()
        if sys.stdin.fileno() in ready:
            if not sys.stdin.readline():
                break
            print(f"alive {sum(map(bool, watcher.grown.values()))}", flush=True)
    found = {stream: [grown for _, grown in sorted(files.items())] for stream, files in watcher.grown.items()}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
