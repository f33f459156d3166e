"""A rebuilt file, and the interface of its target."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from archiver.core.events import FileFinished
from archiver.core.segmentation import CloseReason


class FileContent(Protocol):
    """The content of a file, in the form that the target needs."""

    @property
    def length(self) -> int:
        """Bytes so far."""

    def write(self, parts: Sequence[bytes]) -> None:
        """Append these bytes."""


@dataclass(slots=True)
class RebuiltFile:
    """A file that is rebuilt, or would be."""

    stream: str
    path: str
    first_ms: int
    """Time of its first frame, ms since the epoch."""
    content: FileContent | None
    """None if it isn't selected, or can't be rebuilt."""
    event: FileFinished | None
    """The archive's, if it has one that the file must match."""
    missing: str = ""
    """Why it can't be rebuilt, in words."""
    frames: int = 0
    last_ms: int = 0
    """Time of its last frame, ms since the epoch."""
    close_reason: CloseReason | None = None
    """None while it is open."""


class RebuildTarget(Protocol):
    """The target of rebuilt files."""

    def begin(self, stream: str, path: str, first_ms: int) -> FileContent:
        """Begin a file. first_ms: the time of its first frame. Raises OSError."""

    def finish(self, file: RebuiltFile) -> None:
        """Finish a complete file. Raises OSError."""

    def drop(self, file: RebuiltFile) -> None:
        """Drop a file that isn't selected after all. Raises OSError."""
