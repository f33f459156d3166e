"""An archive's own account of itself: all that its group has told on g3.files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from archiver.checkpoint import CheckpointError
from archiver.event import Event, FileFinished, FileSalvaged, RecordsLost


@dataclass(frozen=True, slots=True)
class Account:
    """What was told, each thing once. files: by stream, in the order in which they were finished. unreadable: what is
    wrong with the events that can't be understood."""

    files: Mapping[str, tuple[FileFinished, ...]]
    salvaged: tuple[FileSalvaged, ...]
    losses: tuple[RecordsLost, ...]
    unreadable: tuple[str, ...] = ()

    @classmethod
    def of(cls, events: Iterable[Event | CheckpointError]) -> "Account":
        """Of events in their order. One that comes again (at least once is the promise) replaces the first."""
        # Not by the key alone: what was salvaged may have been found to be a file that was told of already.
        found: dict[tuple[type[Event], str], Event] = {}
        unreadable = []
        for event in events:
            if isinstance(event, CheckpointError):
                unreadable.append(str(event))
            else:
                found[type(event), event.key] = event
        files: dict[str, list[FileFinished]] = {}
        for event in found.values():
            if isinstance(event, FileFinished):
                files.setdefault(event.stream, []).append(event)
        return cls(
            {stream: tuple(theirs) for stream, theirs in files.items()},
            tuple(event for event in found.values() if isinstance(event, FileSalvaged)),
            tuple(event for event in found.values() if isinstance(event, RecordsLost)),
            tuple(unreadable),
        )
