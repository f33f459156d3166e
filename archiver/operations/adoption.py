"""Which files that no event tells of may be recorded in an archive, and why others may not. Pure.

They were there before: another recorder's, or of before g3.files was lost. So they lie where recorded files lie, and
their names are such; from then on `verify` proves them by the digest that they had.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from archiver.core.catalog import FileEvent
from archiver.core.paths import ID, LATEST_START, parse_path, start_and_number
from archiver.verify.checks import InspectedFile
from archiver.verify.tree_scan import FileEntry

_UNCHANGED_MS = 60_000
"""A file that was changed since may still be written, by another recorder or a copy."""
_PATH = re.compile(rf"([0-9]{{5}})/{ID}/[^/]+\.g3")
_LIKE = "<start>_<NNN>.g3, such as 2019-01-01-12-00-00_000.g3 or 1546344000_000.g3"


@dataclass(frozen=True, slots=True)
class ArchiveContents:
    """What is known of it. entries: what is there, by path. event: what recorded a file, by path. retired: paths.
    in_progress: those of files that are being recorded."""

    entries: Mapping[str, FileEntry]
    file_events: Mapping[str, FileEvent]
    retired: Collection[str]
    in_progress: Collection[str]


@dataclass(frozen=True, slots=True)
class AdoptionPlan:
    """to_read: what may be adopted, if its contents are right. refused: by path, why not. recorded: files that are
    recorded already."""

    to_read: tuple[FileEntry, ...]
    refused: Mapping[str, str]
    recorded: int


def plan_unlisted(archive: ArchiveContents, now: int) -> AdoptionPlan:
    """All files that no event tells of. now: ms."""
    untold = [path for path in archive.entries if path not in archive.file_events and path not in archive.in_progress]
    return _plan(archive, untold, now)


def plan_named(archive: ArchiveContents, names: Iterable[str], now: int) -> AdoptionPlan:
    """Of files, or directories of them, that an operator names, by their paths below the data directory. now: ms.

    A retired one that is there again is adopted, too.
    """
    paths: dict[str, None] = {}
    for name in names:
        below = [path for path in archive.entries if path.startswith(f"{name.rstrip('/')}/")]
        known = name in archive.entries or name in archive.file_events
        paths |= dict.fromkeys([name] if known or not below else below)
    return _plan(archive, list(paths), now)


def adoption_refusal(
    seen: InspectedFile, event: FileEvent | None, others: Mapping[str, str], *, damaged_too: bool = False
) -> str:
    """Why a file that has been read may not be adopted; empty if it may. event: of a retired one. others: the paths
    of recorded files, by digest. damaged_too: it need not be whole frames."""
    contents = seen.contents
    if contents is None:
        return seen.error
    if event:
        return "" if contents.sha256 == event.sha256 else "its bytes aren't those that it had when it was retired"
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
    """Why a recorded file may not have that path; empty if it may."""
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
        return f"by the time in its name it belongs into {directory}/"
    return f"its name must be {_LIKE}"
