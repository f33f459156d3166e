"""What a replay is asked for, where it begins, and how far the archive is that it makes again."""

from dataclasses import dataclass

from archiver.core.checkpoint import Checkpoint
from archiver.core.paths import NameFormat
from archiver.core.segmentation import Settings


@dataclass(frozen=True, slots=True)
class Overrides:
    """What an operator wants otherwise than it was recorded. Times in ms; None: as recorded."""

    time_per_file_ms: int | None = None
    gap_ms: int | None = None
    name_format: NameFormat | None = None
    carry: tuple[int, ...] | None = None

    @property
    def any_given(self) -> bool:
        """Whether anything is: then names, cuts and bytes aren't those of the live archive."""
        return self != Overrides()

    def apply_to(self, recorded: Settings) -> Settings:
        """The settings that result."""
        return Settings(
            recorded.time_per_file_ms if self.time_per_file_ms is None else self.time_per_file_ms,
            recorded.gap_ms if self.gap_ms is None else self.gap_ms,
            self.name_format or recorded.name_format,
            recorded.carry if self.carry is None else self.carry,
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files: those of acquisitions that overlap `since_ms` to `until_ms`, and of these only the paths in
    `paths`, if it has any."""

    since_ms: int | None = None
    until_ms: int | None = None
    paths: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ReplayStart:
    """Where reading begins. offset: None for the topic's first record. checkpoint: what was so there, None if that
    isn't known; then `is_truncated` says whether the topic once had records before it."""

    offset: int | None
    checkpoint: Checkpoint | None
    is_truncated: bool


@dataclass(frozen=True, slots=True)
class ArchivePosition:
    """How far the archive is. offset: what was closed before it has its event. settings: of what has none yet.
    open_file_first: epoch and seq of the first record of the file that is open at that offset, if one is; is_known:
    whether that can be said."""

    offset: int
    settings: Settings
    open_file_first: tuple[str, int] | None = None
    is_known: bool = False
