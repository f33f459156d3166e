"""Many files of an archive read to their ends, by several threads, with progress: what each of them holds."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from archiver.console.progress import Progress
from archiver.verify import tree_scan
from archiver.verify.checks import Seen
from archiver.verify.tree_scan import Entry

_READERS = min(4, os.cpu_count() or 1)  # the digest of one file's block while another's frames are looked at
_PORTION_BYTES = 4 << 20
_PORTION_FILES = 100  # a job of its own for each takes longer than to read a small one
_PROGRESS_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Unread:
    """A file to be read. carry: how many frames at its head are left out of its runs."""

    entry: Entry
    carry: int = 0


def read_files(root: Path, files: Mapping[str, Sequence[Unread]], progress: Progress) -> Iterator[Seen]:
    """Read all of these, stream by stream; gives what was seen of each, in order, once it is read. files: by stream,
    "" for those of none. To be exhausted or closed: others read meanwhile."""
    stopping = threading.Event()
    with ThreadPoolExecutor(_READERS, "reader") as pool:
        try:
            pieces = []
            for stream, theirs in sorted(files.items()):
                done = _Sum()
                looks = [
                    pool.submit(_look_at, root, stream, portion, stopping, done.add) for portion in _portions(theirs)
                ]
                total = sum(file.entry.bytes for file in theirs)
                pieces.append((stream or "files of no stream", total, done, looks))
            for name, total, done, looks in pieces:
                progress.begin(name, total)
                for look in looks:
                    while not wait([look], timeout=_PROGRESS_SECONDS).done:
                        progress.at(name, done.total, done.total)
                    yield from look.result()
                    progress.at(name, done.total, done.total)
                progress.end(name)
        except BaseException:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _look_at(
    root: Path, stream: str, files: Sequence[Unread], stopping: threading.Event, passed: Callable[[int], None]
) -> list[Seen]:
    return [_look(root, stream, file, stopping, passed) for file in files]


def _look(root: Path, stream: str, file: Unread, stopping: threading.Event, passed: Callable[[int], None]) -> Seen:
    entry = file.entry
    if entry.what:
        return Seen(stream, entry.path, None, entry.what)
    try:
        return Seen(stream, entry.path, tree_scan.contents(root, entry.path, file.carry, stopping, passed))
    except OSError as error:
        return Seen(stream, entry.path, None, error.strerror or str(error))


def _portions(files: Sequence[Unread]) -> Iterator[list[Unread]]:
    """What a thread reads at a time: one large file, or many small ones."""
    portion: list[Unread] = []
    size = 0
    for file in files:
        portion.append(file)
        size += file.entry.bytes
        if size >= _PORTION_BYTES or len(portion) >= _PORTION_FILES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


class _Sum:
    """Adds up what several threads have read."""

    def __init__(self) -> None:
        self.total = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.total += count
