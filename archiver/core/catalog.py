"""The catalog of an archive: all files and losses that its group has published on g3.files."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from archiver.core.checkpoint import CheckpointError
from archiver.core.events import Event, FileAdopted, FileFinished, FileRetired, FileSalvaged, RecordsLost
from archiver.core.segmentation import CloseReason

_DEFINITE_END_REASONS = (CloseReason.START, CloseReason.END, CloseReason.LOST)
"""They end an acquisition whatever the settings; a gap depends on the settings, which a replay may change."""


FileEvent = FileFinished | FileSalvaged | FileAdopted
"""An event that records a file."""


@dataclass(frozen=True, slots=True)
class FileCatalog:
    """The events of an archive, without repeated ones."""

    files: Mapping[str, tuple[FileFinished, ...]]
    """By stream, in the order in which they were finished."""
    salvaged: tuple[FileSalvaged, ...]
    losses: tuple[RecordsLost, ...]
    unreadable: tuple[str, ...] = ()
    """Why each event that can't be understood can't."""
    adopted: Mapping[str, FileAdopted] = field(default_factory=dict)
    """By path."""
    retired: Mapping[str, FileRetired] = field(default_factory=dict)
    """By path; only files whose last event retires them."""

    @classmethod
    def from_events(cls, events: Iterable[Event | CheckpointError]) -> "FileCatalog":
        """Build it from events in their order; a repeated event (they come at least once) replaces the first."""
        # By their kinds, too: a salvaged file may have turned out to be one that was published as finished before.
        files: dict[str, dict[str, FileFinished]] = {}
        salvaged: dict[str, FileSalvaged] = {}
        losses: dict[str, RecordsLost] = {}
        adopted: dict[str, FileAdopted] = {}
        retired: dict[str, FileRetired] = {}
        unreadable = []
        for event in events:
            match event:
                case CheckpointError():
                    unreadable.append(str(event))
                case FileFinished():
                    files.setdefault(event.stream, {})[event.key] = event
                case FileSalvaged():
                    salvaged[event.key] = event
                case RecordsLost():
                    losses[event.key] = event
                case FileRetired():
                    retired[event.path] = event
                case FileAdopted():
                    adopted[event.path] = event
                    retired.pop(event.path, None)
        recorded = {stream: tuple(theirs.values()) for stream, theirs in files.items()}
        catalog = cls(recorded, tuple(salvaged.values()), tuple(losses.values()), tuple(unreadable), adopted)
        if not retired:
            return catalog
        known = catalog.file_events()  # this file was retired, not an earlier one of the same path:
        return replace(
            catalog,
            retired={path: it for path, it in retired.items() if path in known and it.sha256 == known[path].sha256},
        )

    def file_events(self) -> dict[str, FileEvent]:
        """The event that records each file, by the file's path."""
        found: dict[str, FileEvent] = dict(self.adopted)
        found |= {event.path: event for files in self.files.values() for event in files}
        return found | {event.path: event for event in self.salvaged}


def carry_count(event: FileEvent | None) -> int:
    """Return how many frames are repeated at a file's head without being counted among its `frames`."""
    return len(event.carry) if isinstance(event, FileFinished) else 0


def events_for_replay(events: Iterable[Event | CheckpointError], since_ms: int) -> Iterator[Event | CheckpointError]:
    """Filter the events that a replay of the time from `since_ms` on needs.

    Files of acquisitions before that time are left out, except each stream's last one, after which reading begins.
    So the events of years are never in memory at once: they take 4 kB each.
    """
    found: dict[str, dict[str, FileFinished]] = {}
    skipped: set[str] = set()
    reached: set[str] = set()
    for event in events:
        if not isinstance(event, FileFinished):
            yield event
            continue
        if event.key in skipped:
            continue  # published again, after a kill or a freeze
        theirs = found.setdefault(event.stream, {})
        theirs[event.key] = event
        if event.last.time >= since_ms:
            reached.add(event.stream)
        if event.stream not in reached and event.why in _DEFINITE_END_REASONS:
            skipped.update(theirs.keys() - {event.key})
            found[event.stream] = {event.key: event}
    for theirs in found.values():
        yield from theirs.values()
