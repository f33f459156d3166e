"""A rebuilt file, its outcome, and the base of its targets, which writes nothing. Pure."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import StrEnum

from archiver.core.events import FileFinished
from archiver.core.segmentation import CloseReason


class FileContent:
    """The content of a file, of which only the size is computed; targets have others."""

    def __init__(self) -> None:
        self.length = 0
        """Bytes so far."""

    def write(self, parts: Sequence[bytes]) -> None:
        """Append these bytes."""
        self.length += sum(map(len, parts))


class SkippedContent(FileContent):
    """Content of a file that isn't rebuilt."""


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


class RebuildOutcome(StrEnum):
    """The outcome of a rebuilt file; the values are shown."""

    WRITTEN = "written"
    ALREADY_THERE = "already there"
    NAME_TAKEN = "not written: another file has its name"
    CHANGED = "not written: it differs from what was recorded"
    RETIRED = "retired, so not rebuilt"


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """A rebuilt file and its outcome; None in a dry run."""

    file: RebuiltFile
    size_bytes: int
    outcome: RebuildOutcome | None


class RebuildTarget:
    """A target of rebuilt files that writes nothing: a dry run. skip: paths of files that aren't rebuilt."""

    def __init__(self, skip: Container[str] = ()) -> None:
        self.results: list[RebuildResult] = []
        self._skip = skip

    def begin(self, stream: str, path: str, first_ms: int) -> FileContent:  # noqa: ARG002 - for other targets
        """Begin a file. first_ms: the time of its first frame. Raises OSError."""
        return SkippedContent() if path in self._skip else FileContent()

    def finish(self, file: RebuiltFile) -> None:
        """Finish a complete file. Raises OSError."""
        assert file.content
        outcome = RebuildOutcome.RETIRED if isinstance(file.content, SkippedContent) else None
        self.results.append(RebuildResult(file, file.content.length, outcome))

    def drop(self, file: RebuiltFile) -> None:
        """Drop a file that isn't selected after all. Raises OSError."""

    def flush(self, file: RebuiltFile | None) -> None:
        """Write what is buffered of the open file. Raises OSError."""

    def keep_partial(self, file: RebuiltFile) -> str:  # noqa: ARG002 - for other targets
        """Keep the open file as a partial, and return its path; empty if there is none. Raises OSError."""
        return ""

    def wait(self) -> None:
        """Wait until all files are finished. Raises OSError."""

    def close(self) -> None:
        """Release everything, and remove unfinished files, as after an error."""
