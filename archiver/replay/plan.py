"""The plan of a replay: what is selected, which ranges of the topic are read for it, and how far the archive is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from msgspec.structs import replace

from archiver.core.events import FileFinished
from archiver.core.paths import NameFormat
from archiver.core.segmentation import CloseReason, Settings


@dataclass(frozen=True, slots=True)
class Overrides:
    """Settings that differ from the recorded ones. Times in ms; None: as recorded."""

    time_per_file_ms: int | None = None
    gap_ms: int | None = None
    name_format: NameFormat | None = None
    carry: tuple[int, ...] | None = None

    @property
    def any_given(self) -> bool:
        """Whether any is given: then names, cuts and bytes aren't those of the live archive."""
        return self != Overrides()

    def apply_to(self, recorded: Settings) -> Settings:
        """Return the settings that result."""
        return replace(recorded, **{name: value for name, value in asdict(self).items() if value is not None})


@dataclass(frozen=True, slots=True)
class Selection:
    """What to rebuild: files of acquisitions that overlap `since_ms` to `until_ms`, and in `paths`, if it has any."""

    since_ms: int | None = None
    until_ms: int | None = None
    paths: frozenset[str] = frozenset()
    overrides: Overrides = Overrides()
    """The settings to rebuild them with."""


@dataclass(frozen=True, slots=True)
class TopicRange:
    """A range of a topic to read: it begins after one recorded file, and ends with the end of another."""

    after: FileFinished | None = None
    """None: it begins with the topic's first record."""
    through: FileFinished | None = None
    """None: it ends with the topic, or where nothing selected can follow."""


@dataclass(frozen=True, slots=True)
class ArchivePosition:
    """How far the archive is recorded."""

    offset: int
    """Files that were closed before it have their events."""
    settings: Settings
    """Of files that have no event yet."""
    open_file_first: tuple[str, int] | None = None
    """Epoch and seq of the first record of the file that is open at that offset, if there is one."""
    is_known: bool = False
    """Whether a checkpoint shows which file is open."""


def topic_ranges(events: Sequence[FileFinished], selection: Selection) -> list[TopicRange]:
    """Return the ranges to read for the selected files. events: of one stream, in order."""
    if selection.paths:
        ranges: list[TopicRange] = []
        for number, event in enumerate(events):
            if event.path in selection.paths:
                before = events[number - 1] if number else None
                if ranges and ranges[-1].through is before:
                    before = ranges.pop().after
                ranges.append(TopicRange(before, event))
        return ranges
    # Where an acquisition ends whatever the settings.
    within = {CloseReason.TIME, CloseReason.GAP} if selection.overrides.any_given else {CloseReason.TIME}
    last = None
    for event in events:
        if selection.since_ms is None or event.last.time >= selection.since_ms:
            break
        if event.why not in within:
            last = event
    return [TopicRange(last)]
