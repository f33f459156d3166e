"""An archive's own account of itself: all that its group has told on g3.files."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from archiver.core.checkpoint import CheckpointError
from archiver.core.events import Event, FileAdopted, FileFinished, FileRetired, FileSalvaged, RecordsLost
from archiver.core.segmentation import CloseReason

_DEFINITE_END_REASONS = (CloseReason.START, CloseReason.END, CloseReason.LOST)
"""Of acquisitions, whatever the settings; a gap depends on them, which may be others in a replay."""


FileEvent = FileFinished | FileSalvaged | FileAdopted
"""What tells of a file."""


@dataclass(frozen=True, slots=True)
class FileCatalog:
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
    def from_events(cls, events: Iterable[Event | CheckpointError]) -> "FileCatalog":
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
        catalog = cls(
            {stream: tuple(theirs) for stream, theirs in files.items()},
            tuple(event for event in found.values() if isinstance(event, FileSalvaged)),
            tuple(event for event in found.values() if isinstance(event, RecordsLost)),
            tuple(unreadable),
            adopted,
        )
        if not retired:
            return catalog
        file_events = catalog.file_events()
        return replace(
            catalog,
            retired={
                path: event
                for path, event in retired.items()
                if path in file_events and _retires(event, file_events[path])
            },
        )

    def file_events(self) -> dict[str, FileEvent]:
        """What tells of each file, by its path."""
        found: dict[str, FileEvent] = dict(self.adopted)
        found |= {event.path: event for files in self.files.values() for event in files}
        return found | {event.path: event for event in self.salvaged}


def _retires(retired: FileRetired, file_events: FileEvent) -> bool:
    """Whether it was that file which was retired, and not one that had its path before."""
    return retired.sha256 == file_events.sha256


def events_for_replay(events: Iterable[Event | CheckpointError], since_ms: int) -> Iterator[Event | CheckpointError]:
    """What a replay of the time from `since_ms` on needs of these events, by what they say.

    That is no file of an acquisition before that time, but for each stream's last one, after which reading begins.

    So that the events of years aren't held at once: they take 4 kB each.
    """
    found: dict[str, dict[str, FileFinished]] = {}
    skipped: set[str] = set()
    reached: set[str] = set()
    for event in events:
        if not isinstance(event, FileFinished):
            yield event
            continue
        if event.key in skipped:
            continue  # told again, after a kill or a freeze
        theirs = found.setdefault(event.stream, {})
        theirs[event.key] = event
        if event.last.time >= since_ms:
            reached.add(event.stream)
        if event.stream not in reached and event.why in _DEFINITE_END_REASONS:
            skipped.update(theirs.keys() - {event.key})
            found[event.stream] = {event.key: event}
    for theirs in found.values():
        yield from theirs.values()
