"""Which files that no event describes may be adopted by an archive, and why others may not. Pure.

They were there before: another recorder's, or from before g3.files was lost. They must be where recorded files are,
and be named as these; from then on `verify` checks them by the digest of their adoption.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from archiver.core.catalog import FileEvent
from archiver.core.paths import ID, LATEST_START, parse_path, start_and_number
from archiver.operations.named_files import named_files
from archiver.verify.checks import InspectedFile
from archiver.verify.tree_scan import FileEntry

_UNCHANGED_MS = 60_000
"""A file that was changed more recently may still be written, by another recorder or a copy."""
_PATH = re.compile(rf"([0-9]{{5}})/{ID}/[^/]+\.g3")
_LIKE = "<start>_<NNN>.g3, such as 2019-01-01-12-00-00_000.g3 or 1546344000_000.g3"


@dataclass(frozen=True, slots=True)
class ArchiveContents:
    """What is known of an archive."""

    entries: Mapping[str, FileEntry]
    """The files that exist, by path."""
    file_events: Mapping[str, FileEvent]
    """The event that recorded a file, by path."""
    retired: Collection[str]
    """Paths of retired files."""
    in_progress: Collection[str]
    """Paths of files that are being recorded."""


@dataclass(frozen=True, slots=True)
class AdoptionPlan:
    """What to do with the files that were asked for."""

    to_read: tuple[FileEntry, ...]
    """Files to adopt, if their contents are right."""
    refused: Mapping[str, str]
    """By path: why a file isn't adopted."""
    recorded: int
    """The number of files that are recorded already."""


def plan_unlisted(archive: ArchiveContents, now: int) -> AdoptionPlan:
    """Plan the adoption of all files that no event describes. now: ms since the epoch."""
    unlisted = [
        path for path in archive.entries if path not in archive.file_events and path not in archive.in_progress
    ]
    return _plan(archive, unlisted, now)


def plan_named(archive: ArchiveContents, names: Iterable[str], now: int) -> AdoptionPlan:
    """Plan the adoption of named files, and of the files in named directories.

    names: paths relative to the data directory. A retired file that exists again is adopted, too. now: ms since the
    epoch.
    """
    names = (name.rstrip("/") for name in names)
    return _plan(archive, named_files(names, archive.entries, archive.file_events), now)


def adoption_refusal(
    seen: InspectedFile, event: FileEvent | None, others: Mapping[str, str], *, damaged_too: bool = False
) -> str:
    """Return why a file that was read may not be adopted; empty if it may.

    event: the one that recorded it, if it is retired. others: the paths of recorded files, by digest. damaged_too: a
    file that isn't whole frames may be adopted, too.
    """
    contents = seen.contents
    if contents is None:
        return seen.error
    if event:
        return "" if contents.sha256 == event.sha256 else "its bytes aren't those recorded before it was retired"
    if contents.broken and not damaged_too:
        return f"it isn't whole frames: {contents.broken}"
    other = others.get(contents.sha256)
    return f"it is a copy of {other}" if other and contents.bytes else ""


def _plan(archive: ArchiveContents, paths: Iterable[str], now: int) -> AdoptionPlan:
    read: list[FileEntry] = []
    refused: dict[str, str] = {}
    recorded = 0
    for path in sorted(paths):
        if path in archive.file_events and path not in archive.retired:
            recorded += 1
        elif why := _refusal(path, archive, now):
            refused[path] = why
        else:
            read.append(archive.entries[path])
    return AdoptionPlan(tuple(read), refused, recorded)


def _refusal(path: str, archive: ArchiveContents, now: int) -> str:
    if path in archive.in_progress:
        return "it is being recorded"
    if why := name_refusal(path):
        return why
    entry = archive.entries.get(path)
    if entry is None:
        return "it isn't there"
    if not entry.kind and path not in archive.file_events and abs(now - entry.mtime) < _UNCHANGED_MS:
        return "it was changed less than a minute ago, and may still be written"
    return entry.kind


def name_refusal(path: str) -> str:
    """Return why a recorded file may not have this path; empty if it may."""
    if parse_path(path):
        return ""
    match = _PATH.fullmatch(path)
    if match is None:
        return "it isn't where recorded files are: <5 digits>/<stream id>/<name>.g3"
    try:
        start, _ = start_and_number(path)
    except (ValueError, OverflowError):
        return f"its name must be {_LIKE}"
    directory = f"{start:010d}"[:5]
    if 0 <= start <= LATEST_START and directory != match[1]:
        return f"by the time in its name it belongs in {directory}/"
    return f"its name must be {_LIKE}"
