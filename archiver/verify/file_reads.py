"""Read the files of an archive, each once, with several threads, and report progress.

Others may have written them: memory is bounded whatever a file contains.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from archiver.console.progress import Progress
from archiver.storage.directory import Directory
from archiver.verify.checks import FileContents, InspectedFile, SessionRun
from archiver.verify.tree_scan import FileEntry
from g3stream.frames.layout import FRAME_TYPES, FrameFormatError, TruncatedFrameError
from g3stream.frames.scalars import integer
from g3stream.frames.scanner import FrameScanner
from g3stream.service.cancellation import CancellationToken

_READERS = min(4, os.cpu_count() or 1)  # one file's block is digested while another's frames are scanned
_PORTION_BYTES = 4 << 20
_PORTION_FILES = 100  # a task for each takes longer than reading a small file
_PROGRESS_SECONDS = 0.5
_BLOCK = 4 << 20
_MAX_RUNS = 100_000
"""Kept per file. A good file has a few; the limit bounds the memory for a hostile one."""
_SESSION, _NUM = b"session_id", b"frame_num"
_SELECTED_FIELDS = frozenset((_SESSION, _NUM))
_SCANS = frozenset({FRAME_TYPES["Scan"], FRAME_TYPES["Timepoint"]})


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
    cancellation = CancellationToken()
    with ThreadPoolExecutor(_READERS, "reader") as pool:
        try:
            jobs = []
            for stream, theirs in sorted(by_stream.items()):
                read: deque[int] = deque()  # the bytes of each block that a thread has read
                readings = [
                    pool.submit(_inspect_files, root, it, cancellation, read.append) for it in _batches(theirs)
                ]
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
            cancellation.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _inspect_files(
    root: Path, files: Sequence[FileToRead], cancellation: CancellationToken, on_read: Callable[[int], None]
) -> list[InspectedFile]:
    found = []
    for file in files:
        contents, why = None, file.entry.kind
        if not why:
            try:
                contents = read_contents(root, file.entry.path, file.carry, cancellation, on_read)
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


def read_contents(
    root: Path, path: str, carry: int, cancellation: CancellationToken, on_read: Callable[[int], None]
) -> FileContents:
    """Read a file.

    carry: number of frames at its head that are left out of the runs.
    on_read: called with each number of bytes read.
    Raises OSError, Cancelled.
    """
    parent, _, name = path.rpartition("/")
    with Directory(root, parent) as directory:
        if not directory.is_file(name):
            raise OSError("it is no longer a file")
        descriptor = directory.open(name, os.O_RDONLY)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        sha256 = hashlib.sha256()
        numbers = _FrameNumbers(carry)
        scanner = FrameScanner(size, _SELECTED_FIELDS)
        broken, cut = None, False
        left = size
        while left:
            cancellation.raise_if_cancelled(f"reading {path}")
            block = file.read(min(_BLOCK, left))
            if not block:
                raise OSError("it became shorter while it was read")
            left -= len(block)
            sha256.update(block)  # this releases the interpreter lock
            if broken is None:
                try:
                    for frame in scanner.scan(block):
                        numbers.add(frame.code, frame.blobs)
                    if not left:
                        scanner.finish()
                except FrameFormatError as error:
                    broken, cut = str(error), isinstance(error, TruncatedFrameError)
            on_read(len(block))
    return FileContents(size, sha256.hexdigest(), scanner.frames, tuple(numbers.runs), broken, cut)


class _FrameNumbers:
    """Collects the runs of a file's numbered frames."""

    def __init__(self, carry: int) -> None:
        self.runs: list[SessionRun] = []
        self._carry = carry

    def add(self, code: int, blobs: Mapping[bytes, bytes]) -> None:
        if self._carry:
            self._carry -= 1
            return
        session, num = (integer(blobs.get(name, b"")) for name in (_SESSION, _NUM))
        if session is None or num is None:
            return
        scans = code in _SCANS
        run = self.runs[-1] if self.runs else None
        if run and (session, num, scans) == (run.session, run.last + 1, run.scans):
            self.runs[-1] = SessionRun(session, run.first, num, scans)
        elif len(self.runs) < _MAX_RUNS:
            self.runs.append(SessionRun(session, num, num, scans))
