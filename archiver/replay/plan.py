"""The plan of a replay: what is selected, where reading begins, and how far the archive is."""

from dataclasses import dataclass

from archiver.core.checkpoint import Checkpoint
from archiver.core.paths import NameFormat
from archiver.core.segmentation import Settings


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
        return Settings(
            recorded.time_per_file_ms if self.time_per_file_ms is None else self.time_per_file_ms,
            recorded.gap_ms if self.gap_ms is None else self.gap_ms,
            self.name_format or recorded.name_format,
            recorded.carry if self.carry is None else self.carry,
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected files: of acquisitions that overlap `since_ms` to `until_ms`, and in `paths`, if it has any."""

    since_ms: int | None = None
    until_ms: int | None = None
    paths: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ReplayStart:
    """Where reading begins."""

    offset: int | None
    """None for the topic's first record."""
    checkpoint: Checkpoint | None
    """The state there; None if it isn't known."""
    is_truncated: bool
    """Whether the topic once had records before, if the state isn't known."""


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
