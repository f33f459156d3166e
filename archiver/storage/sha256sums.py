"""The SHA256SUMS of a directory: what `sha256sum -c` needs to verify its files anywhere.

Its lines are sorted by name, so that two archives of the same records have the same SHA256SUMS. A new line is nearly
always the last one, and is appended; only if it belongs between others, or replaces a wrong one, the whole file is
replaced. Others may put a file of any content and size in its place: adding a line takes bounded time and memory, or
is refused.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
import time
from enum import Enum

from archiver.core.paths import SUMS
from archiver.storage.directory import Directory
from g3stream.service.cancellation import CancellationToken

MAX_BYTES = 64 << 20
"""Of a SHA256SUMS that is read: 600,000 files. To a larger one lines are appended without reading it."""

_LONGEST_LINE = 400  # a name has 255 bytes at most, the two directories before it 71
_LINE = re.compile(rb"([0-9a-f]{64}) [ *](.+)", re.DOTALL)
_ATTEMPTS = 100  # each fails if others replace the file at the same time
_LOCK_SECONDS = 5.0
_NOT_OURS_TO_WRITE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.EISDIR)


class ChecksumsUnusable(Exception):
    """No line can be added to SHA256SUMS, until somebody changes that; the message says why."""


class _Line(Enum):
    """The place of a file's line in a SHA256SUMS."""

    RIGHT = "its line is there"
    LAST = "no line; its place is after all others"
    ELSEWHERE = "no line, or a wrong one; its place is between others"


def add(directory: Directory, name: str, sha256: str, private: Directory, sums: str = SUMS) -> None:
    """Add a file's line, durable when this returns. Other files' lines are not changed.

    name: as in the line. private: where a SHA256SUMS is written that will replace the old one. sums: its name in
    `directory`. May be repeated: an existing line isn't added again. Raises ChecksumsUnusable, OSError (try again).
    """
    line = f"{sha256}  {name}".encode(errors="surrogateescape")
    for _ in range(_ATTEMPTS):
        fd = _open(directory, sums)
        try:
            _lock(fd)
            found = os.fstat(fd)
            if not _is_there(directory, sums, found):
                continue
            text, is_whole = _contents(fd, found.st_size)
            match _place(text, line) if is_whole else _Line.LAST:
                case _Line.RIGHT:
                    os.fsync(fd)
                case _Line.LAST:
                    _append(fd, text, line, sums)
                case _Line.ELSEWHERE:
                    directory.replace_file(sums, _with_line(text, line), scratch=private, prefix=SUMS)
                    return
        finally:
            os.close(fd)
        if not found.st_size:
            directory.sync()  # it is new
        if _is_there(directory, sums, found):
            return
    raise OSError(errno.EBUSY, "another program keeps replacing it", str(directory.path / sums))


def read(directory: Directory, sums: str = SUMS) -> tuple[dict[str, str], bool]:
    """Read a SHA256SUMS, as `parse` returns it; empty if there is none. Raises OSError, also if it is too large."""
    found = directory.stat(sums)
    if found and found.st_size > MAX_BYTES:
        raise OSError(f"it has {found.st_size} bytes, more than {MAX_BYTES}")
    return parse(directory.read(sums, MAX_BYTES) if found else b"")


def parse(text: bytes) -> tuple[dict[str, str], bool]:
    """Parse a SHA256SUMS: the SHA-256 of each name, and whether it contains nothing else. Pure."""
    lines = [line for line in text.split(b"\n") if line]
    matches = [_LINE.fullmatch(line) for line in lines if len(line) <= _LONGEST_LINE]
    found = {match[2].decode(errors="surrogateescape"): match[1].decode() for match in matches if match}
    return found, len(found) == len(lines)


def digest(directory: Directory, name: str, cancellation: CancellationToken) -> str:
    """Compute a file's SHA-256, in hex. Raises OSError, Cancelled."""
    sha256 = hashlib.sha256()
    for block in directory.blocks(name):
        cancellation.raise_if_cancelled(f"reading {name}")
        sha256.update(block)
    return sha256.hexdigest()


