"""Which files that no event describes may be adopted by an archive, and why others may not. Pure.

They were there before: another recorder's, or from before g3.files was lost. They must be where recorded files are,
and be named as these; from then on `verify` checks them by the digest of their adoption.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from archiver.core.catalog import FileEvent
from archiver.core.paths import ID, LATEST_START, parse_path, start_and_number
from archiver.operations.named_files import named_files
from archiver.verify.checks import InspectedFile
from archiver.verify.inventory import Inventory
from archiver.verify.tree_scan import FileEntry

_UNCHANGED_MS = 60_000
"""A file that was changed more recently may still be written, by another recorder or a copy."""
_PATH = re.compile(rf"([0-9]{{5}})/{ID}/[^/]+\.g3")
_LIKE = "<start>_<NNN>.g3, such as 2019-01-01-12-00-00_000.g3 or 1546344000_000.g3"


@dataclass(slots=True)
class AdoptionPlan:
    """What to do with the files that were asked for."""

    to_read: list[FileEntry]
    """Files to adopt, if their contents are right."""
    refused: dict[str, str]
    """By path: why a file isn't adopted. Those that are read are added if they turn out to be wrong."""
    recorded: int = 0
    """The number of files that are recorded already."""


def plan_unlisted(archive: Inventory, now: int) -> AdoptionPlan:
    """Plan the adoption of all files that no event describes. now: ms since the epoch."""
    return _plan(archive, archive.tree.entries.keys() - archive.file_events.keys() - archive.in_progress(), now)


def plan_named(archive: Inventory, names: Iterable[str], now: int) -> AdoptionPlan:
    """Plan the adoption of named files, and of the files in named directories.

    names: paths relative to the data directory. A retired file that exists again is adopted, too. now: ms since the
    epoch.
    """
    names = (name.rstrip("/") for name in names)
    return _plan(archive, named_files(names, archive.tree.entries, archive.file_events), now)


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


def _plan(archive: Inventory, paths: Iterable[str], now: int) -> AdoptionPlan:
    in_progress, entries = archive.in_progress(), archive.tree.entries
    plan = AdoptionPlan([], {})
    for path in sorted(paths):
        is_recorded = path in archive.file_events
        entry = entries.get(path)
        if is_recorded and path not in archive.catalog.retired:
            plan.recorded += 1
        elif path in in_progress:
            plan.refused[path] = "it is being recorded"
        elif why := name_refusal(path):
            plan.refused[path] = why
        elif entry is None:
            plan.refused[path] = "it isn't there"
        elif entry.kind:
            plan.refused[path] = entry.kind
        elif not is_recorded and abs(now - entry.mtime) < _UNCHANGED_MS:
            plan.refused[path] = "it was changed less than a minute ago, and may still be written"
        else:
            plan.to_read.append(entry)
    return plan


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
