"""Read many files of an archive with several threads, and report progress."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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

    stream: str
    """Empty for a file of no stream."""
    entry: FileEntry
    carry: int = 0
    """Frames at its head that are left out of its runs."""


def read_files(root: Path, files: Iterable[FileToRead], progress: Progress) -> Iterator[InspectedFile]:
    """Read files stream by stream, and yield each in order once it is read.

    Must be exhausted or closed, as threads read ahead.
    """
    by_stream: dict[str, list[FileToRead]] = {}
    for file in files:
        by_stream.setdefault(file.stream, []).append(file)
    stopping = threading.Event()
    with ThreadPoolExecutor(_READERS, "reader") as pool:
        try:
            jobs = []
            for stream, theirs in sorted(by_stream.items()):
                read: deque[int] = deque()  # the bytes of each block that a thread has read
                readings = [pool.submit(_inspect_files, root, it, stopping, read.append) for it in _batches(theirs)]
                jobs.append(
                    (stream or "files of no stream", sum(it.entry.size_bytes for it in theirs), read, readings)
                )
            for name, total, read, readings in jobs:
                progress.start(name, total)
                done = 0
                for reading in readings:
                    is_read = False
                    while not is_read:
                        is_read = bool(wait([reading], timeout=_PROGRESS_SECONDS).done)
                        done += sum(read.popleft() for _ in range(len(read)))
                        progress.update(name, done, done)
                    yield from reading.result()
                progress.finish(name)
        except BaseException:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _inspect_files(
    root: Path, files: Sequence[FileToRead], stopping: threading.Event, on_read: Callable[[int], None]
) -> list[InspectedFile]:
    found = []
    for file in files:
        contents, why = None, file.entry.kind
        if not why:
            try:
                contents = tree_scan.read_contents(root, file.entry.path, file.carry, stopping, on_read)
            except OSError as error:
                why = error.strerror or str(error)
        found.append(InspectedFile(file.stream, file.entry.path, contents, why))
    return found


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
