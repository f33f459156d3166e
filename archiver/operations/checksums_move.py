"""Moves an archive's checksums: from SHA256SUMS beside its files to the private directory, or back, or removes them.

Directory by directory, each line is durable in its new place before it is removed from the old one. A SHA256SUMS with
anything but checksum lines is never deleted: it is kept in the private directory.
"""

import contextlib
import os
from dataclasses import replace

from archiver.archive import archive_settings, checksums
from archiver.archive.archive_settings import ArchiveSettings
from archiver.archive.checksums import ChecksumsFile
from archiver.archive.location import Checksums, Location
from archiver.console.runner import print_out
from archiver.core.paths import SUMS
from archiver.verify import tree_scan

UNREAD = ".unread"
"""The suffix of a file that is kept because of its other content."""


def move(location: Location, asked: Checksums | None) -> bool:
    """Move all checksums to the place asked for (None: where they are, or were being moved); return whether all are.

    Prints what is moved, and what couldn't be. Raises OSError.
    """
    saved = archive_settings.read(location)
    now = saved or archive_settings.default_settings(location)
    wanted = asked or now.moving_to or now.checksums
    parents = _parents(location)
    elsewhere = any(found for kind, found in parents.items() if kind is not wanted)
    if wanted is now.checksums and not now.moving_to and not elsewhere:
        if saved is None and (location.private_dir or wanted is not Checksums.BESIDE):
            archive_settings.write(location, now)
        return True
    archive_settings.write(location, replace(now, moving_to=wanted))
    is_whole = True
    for parent in sorted(set().union(*parents.values())):
        try:
            _move_one(location, parent, now.checksums, wanted)
        except OSError as error:
            is_whole = False
            print_out(f"{parent}: its checksums were not moved: {error}")
    _remove_empty(location)
    archive_settings.write(location, ArchiveSettings(wanted))
    print_out(f"checksums: {wanted} (before: {now.checksums})")
    if now.checksums is Checksums.OFF and wanted is not Checksums.OFF:
        print_out("files that were finished without a checksum have none yet: `archiver repair` writes them")
    return is_whole


def _parents(location: Location) -> dict[Checksums, set[str]]:
    """Return the directories that have checksums, by the place of these. Raises OSError."""
    tree = tree_scan.scan_tree(location.data_dir)
    for path, why in tree.closed.items():
        raise OSError(None, f"{why}; it must be readable to move checksums", str(location.data_dir / path))
    return {Checksums.BESIDE: tree.summed_directories, Checksums.PRIVATE: checksums.private_parents(location)}


def _move_one(location: Location, parent: str, now: Checksums, wanted: Checksums) -> None:
    """Move the checksums of one directory. now: the place whose lines win, if both have one. Raises OSError."""
    files = {kind: it for kind in (Checksums.BESIDE, Checksums.PRIVATE) if (it := checksums.file_of(kind, parent))}
    found = {kind: _read(location, file) for kind, file in files.items()}
    lines: dict[str, str] = {}
    for kind in sorted(files, key=lambda it: it is now):  # the last one wins
        lines |= found[kind][0]
    if wanted is not Checksums.OFF and lines != found[wanted][0]:
        _write(location, files[wanted], lines)
    for kind, file in files.items():
        if kind is not wanted:
            _remove(location, file, keep=None if found[kind][1] else files[Checksums.PRIVATE])


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
        directory.replace_file(file.name, text, scratch=scratch, prefix=SUMS)


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
