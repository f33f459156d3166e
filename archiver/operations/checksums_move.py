"""Moves an archive's checksums: from SHA256SUMS beside its files to the private directory, or back, or removes them.

Directory by directory, each line is durable in its new place before it is removed from the old one. A SHA256SUMS with
anything but checksum lines is never deleted: it is kept in the private directory.
"""

import contextlib
import os
from collections.abc import Iterator

from archiver.archive import checksums
from archiver.archive.checksums import ChecksumsFile
from archiver.archive.location import Checksums, Location
from archiver.core.paths import SUMS
from archiver.storage.durable_file import replace_file
from archiver.verify import tree_scan

UNREAD = ".unread"
"""The suffix of a file that is kept because of its other content."""


def others(location: Location, wanted: Checksums) -> bool:
    """Whether there are checksums in another place than `wanted`. Raises OSError."""
    beside, private = _parents(location)
    return bool(beside and wanted is not Checksums.BESIDE) or bool(private and wanted is not Checksums.PRIVATE)


def move(location: Location, now: Checksums, wanted: Checksums) -> Iterator[str]:
    """Move all checksums; yield a line for each directory where that failed. Raises OSError.

    now: the place whose lines win, if both have one.
    """
    beside, private = _parents(location)
    for parent in sorted(beside | private):
        try:
            _move_one(location, parent, now, wanted)
        except OSError as error:
            yield f"{parent}: its checksums were not moved: {error}"
    _remove_empty(location)


def _parents(location: Location) -> tuple[set[str], set[str]]:
    tree = tree_scan.scan_tree(location.data_dir)
    for path, why in tree.closed.items():
        raise OSError(None, f"{why}; it must be readable to move checksums", str(location.data_dir / path))
    return tree.summed_directories, checksums.private_parents(location)


def _move_one(location: Location, parent: str, now: Checksums, wanted: Checksums) -> None:
    """Move the checksums of one directory. Raises OSError."""
    beside, private = checksums.beside(parent), checksums.private(parent)
    assert private
    files = {Checksums.BESIDE: beside, Checksums.PRIVATE: private}
    found = {kind: _read(location, file) for kind, file in files.items()}
    lines: dict[str, str] = {}
    for kind in sorted(files, key=lambda it: it is now):  # the last one wins
        lines |= found[kind][0]
    if wanted is not Checksums.OFF and lines != found[wanted][0]:
        _write(location, files[wanted], lines)
    for kind, file in files.items():
        if kind is not wanted:
            _remove(location, file, keep=None if found[kind][1] else private)


def _read(location: Location, file: ChecksumsFile) -> tuple[dict[str, str], bool]:
    """Return a file's lines, by file name, and whether it has no other content. Raises OSError."""
    try:
        return checksums.read(location, file)
    except FileNotFoundError:
        return {}, True


def _write(location: Location, file: ChecksumsFile, lines: dict[str, str]) -> None:
    """Replace a file durably and atomically, unless its directory of data was removed. Raises OSError."""
    text = checksums.merged({file.prefix + name: sha256 for name, sha256 in lines.items()})
    try:
        directory = location.open(file.within, make=file.within.private)
    except FileNotFoundError:
        return
    with directory, location.private() as scratch:
        replace_file(directory, file.name, text, scratch=scratch, prefix=SUMS)


def _remove(location: Location, file: ChecksumsFile, keep: ChecksumsFile | None) -> None:
    """Remove a file; or move it beside `keep`, if that is given. Raises OSError."""
    try:
        directory = location.open(file.within)
    except FileNotFoundError:
        return
    with directory:
        if directory.stat(file.name) is None:
            return
        if keep is None:
            directory.unlink(file.name)
        else:
            with location.private(keep.within.below, make=True) as kept:
                kept.move_aside(directory, file.name, keep.name + UNREAD)
        directory.sync()


def _remove_empty(location: Location) -> None:
    """Remove the directories of checksums that are empty now. Raises OSError."""
    try:
        with location.private(checksums.CHECKSUMS) as directory:
            for name in directory.names():
                with contextlib.suppress(OSError):  # it isn't empty
                    os.rmdir(name, dir_fd=directory.fd)
    except FileNotFoundError:
        return
    with contextlib.suppress(OSError), location.private() as private:
        os.rmdir(checksums.CHECKSUMS, dir_fd=private.fd)
