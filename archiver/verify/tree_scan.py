"""Scan an archive's directory tree. Others may put anything there: links are never followed."""

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from archiver.archive.location import Location
from archiver.archive.root import unlocked_partials
from archiver.core.paths import ID, SUMS
from archiver.storage.directory import Directory

_TIMECODE = re.compile(r"[0-9]{5}")
_ID = re.compile(ID)

Inode = tuple[int, int]
"""Device and inode number."""
_Stat = tuple[str, os.stat_result]
"""The name of a directory's entry, and what it is."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A directory entry whose name ends with .g3."""

    path: str
    size_bytes: int = 0
    mtime: int = 0
    """ms since the epoch."""
    inode: Inode = (0, 0)
    kind: str = ""
    """Why it can't be read, in words; empty if it can."""


@dataclass(frozen=True, slots=True)
class ArchiveTree:
    """The files and directories below a data directory."""

    entries: dict[str, FileEntry] = field(default_factory=dict)
    """By path."""
    summed_directories: set[str] = field(default_factory=set)
    """Directories that have a SHA256SUMS."""
    closed: dict[str, str] = field(default_factory=dict)
    """Directories of the layout that can't be listed, and why."""


def scan_tree(root: Path) -> ArchiveTree:
    """List all files where recorded files can be: <5 digits>/<stream id>/.

    Other directories are ignored. Raises OSError if the root can't be listed.
    """
    with Directory(root, "") as top:
        timecodes = _directories(_stats(top), _TIMECODE)
    found = ArchiveTree()
    for timecode in timecodes:
        for stream_id in _directories(_scan(root, timecode, found), _ID):
            below = f"{timecode}/{stream_id}"
            for name, entry in _scan(root, below, found):
                if name.endswith(".g3"):
                    found.entries[f"{below}/{name}"] = _entry(f"{below}/{name}", entry)
                elif name == SUMS and not stat.S_ISDIR(entry.st_mode):
                    found.summed_directories.add(below)
    return found


def _scan(root: Path, below: str, found: ArchiveTree) -> list[_Stat]:
    """List a directory; empty if it is gone meanwhile, or can't be listed, which is noted in `found`."""
    try:
        with Directory(root, below) as directory:
            return _stats(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        found.closed[below] = error.strerror or str(error)
        return []


def _directories(entries: Iterable[_Stat], pattern: re.Pattern[str]) -> list[str]:
    """Return the names of the directories among them that match."""
    return [name for name, entry in entries if pattern.fullmatch(name) and stat.S_ISDIR(entry.st_mode)]


def _stats(directory: Directory) -> list[_Stat]:
    """Return the stat of each entry."""
    found = [(name, directory.stat(name)) for name in sorted(directory.names())]
    return [(name, entry) for name, entry in found if entry]


def stat_entry(root: Path, path: str) -> FileEntry:
    """Return the entry at a path. Raises OSError, FileNotFoundError if there is none."""
    parent, _, name = path.rpartition("/")
    with Directory(root, parent) as directory:
        found = directory.stat(name)
    if found is None:
        raise FileNotFoundError(path)
    return _entry(path, found)


def existing(root: Path, found: ArchiveTree, paths: Iterable[str]) -> tuple[dict[str, FileEntry], set[str]]:
    """Divide paths into the entries that exist, and the paths that don't.

    Exists, too: what can't be read (`kind` says why), and what has been created since the tree was listed.
    found: the tree as it was listed before.
    """
    there: dict[str, FileEntry] = {}
    gone: set[str] = set()
    for path in paths:
        try:
            there[path] = found.entries.get(path) or stat_entry(root, path)
        except FileNotFoundError:
            gone.add(path)
        except OSError as error:
            there[path] = FileEntry(path, kind=error.strerror or str(error))
    return there, gone


def partials(location: Location) -> dict[str, dict[str, Inode]] | None:
    """List the private directories of the streams, by stream and name. Raises OSError.

    None if there is no private directory, or it may not be read, as by any user but the one who records.
    """
    found: dict[str, dict[str, Inode]] = {}
    try:
        with location.private() as private:
            streams = _directories(_stats(private), _ID)
    except (FileNotFoundError, PermissionError):
        return None
    for stream in streams:
        with location.private(stream) as private:
            found[stream] = {name: (entry.st_dev, entry.st_ino) for name, entry in _stats(private)}
    return found


def unlocked_partials_of(location: Location, stream: str, names: Iterable[str]) -> list[str]:
    """Return the unlocked_partials of a stream's private directory. Raises OSError.

    Returns none if there is no such directory, or it is another user's.
    """
    try:
        with location.private(stream) as private:
            return unlocked_partials(private, names)
    except (FileNotFoundError, PermissionError):
        return []


def _entry(path: str, found: os.stat_result) -> FileEntry:
    mode = found.st_mode
    what = "" if stat.S_ISREG(mode) else "it is a directory" if stat.S_ISDIR(mode) else "it is not a regular file"
    if stat.S_ISLNK(mode):
        what = "it is a link; links aren't followed"
    return FileEntry(
        path, found.st_size if not what else 0, found.st_mtime_ns // 10**6, (found.st_dev, found.st_ino), what
    )
