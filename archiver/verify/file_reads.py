"""Read many files of an archive with several threads, and report progress."""

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

_READERS = min(4, os.cpu_count() or 1)  # one file's block is digested while another's frames are scanned
_PORTION_BYTES = 4 << 20
_PORTION_FILES = 100  # a task for each takes longer than reading a small file
_PROGRESS_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class FileToRead:
    """A file to be read."""

    entry: FileEntry
    carry: int = 0
    """Frames at its head that are left out of its runs."""


def read_files(root: Path, files: Mapping[str, Sequence[FileToRead]], progress: Progress) -> Iterator[InspectedFile]:
    """Read files stream by stream, and yield each in order once it is read.

    Must be exhausted or closed, as threads read ahead.
    files: by stream; "" for files of no stream.
    """
    stopping = threading.Event()
    with ThreadPoolExecutor(_READERS, "reader") as pool:
        try:
            jobs = []
            for stream, theirs in sorted(files.items()):
                done = _Total()
                readings = [
                    pool.submit(_inspect_files, root, stream, portion, stopping, done.add)
                    for portion in _batches(theirs)
                ]
                total = sum(file.entry.size_bytes for file in theirs)
                jobs.append((stream or "files of no stream", total, done, readings))
            for name, total, done, readings in jobs:
                progress.start(name, total)
                for reading in readings:
                    while not wait([reading], timeout=_PROGRESS_SECONDS).done:
                        progress.update(name, done.total, done.total)
                    yield from reading.result()
                    progress.update(name, done.total, done.total)
                progress.finish(name)
        except BaseException:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _inspect_files(
    root: Path, stream: str, files: Sequence[FileToRead], stopping: threading.Event, on_read: Callable[[int], None]
) -> list[InspectedFile]:
    return [_inspect(root, stream, file, stopping, on_read) for file in files]


def _inspect(
    root: Path, stream: str, file: FileToRead, stopping: threading.Event, on_read: Callable[[int], None]
) -> InspectedFile:
    entry = file.entry
    if entry.kind:
        return InspectedFile(stream, entry.path, None, entry.kind)
    try:
        return InspectedFile(
            stream, entry.path, tree_scan.read_contents(root, entry.path, file.carry, stopping, on_read)
        )
    except OSError as error:
        return InspectedFile(stream, entry.path, None, error.strerror or str(error))


def _batches(files: Sequence[FileToRead]) -> Iterator[list[FileToRead]]:
    """Split files into the tasks of a thread: one large file, or many small ones."""
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
    """Bytes that several threads have read. Thread-safe."""

    def __init__(self) -> None:
        self.total = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.total += count
