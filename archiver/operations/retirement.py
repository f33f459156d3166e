"""Which recorded files to retire, given what an operator asks for and which files exist. Pure.

A file that was deleted on purpose is retired: then it isn't missing. No file may be retired by mistake, as nobody
would notice its loss. So a file that isn't named is retired only if it doesn't exist, and none if none exists, as
below an empty mount point.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from archiver.core.catalog import FileCatalog, FileEvent, carry_count
from archiver.core.events import FileAdopted, FileFinished, FileRetired
from archiver.core.paths import start_and_number
from archiver.operations.named_files import named_files


class RetirementOutcome(StrEnum):
    """The outcome for a file that an operator names; the value is shown."""

    RETIRED = "retired"
    STILL_THERE = "retired, still there"
    RETIRED_BEFORE = "was retired before"
    UNKNOWN = "not recorded"


@dataclass(frozen=True, slots=True)
class RetirementItem:
    """A file that was named, or found missing."""

    path: str
    outcome: RetirementOutcome
    event: FileEvent | None = None
    """The event that recorded it; None if it isn't recorded."""
    earlier: FileRetired | None = None
    """The event of its retirement, if it was retired before."""


@dataclass(frozen=True, slots=True)
class RetirementPlan:
    """What to do with the files that were asked for."""

    items: tuple[RetirementItem, ...]
    """The files, by path."""
    still_there_count: int = 0
    """With --missing or --before: files that exist, and so aren't retired."""
    retired_before_count: int = 0
    """With --missing or --before: missing files that were retired before."""

    @property
    def retire(self) -> tuple[FileEvent, ...]:
        """The files to be retired now."""
        return tuple(it.event for it in self.items if it.event and not it.earlier)

    @property
    def unknown(self) -> tuple[str, ...]:
        """The named paths that aren't recorded files."""
        return tuple(it.path for it in self.items if it.outcome is RetirementOutcome.UNKNOWN)


def plan_named(
    catalog: FileCatalog, there: Collection[str], names: Iterable[str], streams: Collection[str] = ()
) -> RetirementPlan:
    """Plan the retirement of named files, and of the files in named directories.

    names: paths relative to the data directory. there: the recorded files that exist. These are retired, too: a
    clean-up job may retire first and delete then. streams: if not empty, only their files count as recorded.
    """
    events = {path: event for path, event in catalog.file_events().items() if not streams or event.stream in streams}
    items = []
    for path in named_files(names, events):
        earlier = catalog.retired.get(path)
        if path not in events:
            items.append(RetirementItem(path, RetirementOutcome.UNKNOWN))
        elif earlier:
            items.append(RetirementItem(path, RetirementOutcome.RETIRED_BEFORE, events[path], earlier))
        else:
            outcome = RetirementOutcome.STILL_THERE if path in there else RetirementOutcome.RETIRED
            items.append(RetirementItem(path, outcome, events[path]))
    return RetirementPlan(tuple(items))


def plan_missing(
    catalog: FileCatalog, there: Collection[str], streams: Collection[str] = (), before: int | None = None
) -> RetirementPlan:
    """Plan the retirement of all recorded files that don't exist.

    streams: if not empty, only their files. before: ms since the epoch; only files that end before it.
    """
    items = []
    still_there = retired_before = 0
    for path, event in sorted(catalog.file_events().items()):
        if (streams and event.stream not in streams) or (before is not None and end_ms(event) >= before):
            continue
        if path in there:
            still_there += 1
        elif path in catalog.retired:
            retired_before += 1
        else:
            items.append(RetirementItem(path, RetirementOutcome.RETIRED, event))
    return RetirementPlan(tuple(items), still_there, retired_before)


def wrong_directory_reason(catalog: FileCatalog, there: Collection[str]) -> str:
    """Return why the data directory may be the wrong one, so that no file counts as deleted; empty if it is right."""
    expected = catalog.file_events().keys() - catalog.retired.keys()
    if expected and not any(path in there for path in expected):
        return f"none of the {len(expected)} recorded files is there: is its disk mounted?"
    return ""


def adoption_event(event: FileEvent, time: int, who: str, reason: str, host: str) -> FileAdopted:
    """Return the event for a retired file that exists again, with its recorded bytes. time: ms since the epoch."""
    frames = event.frames + carry_count(event)
    damage = event.damage if isinstance(event, FileAdopted) else ""
    return FileAdopted(
        *(event.group, event.stream, event.path, frames, event.bytes, event.sha256),
        *(time, who, host, reason, damage),
    )


def end_ms(event: FileEvent) -> int:
    """Return the time of a file's last frame, ms since the epoch: by its event, else by its name."""
    if isinstance(event, FileFinished):
        return event.last.time
    return start_and_number(event.path)[0] * 1000
