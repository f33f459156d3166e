"""A file that is rebuilt, and where it goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from archiver.core.events import FileFinished
from archiver.core.segmentation import CloseReason


class FileContent(Protocol):
    """What a file is made of, in whatever form the target wants it. length: bytes so far."""

    @property
    def length(self) -> int:
        """Bytes so far."""

    def write(self, parts: Sequence[bytes]) -> None:
        """Append these."""


@dataclass(slots=True)
class RebuiltFile:
    """A file that is rebuilt, or would be. event: the archive's, if it has one and the file shall be as that says.

    content: None if it isn't wanted, or can't be rebuilt; then `missing` says why. close_reason: None while it isn't
    closed.
    """

    stream: str
    path: str
    first_ms: int
    content: FileContent | None
    event: FileFinished | None
    missing: str = ""
    frames: int = 0
    last_ms: int = 0
    close_reason: CloseReason | None = None


class RebuildTarget(Protocol):
    """Where rebuilt files go."""

    def begin(self, stream: str, path: str, first_ms: int) -> FileContent:
        """A file begins; first_ms: the time of its first frame. Raises OSError."""

    def finish(self, file: RebuiltFile) -> None:
        """It is whole. Raises OSError."""

    def drop(self, file: RebuiltFile) -> None:
        """It isn't wanted after all. Raises OSError."""
