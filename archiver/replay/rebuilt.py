"""Rebuilt files: their outcome, the base of their targets, which writes nothing, and which of them it gets. Pure."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import StrEnum

from archiver.core.events import FileFinished
from archiver.core.segmentation import CloseReason
from archiver.replay.plan import Selection


class FileContent:
    """The content of a file, of which only the size is computed; targets that write have others."""

    def __init__(self) -> None:
        self.length = 0
        """Bytes so far."""

    def write(self, parts: Sequence[bytes]) -> None:
        """Append these bytes."""
        self.length += sum(map(len, parts))


@dataclass(slots=True)
class RebuiltFile:
    """A file that is rebuilt, or would be."""

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

    def append(self, parts: Sequence[bytes], frames: int, last_ms: int) -> None:
        """Append these bytes, of so many frames; last_ms: the last one's time. Raises OSError."""
        if self.content:
            self.content.write(parts)
        self.frames += frames
        self.last_ms = last_ms


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

    def begin(self, path: str, first_ms: int) -> FileContent:  # noqa: ARG002 - for other targets
        """Begin a file. first_ms: the time of its first frame. Raises OSError."""
        return FileContent()

    def finish(self, file: RebuiltFile) -> None:
        """Finish a complete file. Raises OSError."""
        assert file.content
        outcome = RebuildOutcome.RETIRED if file.path in self._skip else None
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


class SelectedFiles:
    """Passes to the target the closed files of the acquisitions that overlap the selected time.

    Whether an acquisition reaches that time shows only when one of its frames does: until then its files are held
    back.
    events: of the archive's files.
    """

    def __init__(self, selection: Selection, target: RebuildTarget, events: Sequence[FileFinished]) -> None:
        self.is_since_reached = selection.since_ms is None
        """Whether the present acquisition has reached `since_ms`."""
        self._selection = selection
        self._target = target
        self._held_back: list[RebuiltFile] = []
        self._too_late = False  # whether this acquisition begins after `until_ms`
        until = selection.until_ms
        self._last_offset = max(
            (event.closing.offset for event in events if until is None or event.first.time <= until), default=-1
        )

    def on_acquisition(self, first_ms: int, offset: int) -> bool:
        """Begin an acquisition with the frame at that offset; return whether nothing selected can follow."""
        self._too_late = self._selection.until_ms is not None and first_ms > self._selection.until_ms
        return self._too_late and offset > self._last_offset

    def wants(self, path: str) -> bool:
        """Whether a file of the present acquisition may be selected."""
        return not self._too_late and (not self._selection.paths or path in self._selection.paths)

    def on_frame(self, time_ms: int) -> None:
        """Finish what was held back, if this frame is the first that reaches `since_ms`. Raises OSError."""
        since = self._selection.since_ms
        if not self.is_since_reached and since is not None and time_ms >= since:
            self.is_since_reached = True
            for file in self._held_back:
                self._target.finish(file)
            self._held_back.clear()

    def on_closed(self, file: RebuiltFile) -> None:
        """Take a closed file that can be rebuilt. Raises OSError."""
        if self.is_since_reached:
            self._target.finish(file)
        else:
            self._target.flush(file)  # nothing else writes what is buffered of it
            self._held_back.append(file)

    def on_acquisition_end(self) -> None:
        """Drop what was held back: the acquisition has ended before `since_ms`. Raises OSError."""
        for file in self._held_back:
            self._target.drop(file)
        self._held_back.clear()
        self.is_since_reached = self._selection.since_ms is None
