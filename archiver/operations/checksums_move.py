"""An archive's checksums on their way: from SHA256SUMS beside its files to the private directory, or back, or away.

Directory by directory, a line is durable in its new place before it is removed from the old one. What isn't a line of
a SHA256SUMS is nobody's to delete: such a file is kept in the private directory.
"""

import contextlib
import os
from collections.abc import Iterator

from archiver.archive import checksums
from archiver.archive.checksums import ChecksumsFile
from archiver.archive.location import Checksums, Location
from archiver.core.paths import SUMS
from archiver.storage import sha256sums
from archiver.storage.durable_file import replace_file
from archiver.verify import tree_scan

UNREAD = ".unread"
"""What a file with something else in it is kept as."""


def others(location: Location, wanted: Checksums) -> bool:
    """Whether there are checksums elsewhere than wanted. Raises OSError."""
    beside, private = _parents(location)
    return bool(beside and wanted is not Checksums.BESIDE) or bool(private and wanted is not Checksums.PRIVATE)


def move(location: Location, now: Checksums, wanted: Checksums) -> Iterator[str]:
    """Move all of them; gives what was left where it is, and why. now: where they are that win. Raises OSError."""
    beside, private = _parents(location)
    for parent in sorted(beside | private):
        try:
            _move_one(location, parent, now, wanted)
        except OSError as error:
            yield f"{parent}: its checksums are left where they are: {error}"
    _remove_empty(location)


def _parents(location: Location) -> tuple[set[str], set[str]]:
    tree = tree_scan.scan_tree(location.data_dir)
    for path, why in tree.closed.items():
        raise OSError(None, f"{why}; it must be readable for this", str(location.data_dir / path))
    return tree.summed_directories, checksums.private_parents(location)


def _move_one(location: Location, parent: str, now: Checksums, wanted: Checksums) -> None:
    """Of one directory. Raises OSError."""
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
    """The lines, by files' names, and whether it has nothing else. Raises OSError."""
    try:
        with location.open(file.within) as directory:
            found = directory.stat(file.name)
            if found is None:
                return {}, True
            if found.st_size > sha256sums.MAX_BYTES:
                raise OSError(None, f"it has {found.st_size} bytes", str(directory.path / file.name))
            lines, whole = sha256sums.parse(directory.read(file.name, sha256sums.MAX_BYTES))
    except FileNotFoundError:
        return {}, True
    ours = {name.removeprefix(file.prefix): it for name, it in lines.items() if name.startswith(file.prefix)}
    return ours, whole and len(ours) == len(lines)


def _write(location: Location, file: ChecksumsFile, lines: dict[str, str]) -> None:
    """Replace it, durably, all at once; but make no directory of files that others have removed. Raises OSError."""
    text = checksums.merged({file.prefix + name: sha256 for name, sha256 in lines.items()})
    with contextlib.ExitStack() as opened:
        scratch = opened.enter_context(location.private())
        if file.within.private:
            directory = opened.enter_context(location.private(file.within.below, make=True))
        else:
            try:
                directory = opened.enter_context(location.data(file.within.below))
            except FileNotFoundError:
                return
        replace_file(directory, file.name, text, scratch=scratch, prefix=SUMS)


def _remove(location: Location, file: ChecksumsFile, keep: ChecksumsFile | None) -> None:
    """Remove it; or, if it has something else in it, keep it beside `keep`. Raises OSError."""
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
    """Remove the directories of checksums in which there are none any more. Raises OSError."""
    try:
        with location.private(checksums.CHECKSUMS) as directory:
            for name in directory.names():
                with contextlib.suppress(OSError):  # it isn't empty
                    os.rmdir(name, dir_fd=directory.fd)
    except FileNotFoundError:
        return
    with contextlib.suppress(OSError), location.private() as private:
        os.rmdir(checksums.CHECKSUMS, dir_fd=private.fd)
