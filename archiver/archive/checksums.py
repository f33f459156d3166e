"""Which file has the checksums of a directory of files, and adding to it: beside them, or in the private directory.

<data-dir>/17536/crate1slot2/SHA256SUMS                         --checksums beside
<private-dir>/sha256sums.d/17536/crate1slot2.sha256             --checksums private

Lines of the first have names; of the second, paths below the data directory: there `sha256sum -c` proves them.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from archiver.archive.location import Checksums, Location, Within
from archiver.core.paths import ID, SUMS
from archiver.storage import sha256sums

CHECKSUMS = "sha256sums.d"
"""In the private directory. With a dot, as no stream has one in its name."""
_SUFFIX = ".sha256"
_PARENT = re.compile(rf"([0-9]{{5}})/({ID})")


class ChecksumsFile(NamedTuple):
    """A file of checksums: the directory it is in, its name, and what its lines have before files' names."""

    within: Within
    name: str
    prefix: str


def file_of(location: Location, parent: str) -> ChecksumsFile | None:
    """That of a directory below the data directory; None if it has none. Pure."""
    match location.checksums:
        case Checksums.OFF:
            return None
        case Checksums.BESIDE:
            return beside(parent)
        case Checksums.PRIVATE:
            return private(parent)


def beside(parent: str) -> ChecksumsFile:
    """That of a directory, if it is there."""
    return ChecksumsFile(Within(parent), SUMS, "")


def private(parent: str) -> ChecksumsFile | None:
    """That of a directory, if it is in the private directory; None for one that isn't the layout's."""
    match = _PARENT.fullmatch(parent)
    if match is None:
        return None
    return ChecksumsFile(Within(f"{CHECKSUMS}/{match[1]}", private=True), f"{match[2]}{_SUFFIX}", f"{parent}/")


def display_path(location: Location, parent: str) -> str:
    """What people read for it: SHA256SUMS, which is beside the file that is spoken of, or a path."""
    file = file_of(location, parent)
    if file is None or not file.within.private:
        return SUMS
    return location.shown(file.within, file.name)


def path(location: Location, parent: str) -> str:
    """Its path, for people."""
    file = file_of(location, parent)
    return f"{parent}/{SUMS}" if file is None else location.shown(file.within, file.name)


def add(location: Location, stream: str, path: str, sha256: str) -> None:
    """Give a published file its line; durable when this returns. Nothing if there are none. As sums.add."""
    parent, _, name = path.rpartition("/")
    file = file_of(location, parent)
    if file is None:
        return
    with location.private(stream, make=True) as scratch:
        if not file.within.private:
            with location.data(parent) as directory:
                sha256sums.add(directory, name, sha256, scratch)
            return
        with location.private(file.within.below, make=True) as directory:
            sha256sums.add(directory, file.prefix + name, sha256, scratch, file.name)


def lines(location: Location, parent: str) -> dict[str, str]:
    """SHA-256 by file name, of a directory below the data directory. Raises OSError, FileNotFoundError."""
    file = file_of(location, parent)
    return {} if file is None else read(location, file)


def read(location: Location, file: ChecksumsFile) -> dict[str, str]:
    """SHA-256 by file name; empty if there is no such file. Raises OSError, FileNotFoundError if its directory isn't
    there, but of a private one."""
    try:
        with location.open(file.within) as directory:
            found = sha256sums.read(directory, file.name)
    except FileNotFoundError:
        if not file.within.private:
            raise
        return {}
    return {name.removeprefix(file.prefix): it for name, it in found.items() if name.startswith(file.prefix)}


def private_parents(location: Location) -> set[str]:
    """The directories whose checksums are in the private directory. Raises OSError."""
    found = set()
    with contextlib.suppress(FileNotFoundError):
        with location.private(CHECKSUMS) as directory:
            dates = [name for name in directory.names() if re.fullmatch("[0-9]{5}", name)]
        for date in dates:
            found |= set(_in(location, date))
    return found


def _in(location: Location, date: str) -> Iterator[str]:
    with location.private(f"{CHECKSUMS}/{date}") as directory:
        for name in directory.names():
            if name.endswith(_SUFFIX) and re.fullmatch(ID, name.removesuffix(_SUFFIX)):
                yield f"{date}/{name.removesuffix(_SUFFIX)}"


def merged(texts: Mapping[str, str]) -> bytes:
    """The lines of such a file, in their order: of names (with what is before them), and their SHA-256. Pure."""
    pairs = sorted((name.encode(errors="surrogateescape"), sha256.encode()) for name, sha256 in texts.items())
    return b"".join(b"%b  %b\n" % (sha256, name) for name, sha256 in pairs)
