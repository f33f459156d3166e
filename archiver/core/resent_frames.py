"""The frames of a topic that belong in no file: with names by session, frames that a sender sent again.

Follows a recording from file to file as far as that decision needs (segmentation.is_repeated). Pure.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from archiver.core.events import FileFinished
from archiver.core.paths import NameFormat
from archiver.core.segmentation import (
    Acquisition,
    CloseReason,
    Effect,
    OpenFileState,
    Settings,
    State,
    after_close,
    is_repeated,
    step,
)
from g3stream.contract.headers import RecordHeaders


class ResendFilter:
    """Decides for one stream which frames are left out of its files."""

    def __init__(self, stream: str, before: FileFinished | None, events: Sequence[FileFinished] = ()) -> None:
        """Begin after the file `before`; None if the topic has no file before the first frame to compare.

        events: of all the stream's files, also of an earlier topic of the same name. Until the first file of this
        topic begins, whatever is in any of those files counts as recorded.
        """
        self._highest = {} if before else _highest_nums(events)
        self._state = before.checkpoint.state if before else State(stream)
        self._continues = before is not None and before.why is CloseReason.TIME
        self.by_session = before is not None and before.settings.name_format is NameFormat.SESSION
        """Whether the file opened last is named by session."""

    def on_file_open(self, acquisition: Acquisition, headers: RecordHeaders, time_ms: int) -> None:
        """Note that a file of that acquisition begins with this frame."""
        self._highest.clear()
        acquisition_before = self._state.acquisition if self._continues else None
        state = replace(self._state, file=None, acquisition=acquisition_before, last_frame_ms=time_ms)
        self._state, _ = step(state, headers, time_ms, acquisition.settings)
        self._note_naming(acquisition.settings)

    def on_file_continued(self, acquisition: Acquisition) -> None:
        """Note that the next frames belong to a file whose first ones aren't known."""
        self._highest.clear()
        self._state = replace(self._state, file=OpenFileState(0, self._state.last_frame_ms), acquisition=acquisition)
        self._note_naming(acquisition.settings)

    def is_left_out(self, headers: RecordHeaders, time_ms: int) -> bool:
        """Whether this frame is left out of the open file."""
        acquisition = self._state.acquisition
        if not self.by_session or acquisition is None:
            return False
        self._state, effect = step(self._state, headers, time_ms, acquisition.settings)
        return effect is Effect.NOTHING

    def on_file_end(self, event: FileFinished | None) -> None:
        """Note that the open file ends; event: its own, None if it isn't finished."""
        if event:
            self._state = event.checkpoint.state
            self._note_naming(event.settings)
        elif self._state.file:
            self._state = after_close(self._state, self._state.file.number)
        self._continues = event is not None and event.why is CloseReason.TIME

    def is_repeated(self, headers: RecordHeaders) -> bool:
        """Whether this frame, between two files, opens no file if they are named by session."""
        if headers.session in self._highest and is_repeated(
            replace(self._state, session=headers.session, num=self._highest[headers.session]), headers
        ):
            return True
        return is_repeated(self._state, headers)

    def _note_naming(self, settings: Settings) -> None:
        self.by_session = settings.name_format is NameFormat.SESSION


def _highest_nums(events: Sequence[FileFinished]) -> dict[int | None, int]:
    """The highest recorded frame_num of each session, as far as the states after these files have it."""
    found: dict[int | None, int] = {}
    for state in (event.checkpoint.state for event in events):
        known = [(it.start, it.num) for it in state.names.sessions if it.num is not None]
        for session, num in [*known, (state.session, state.num)]:
            if session is not None:
                found[session] = max(num, found.get(session, num))
    return found
