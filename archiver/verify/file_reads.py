"""Many files of an archive read to their ends, by several threads, with progress: what each of them holds."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from archiver.console.progress import Progress
from archiver.verify import tree_scan
from archiver.verify.checks import InspectedFile
from archiver.verify.tree_scan import FileEntry

_READERS = min(4, os.cpu_count() or 1)  # the digest of one file's block while another's frames are looked at
_PORTION_BYTES = 4 << 20
_PORTION_FILES = 100  # a job of its own for each takes longer than to read a small one
_PROGRESS_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class FileToRead:
    """A file to be read. carry: how many frames at its head are left out of its runs."""

    entry: FileEntry
    carry: int = 0


def read_files(root: Path, files: Mapping[str, Sequence[FileToRead]], progress: Progress) -> Iterator[InspectedFile]:
    """Read all of these, stream by stream; gives what was seen of each, in order, once it is read. files: by stream,
    "" for those of none. To be exhausted or closed: others read meanwhile."""
    stopping = threading.Event()
    with ThreadPoolExecutor(_READERS, "reader") as pool:
        try:
            pieces = []
            for stream, theirs in sorted(files.items()):
                done = _Total()
                looks = [
                    pool.submit(_inspect_files, root, stream, portion, stopping, done.add)
                    for portion in _batches(theirs)
                ]
                total = sum(file.entry.size_bytes for file in theirs)
                pieces.append((stream or "files of no stream", total, done, looks))
            for name, total, done, looks in pieces:
                progress.start(name, total)
                for look in looks:
                    while not wait([look], timeout=_PROGRESS_SECONDS).done:
                        progress.update(name, done.total, done.total)
                    yield from look.result()
                    progress.update(name, done.total, done.total)
                progress.finish(name)
        except BaseException:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _inspect_files(
    root: Path, stream: str, files: Sequence[FileToRead], stopping: threading.Event, passed: Callable[[int], None]
) -> list[InspectedFile]:
    return [_inspect(root, stream, file, stopping, passed) for file in files]


def _inspect(
    root: Path, stream: str, file: FileToRead, stopping: threading.Event, passed: Callable[[int], None]
) -> InspectedFile:
    entry = file.entry
    if entry.kind:
        return InspectedFile(stream, entry.path, None, entry.kind)
    try:
        return InspectedFile(
            stream, entry.path, tree_scan.read_contents(root, entry.path, file.carry, stopping, passed)
        )
    except OSError as error:
        return InspectedFile(stream, entry.path, None, error.strerror or str(error))


def _batches(files: Sequence[FileToRead]) -> Iterator[list[FileToRead]]:
    """What a thread reads at a time: one large file, or many small ones."""
    portion: list[FileToRead] = []
    size = 0
    for file in files:
        portion.append(file)
        size += file.entry.size_bytes
        if size >= _PORTION_BYTES or len(portion) >= _PORTION_FILES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


class _Total:
    """Adds up what several threads have read."""

    def __init__(self) -> None:
        self.total = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.total += count
