"""The SHA256SUMS of a directory of files: what `sha256sum -c` needs to prove them anywhere."""

import hashlib
import os
import re
import tempfile
from pathlib import Path

from archiver.layout import SUMS

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def add(directory: Path, name: str, sha256: str) -> None:
    """Give the file its line, and every other finished file that has none; durable when this returns.

    Lines of other files stay as they are.

    Other archivers may do the same here at the same time, and a rename may undo a line that another has just
    added: so the directory is listed again after each, until every file has its line. Raises OSError.
    """
    while True:
        sums = read(directory)
        lacking = [file for file in _files(directory) if file not in sums]
        if not lacking and sums.get(name) == sha256:
            return
        sums.update({file: digest(directory / file) for file in lacking if file != name})
        sums[name] = sha256
        _replace(directory, sums)


def read(directory: Path) -> dict[str, str]:
    """SHA-256 by file name; empty if there is no SHA256SUMS. Raises OSError."""
    try:
        text = (directory / SUMS).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return {}
    return {match[2]: match[1] for line in text.splitlines() if (match := _LINE.fullmatch(line))}


def digest(path: Path) -> str:
    """A file's SHA-256, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(directory: Path) -> list[str]:
    return [entry.name for entry in os.scandir(directory) if _is_file(entry)]


def _is_file(entry: os.DirEntry[str]) -> bool:
    # `sha256sum` escapes the names that can't stand in a line as they are; none of ours is one.
    name = entry.name
    return name.endswith(".g3") and name.isprintable() and "\\" not in name and entry.is_file()


def _replace(directory: Path, sums: dict[str, str]) -> None:
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(sums.items()))
    fd, temporary = tempfile.mkstemp(prefix=f".{SUMS}.", dir=directory)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(lines)
            file.flush()
            os.fchmod(fd, 0o644)
            os.fsync(fd)
        Path(temporary).rename(directory / SUMS)
    except OSError:
        Path(temporary).unlink()
        raise
    fsync_directory(directory)


def fsync_directory(directory: Path) -> None:
    """Make the directory's entries durable. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
