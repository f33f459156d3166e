"""Which recorded files are to be retired: of what an operator asks for, and what is there. Pure.

A file is retired when it was deleted on purpose: then it isn't missing. Nothing may be retired by mistake, as nobody
would hear of its loss: so what isn't named is retired only if it is gone, and not if all is gone, as below an empty
mount point.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from archiver.core.catalog import Account, Told
from archiver.core.events import FileAdopted, FileFinished, FileRetired
from archiver.core.paths import start_and_number


class Outcome(StrEnum):
    """What becomes of a file that an operator names."""

    RETIRED = "retired"
    STILL_THERE = "retired, still there"
    BEFORE = "was retired before"
    UNKNOWN = "not recorded"


@dataclass(frozen=True, slots=True)
class Choice:
    """A file that was named, or found missing. told: what recorded it, None if nothing did. before: its event, if it
    was retired before."""

    path: str
    outcome: Outcome
    told: Told | None = None
    before: FileRetired | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done. choices: by path. there: of files that were to be retired only if they are gone, how many
    aren't. before: of those gone, how many were retired before."""

    choices: tuple[Choice, ...]
    there: int = 0
    before: int = 0

    @property
    def retire(self) -> tuple[Told, ...]:
        """The files to be retired now."""
        now = (Outcome.RETIRED, Outcome.STILL_THERE)
        return tuple(it.told for it in self.choices if it.told and it.outcome in now)

    @property
    def unknown(self) -> tuple[str, ...]:
        """What was named, and is no recorded file."""
        return tuple(it.path for it in self.choices if it.outcome is Outcome.UNKNOWN)


def of_named(account: Account, there: Collection[str], names: Iterable[str], streams: Collection[str] = ()) -> Plan:
    """Of files or directories that an operator names, by their paths below the data directory.

    there: the recorded files that exist. These are retired, too: a clean-up job may say so first, and delete then.
    streams: only files of these count as recorded, if there are any.
    """
    told = {path: event for path, event in account.told().items() if not streams or event.stream in streams}
    below = _by_directory(told)
    paths: dict[str, None] = {}
    for name in names:
        paths |= dict.fromkeys(below.get(name, [name]) if name not in told else [name])
    return Plan(tuple(_named(path, told.get(path), account.retired.get(path), there) for path in sorted(paths)))


def of_missing(
    account: Account, there: Collection[str], streams: Collection[str] = (), before: int | None = None
) -> Plan:
    """Of all recorded files that are gone. streams: only of these, if there are any. before: ms, only those that end
    before that time."""
    choices = []
    kept = retired_before = 0
    for path, event in sorted(account.told().items()):
        if (streams and event.stream not in streams) or (before is not None and end_of(event) >= before):
            continue
        if path in there:
            kept += 1
        elif path in account.retired:
            retired_before += 1
        else:
            choices.append(Choice(path, Outcome.RETIRED, event))
    return Plan(tuple(choices), kept, retired_before)


def doubt(account: Account, there: Collection[str]) -> str:
    """Why the data directory may not be what it should be, so that nothing of it may be called deleted; empty if
    there is no reason for that."""
    expected = account.told().keys() - account.retired.keys()
    if expected and not any(path in there for path in expected):
        return f"none of the {len(expected)} recorded files is there: is its disk mounted?"
    return ""


def adopted_again(told: Told, time: int, who: str, reason: str, host: str) -> FileAdopted:
    """The event of a retired file that is back, with the bytes that it had. time: ms."""
    head = len(told.carry) if isinstance(told, FileFinished) else 0
    frames = told.frames + head
    damage = told.damage if isinstance(told, FileAdopted) else ""
    return FileAdopted(
        *(told.group, told.stream, told.path, frames, told.bytes, told.sha256),
        *(time, who, host, reason, damage),
    )


def end_of(event: Told) -> int:
    """The time of a file's last frame, ms; as far as an event or its name says it."""
    if isinstance(event, FileFinished):
        return event.last.time
    return start_and_number(event.path)[0] * 1000


def _named(path: str, told: Told | None, before: FileRetired | None, there: Collection[str]) -> Choice:
    if told is None:
        return Choice(path, Outcome.UNKNOWN)
    if before:
        return Choice(path, Outcome.BEFORE, told, before)
    return Choice(path, Outcome.STILL_THERE if path in there else Outcome.RETIRED, told)


def _by_directory(told: Mapping[str, Told]) -> dict[str, list[str]]:
    """The recorded files of each directory, and of those in it."""
    found: dict[str, list[str]] = {}
    for path in told:
        directory = path.rpartition("/")[0]
        while directory:
            found.setdefault(directory, []).append(path)
            directory = directory.rpartition("/")[0]
    return found
