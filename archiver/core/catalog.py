"""An archive's own account of itself: all that its group has told on g3.files."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from archiver.core.checkpoint import CheckpointError
from archiver.core.events import Event, FileAdopted, FileFinished, FileRetired, FileSalvaged, RecordsLost
from archiver.core.segmentation import Why

_SURE_ENDS = (Why.START, Why.END, Why.LOST)
"""Of acquisitions, whatever the settings; a gap depends on them, which may be others in a replay."""


Told = FileFinished | FileSalvaged | FileAdopted
"""What tells of a file."""


@dataclass(frozen=True, slots=True)
class Account:
    """What was told, each thing once. files: by stream, in the order in which they were finished. unreadable: what is
    wrong with the events that can't be understood. adopted, retired: by path; retired are only those that are so by
    the last event."""

    files: Mapping[str, tuple[FileFinished, ...]]
    salvaged: tuple[FileSalvaged, ...]
    losses: tuple[RecordsLost, ...]
    unreadable: tuple[str, ...] = ()
    adopted: Mapping[str, FileAdopted] = field(default_factory=dict)
    retired: Mapping[str, FileRetired] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[Event | CheckpointError]) -> "Account":
        """Of events in their order. One that comes again (at least once is the promise) replaces the first."""
        # Not by the key alone: what was salvaged may have been found to be a file that was told of already.
        found: dict[tuple[type[Event], str], Event] = {}
        unreadable = []
        adopted: dict[str, FileAdopted] = {}
        retired: dict[str, FileRetired] = {}
        for event in events:
            if isinstance(event, CheckpointError):
                unreadable.append(str(event))
            elif isinstance(event, FileRetired):
                retired[event.path] = event
            elif isinstance(event, FileAdopted):
                adopted[event.path] = event
                retired.pop(event.path, None)
            else:
                found[type(event), event.key] = event
        files: dict[str, list[FileFinished]] = {}
        for event in found.values():
            if isinstance(event, FileFinished):
                files.setdefault(event.stream, []).append(event)
        account = cls(
            {stream: tuple(theirs) for stream, theirs in files.items()},
            tuple(event for event in found.values() if isinstance(event, FileSalvaged)),
            tuple(event for event in found.values() if isinstance(event, RecordsLost)),
            tuple(unreadable),
            adopted,
        )
        if not retired:
            return account
        told = account.told()
        return replace(
            account,
            retired={path: event for path, event in retired.items() if path in told and _is_of(event, told[path])},
        )

    def told(self) -> dict[str, Told]:
        """What tells of each file, by its path."""
        found: dict[str, Told] = dict(self.adopted)
        found |= {event.path: event for files in self.files.values() for event in files}
        return found | {event.path: event for event in self.salvaged}


def _is_of(retired: FileRetired, told: Told) -> bool:
    """Whether it was that file which was retired, and not one that had its path before."""
    return retired.sha256 == told.sha256


def recent(events: Iterable[Event | CheckpointError], since: int) -> Iterator[Event | CheckpointError]:
    """What a replay of the time from `since` on (ms) needs of these events, by what they say.

    That is no file of an acquisition before that time, but for each stream's last one, after which reading begins.

    So that the events of years aren't held at once: they take 4 kB each.
    """
    found: dict[str, dict[str, FileFinished]] = {}
    left_out: set[str] = set()
    reached: set[str] = set()
    for event in events:
        if not isinstance(event, FileFinished):
            yield event
            continue
        if event.key in left_out:
            continue  # told again, after a kill or a freeze
        theirs = found.setdefault(event.stream, {})
        theirs[event.key] = event
        if event.last.time >= since:
            reached.add(event.stream)
        if event.stream not in reached and event.why in _SURE_ENDS:
            left_out.update(theirs.keys() - {event.key})
            found[event.stream] = {event.key: event}
    for theirs in found.values():
        yield from theirs.values()
