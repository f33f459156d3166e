"""Read the files of an archive, each once, with several threads, and report progress.

Others may have written them: memory is bounded whatever a file contains.
"""

import hashlib
import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

from archiver.console.progress import Progress
from archiver.core.catalog import carry_count
from archiver.storage.directory import Directory
from archiver.verify.checks import FileContents, InspectedFile, SessionRun
from archiver.verify.inventory import Inventory
from archiver.verify.tree_scan import FileEntry
from g3stream.frame_format.layout import FRAME_TYPES, FrameFormatError, TruncatedFrameError
from g3stream.frame_format.reader import FrameScanner, ScannedFrame
from g3stream.frame_format.scalars import integer
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


def read_files(inventory: Inventory, entries: Iterable[FileEntry], progress: Progress) -> Iterator[InspectedFile]:
    """Read files stream by stream, and yield each in order once it is read.

    Must be exhausted or closed, as threads read ahead.
    """
    by_stream: dict[str, list[FileEntry]] = defaultdict(list)
    for entry in entries:
        by_stream[inventory.stream_of(entry.path)].append(entry)
    cancellation = CancellationToken()
    with ThreadPoolExecutor(_READERS, "reader") as pool:
        try:
            jobs = []
            for stream, theirs in sorted(by_stream.items()):
                read: deque[int] = deque()  # the bytes of each block that a thread has read
                inspect = partial(_inspect_files, inventory, cancellation=cancellation, on_read=read.append)
                readings = [pool.submit(inspect, portion) for portion in _portions(theirs)]
                jobs.append((stream or "files of no stream", sum(it.size_bytes for it in theirs), read, readings))
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
    inventory: Inventory,
    entries: Sequence[FileEntry],
    cancellation: CancellationToken,
    on_read: Callable[[int], None],
) -> list[InspectedFile]:
    found = []
    for path, why in ((entry.path, entry.kind) for entry in entries):
        contents, carry = None, carry_count(inventory.file_events.get(path))
        if not why:
            try:
                contents = read_contents(inventory.location.data_dir, path, carry, cancellation, on_read)
            except OSError as error:
                why = error.strerror or str(error)
        found.append(InspectedFile(inventory.stream_of(path), path, contents, why))
    return found


def _portions(entries: Iterable[FileEntry]) -> Iterator[list[FileEntry]]:
    """Split files into the tasks of a thread: one large file, or many small ones."""
    portion: list[FileEntry] = []
    size = 0
    for entry in entries:
        portion.append(entry)
        size += entry.size_bytes
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
        runs: list[SessionRun] = []
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
                        if scanner.frames > carry:
                            _add_frame(runs, frame)
                    if not left:
                        scanner.finish()
                except FrameFormatError as error:
                    broken, cut = str(error), isinstance(error, TruncatedFrameError)
            on_read(len(block))
    return FileContents(size, sha256.hexdigest(), scanner.frames, tuple(runs), broken, cut)


def _add_frame(runs: list[SessionRun], frame: ScannedFrame) -> None:
    """Continue the last run with a frame, or begin another; frames without numbers are left out."""
    session, num = (integer(frame.blobs.get(name, b"")) for name in (_SESSION, _NUM))
    if session is None or num is None:
        return
    scans = frame.code in _SCANS
    run = runs[-1] if runs else None
    if run and (session, num, scans) == (run.session, run.last + 1, run.scans):
        runs[-1] = SessionRun(session, run.first, num, scans)
    elif len(runs) < _MAX_RUNS:
        runs.append(SessionRun(session, num, num, scans))
