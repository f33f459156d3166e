"""The files that a replay selects, acquisition by acquisition. Pure: a RebuildTarget takes the files."""

from collections.abc import Sequence

from archiver.core.events import FileFinished
from archiver.replay.plan import Selection
from archiver.replay.rebuilt import RebuildTarget, RebuiltFile


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
            self._held_back.append(file)

    def on_acquisition_end(self) -> None:
        """Drop what was held back: the acquisition has ended before `since_ms`. Raises OSError."""
        for file in self._held_back:
            self._target.drop(file)
        self._held_back.clear()
        self.is_since_reached = self._selection.since_ms is None
