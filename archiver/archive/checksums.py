"""The checksums of finished files: in a file beside them, or in the private directory.

<data-dir>/17536/crate1slot2/SHA256SUMS                         --checksums beside
<private-dir>/sha256sums.d/17536/crate1slot2.sha256             --checksums private

Lines of the first have names. Lines of the second have paths: run `sha256sum -c` in the data directory.
"""

import contextlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from archiver.archive.location import Checksums, Location, Within
from archiver.core.paths import ID, SUMS
from archiver.storage import sha256sums

CHECKSUMS = "sha256sums.d"
"""A directory in the private directory. It has a dot in its name, which no stream has."""
_SUFFIX = ".sha256"
_PARENT = re.compile(rf"([0-9]{{5}})/({ID})")
_PRIVATE_NAME = re.compile(rf"({ID}){re.escape(_SUFFIX)}")


class ChecksumsFile(NamedTuple):
    """A file of checksums."""

    within: Within
    """Its directory."""
    name: str
    prefix: str
    """What its lines have before the files' names."""


def file_of(kind: Checksums, parent: str) -> ChecksumsFile | None:
    """The checksums file of a directory below the data directory. Pure.

    None if there is none: with --checksums off, or private for a directory not of the layout.
    """
    if kind is Checksums.BESIDE:
        return ChecksumsFile(Within(parent), SUMS, "")
    match = _PARENT.fullmatch(parent)
    if kind is Checksums.OFF or match is None:
        return None
    return ChecksumsFile(Within(f"{CHECKSUMS}/{match[1]}", private=True), f"{match[2]}{_SUFFIX}", f"{parent}/")


def display_path(location: Location, parent: str) -> str:
    """Its name for messages about a file: SHA256SUMS if it is beside that file, else its path."""
    return path(location, parent).removeprefix(f"{parent}/")


def path(location: Location, parent: str) -> str:
    """Its path, for messages."""
    file = file_of(location.checksums, parent)
    return f"{parent}/{SUMS}" if file is None else location.shown(file.within, file.name)


def add(location: Location, stream: str, path: str, sha256: str) -> None:
    """Add a finished file's line, durable when this returns; nothing with --checksums off. As sha256sums.add."""
    parent, _, name = path.rpartition("/")
    file = file_of(location.checksums, parent)
    if file is None:
        return
    with (
        location.private(stream, make=True) as scratch,
        location.open(file.within, make=file.within.private) as directory,
    ):
        sha256sums.add(directory, file.prefix + name, sha256, scratch, file.name)


def lines(location: Location, parent: str) -> dict[str, str]:
    """Read the SHA-256 of each file of a directory below the data directory. Raises OSError, FileNotFoundError."""
    file = file_of(location.checksums, parent)
    return {} if file is None else read(location, file)[0]


def read(location: Location, file: ChecksumsFile) -> tuple[dict[str, str], bool]:
    """Read the SHA-256 of each file name, and whether there is nothing else; empty if there is no such file.

    Raises OSError, and FileNotFoundError if its directory doesn't exist, unless that is a private one.
    """
    try:
        with location.open(file.within) as directory:
            found, is_whole = sha256sums.read(directory, file.name)
    except FileNotFoundError:
        if not file.within.private:
            raise
        return {}, True
    ours = {name.removeprefix(file.prefix): it for name, it in found.items() if name.startswith(file.prefix)}
    return ours, is_whole and len(ours) == len(found)


def private_parents(location: Location) -> set[str]:
    """Find the directories whose checksums are in the private directory. Raises OSError."""
    found = set()
    with contextlib.suppress(FileNotFoundError):
        with location.private(CHECKSUMS) as directory:
            dates = [name for name in directory.names() if re.fullmatch("[0-9]{5}", name)]
        for date in dates:
            with location.private(f"{CHECKSUMS}/{date}") as directory:
                names = map(_PRIVATE_NAME.fullmatch, directory.names())
                found |= {f"{date}/{match[1]}" for match in names if match}
    return found


def merged(texts: Mapping[str, str]) -> bytes:
    """Format the lines of a checksums file, in order; texts: SHA-256 by name with its prefix. Pure."""
    pairs = sorted((name.encode(errors="surrogateescape"), sha256.encode()) for name, sha256 in texts.items())
    return b"".join(b"%b  %b\n" % (sha256, name) for name, sha256 in pairs)
