"""The SHA256SUMS of a directory of files: what `sha256sum -c` needs to prove them anywhere."""

import hashlib
import os
import re
import secrets

from archiver.abandoned import Abandoned
from archiver.directory import Directory
from archiver.layout import SUMS

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def add(directory: Directory, name: str, sha256: str, private: Directory, abandoned: Abandoned) -> None:
    """Give the file its line, and every other finished file that has none; durable when this returns.

    Lines of other files stay as they are. private: where the new SHA256SUMS is written.

    Other archivers may do the same here at the same time, and a rename may undo a line that another has just
    added: so the directory is listed again after each, until every file has its line. Raises OSError,
    AbandonedError.
    """
    while True:
        sums = read(directory)
        lacking = [file for file in directory.names() if file not in sums and _is_ours(directory, file)]
        if not lacking and sums.get(name) == sha256:
            return
        sums.update({file: digest(directory, file, abandoned) for file in lacking if file != name})
        sums[name] = sha256
        _replace(directory, sums, private)


def read(directory: Directory) -> dict[str, str]:
    """SHA-256 by file name; empty if there is no SHA256SUMS. Raises OSError."""
    try:
        text = directory.read(SUMS).decode(errors="surrogateescape")
    except FileNotFoundError:
        return {}
    return {match[2]: match[1] for line in text.splitlines() if (match := _LINE.fullmatch(line))}


def digest(directory: Directory, name: str, abandoned: Abandoned) -> str:
    """A file's SHA-256, in hex. Raises OSError, AbandonedError."""
    sha256 = hashlib.sha256()
    for block in directory.blocks(name):
        abandoned.check(f"reading {name}")
        sha256.update(block)
    return sha256.hexdigest()


def _is_ours(directory: Directory, name: str) -> bool:
    # `sha256sum` escapes the names that can't stand in a line as they are; none of ours is one.
    return name.endswith(".g3") and name.isprintable() and "\\" not in name and directory.is_file(name)


def _replace(directory: Directory, sums: dict[str, str], private: Directory) -> None:
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(sums.items()))
    temporary = f"{SUMS}.{secrets.token_hex(4)}"
    fd = private.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        private.rename(temporary, directory, SUMS)
    except OSError:
        private.unlink(temporary)
        raise
    directory.sync()