def has_content(directory: Directory, name: str, length: int, sha256: str, cancellation: CancellationToken) -> bool:
    """Whether that is a regular file with this content; it is read only if its length is right.

    Raises OSError, Cancelled.
    """
    found = directory.stat(name)
    if found is None or not stat.S_ISREG(found.st_mode) or found.st_size != length:
        return False
    return digest(directory, name, cancellation) == sha256


def _open(directory: Directory, sums: str) -> int:
    """Open the SHA256SUMS, created if missing. Raises ChecksumsUnusable, OSError."""
    try:
        fd = directory.open(sums, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    except OSError as error:
        if error.errno in _NOT_OURS_TO_WRITE:
            raise ChecksumsUnusable(str(error)) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ChecksumsUnusable(f"{directory.path / sums} is not a regular file")
    return fd


def _lock(fd: int) -> None:
    """Lock it against other archivers until it is closed: replacing it would drop a line that is being appended.

    Returns without the lock where there are no locks, or after a while: no archiver holds it for long.
    """
    until = time.monotonic() + _LOCK_SECONDS
    with contextlib.suppress(OSError):  # there are no locks
        while time.monotonic() < until:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.005)


def _is_there(directory: Directory, sums: str, found: os.stat_result) -> bool:
    """Whether the open file still is the directory's SHA256SUMS, not a replaced one. Raises OSError."""
    now = directory.stat(sums)
    return now is not None and os.path.samestat(now, found)


def _contents(fd: int, size: int) -> tuple[bytes, bool]:
    """Read all of it; if it is too large, only its last bytes, and return False, too. Raises OSError."""
    with os.fdopen(fd, "rb", closefd=False) as file:
        if size <= MAX_BYTES and len(text := file.read(MAX_BYTES + 1)) <= MAX_BYTES:
            return text, True
        file.seek(-_LONGEST_LINE, os.SEEK_END)
        return file.read(_LONGEST_LINE), False


def _place(text: bytes, line: bytes) -> _Line:
    """Find where a line is, or belongs. Pure; it doesn't visit every line, as there may be 100,000."""
    name = _name(line)
    at = len(text)
    lines = 0
    ending = name + b"\n"
    while (at := text.rfind(ending, 0, at)) >= 0:
        begin = text.rfind(b"\n", 0, at) + 1
        if at - begin == 66 and _LINE.fullmatch(text, begin, at + len(name)):
            lines += 1
            if text[begin : begin + 64] != line[:64]:
                return _Line.ELSEWHERE
    if lines:
        return _Line.RIGHT
    last = text[-_LONGEST_LINE:].rstrip(b"\n").rpartition(b"\n")[2]
    return _Line.LAST if not _LINE.fullmatch(last) or _name(last) < name else _Line.ELSEWHERE


def _name(line: bytes) -> bytes:
    return line[66:]


def _append(fd: int, text: bytes, line: bytes, sums: str) -> None:
    """Append the line in one write; text: what is there, or its end. Raises OSError."""
    # Cut off by a full disk or a kill; or a last line without its line end.
    torn = text.rpartition(b"\n")[2]
    rest = line[len(torn) :] if line.startswith(torn) else b"\n" + line
    data = rest + b"\n"
    if os.write(fd, data) < len(data):
        raise OSError(errno.ENOSPC, "only a part of a line could be written", sums)
    os.fsync(fd)


def _with_line(text: bytes, line: bytes) -> bytes:
    """The text with that line in its place, and no other line of its file. Pure."""
    name = _name(line)
    lines = text.removesuffix(b"\n").split(b"\n") if text else []
    kept = [old for old in lines if not (_LINE.fullmatch(old) and _name(old) == name)]
    at = next((at for at, old in enumerate(kept) if _LINE.fullmatch(old) and _name(old) > name), len(kept))
    kept.insert(at, line)
    return b"\n".join(kept) + b"\n"
