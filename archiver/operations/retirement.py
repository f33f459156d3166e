"""Which recorded files are to be retired: of what an operator asks for, and what is there. Pure.

A file is retired when it was deleted on purpose: then it isn't missing. Nothing may be retired by mistake, as nobody
would hear of its loss: so what isn't named is retired only if it is gone, and not if all is gone, as below an empty
mount point.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from archiver.core.catalog import FileCatalog, FileEvent
from archiver.core.events import FileAdopted, FileFinished, FileRetired
from archiver.core.paths import start_and_number


class RetirementOutcome(StrEnum):
    """What becomes of a file that an operator names."""

    RETIRED = "retired"
    STILL_THERE = "retired, still there"
    RETIRED_BEFORE = "was retired before"
    UNKNOWN = "not recorded"


@dataclass(frozen=True, slots=True)
class RetirementItem:
    """A file that was named, or found missing. event: what recorded it, None if nothing did. earlier: its event, if
    it was retired before."""

    path: str
    outcome: RetirementOutcome
    event: FileEvent | None = None
    earlier: FileRetired | None = None


@dataclass(frozen=True, slots=True)
class RetirementPlan:
    """What is to be done. items: by path. still_there_count: of files that were to be retired only if they are gone,
    how many aren't. retired_before_count: of those gone, how many were retired before."""

    items: tuple[RetirementItem, ...]
    still_there_count: int = 0
    retired_before_count: int = 0

    @property
    def retire(self) -> tuple[FileEvent, ...]:
        """The files to be retired now."""
        now = (RetirementOutcome.RETIRED, RetirementOutcome.STILL_THERE)
        return tuple(it.event for it in self.items if it.event and it.outcome in now)

    @property
    def unknown(self) -> tuple[str, ...]:
        """What was named, and is no recorded file."""
        return tuple(it.path for it in self.items if it.outcome is RetirementOutcome.UNKNOWN)


def plan_named(
    catalog: FileCatalog, there: Collection[str], names: Iterable[str], streams: Collection[str] = ()
) -> RetirementPlan:
    """Of files or directories that an operator names, by their paths below the data directory.

    there: the recorded files that exist. These are retired, too: a clean-up job may say so first, and delete then.
    streams: only files of these count as recorded, if there are any.
    """
    event = {path: event for path, event in catalog.file_events().items() if not streams or event.stream in streams}
    below = _by_directory(event)
    paths: dict[str, None] = {}
    for name in names:
        paths |= dict.fromkeys(below.get(name, [name]) if name not in event else [name])
    return RetirementPlan(
        tuple(_named(path, event.get(path), catalog.retired.get(path), there) for path in sorted(paths))
    )


def plan_missing(
    catalog: FileCatalog, there: Collection[str], streams: Collection[str] = (), before: int | None = None
) -> RetirementPlan:
    """Of all recorded files that are gone. streams: only of these, if there are any. before: ms, only those that end
    before that time."""
    choices = []
    kept = retired_before = 0
    for path, event in sorted(catalog.file_events().items()):
        if (streams and event.stream not in streams) or (before is not None and end_ms(event) >= before):
            continue
        if path in there:
            kept += 1
        elif path in catalog.retired:
            retired_before += 1
        else:
            choices.append(RetirementItem(path, RetirementOutcome.RETIRED, event))
    return RetirementPlan(tuple(choices), kept, retired_before)


def wrong_directory_reason(catalog: FileCatalog, there: Collection[str]) -> str:
    """Why the data directory may not be what it should be, so that nothing of it may be called deleted; empty if
    there is no reason for that."""
    expected = catalog.file_events().keys() - catalog.retired.keys()
    if expected and not any(path in there for path in expected):
        return f"none of the {len(expected)} recorded files is there: is its disk mounted?"
    return ""


def adoption_event(event: FileEvent, time: int, who: str, reason: str, host: str) -> FileAdopted:
    """The event of a retired file that is back, with the bytes that it had. time: ms."""
    head = len(event.carry) if isinstance(event, FileFinished) else 0
    frames = event.frames + head
    damage = event.damage if isinstance(event, FileAdopted) else ""
    return FileAdopted(
        *(event.group, event.stream, event.path, frames, event.bytes, event.sha256),
        *(time, who, host, reason, damage),
    )


def end_ms(event: FileEvent) -> int:
    """The time of a file's last frame, ms; as far as an event or its name says it."""
    if isinstance(event, FileFinished):
        return event.last.time
    return start_and_number(event.path)[0] * 1000


def _named(path: str, event: FileEvent | None, before: FileRetired | None, there: Collection[str]) -> RetirementItem:
    if event is None:
        return RetirementItem(path, RetirementOutcome.UNKNOWN)
    if before:
        return RetirementItem(path, RetirementOutcome.RETIRED_BEFORE, event, before)
    return RetirementItem(path, RetirementOutcome.STILL_THERE if path in there else RetirementOutcome.RETIRED, event)


def _by_directory(event: Mapping[str, FileEvent]) -> dict[str, list[str]]:
    """The recorded files of each directory, and of those in it."""
    found: dict[str, list[str]] = {}
    for path in event:
        directory = path.rpartition("/")[0]
        while directory:
            found.setdefault(directory, []).append(path)
            directory = directory.rpartition("/")[0]
    return found
