"""The frames of a topic that belong in no file: with names by session, frames that a sender sent again.

Follows a recording from file to file as far as that decision needs (segmentation.is_repeated). Pure.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from archiver.core import segmentation
from archiver.core.events import FileFinished
from archiver.core.paths import NameFormat
from archiver.core.segmentation import FOREVER_MS, Acquisition, CloseReason, OpenFileState, Settings, State
from archiver.core.segmenter import Segmenter
from g3stream.contract.headers import RecordHeaders
from g3stream.contract.sequence import Record


class ResendFilter:
    """Decides for one stream which frames are left out of its files."""

    def __init__(self, stream: str, before: FileFinished | None, events: Sequence[FileFinished] = ()) -> None:
        """Begin after the file `before`; None if the topic has no file before the first frame to compare.

        events: of all the stream's files, also of an earlier topic of the same name. Until the first file of this
        topic begins, whatever is in any of those files counts as recorded.
        """
        self._highest = {} if before else _highest_nums(events)
        self._segmenter = Segmenter(before.checkpoint.state if before else State(stream))
        self._continues = before is not None and before.why is CloseReason.TIME
        self.by_session = before is not None and before.settings.name_format is NameFormat.SESSION
        """Whether the file opened last is named by session."""

    def on_file_open(self, acquisition: Acquisition, record: Record) -> None:
        """Note that a file of that acquisition begins with this frame."""
        self._highest.clear()
        before = self._segmenter.state
        within = _endless(before.acquisition) if self._continues and before.acquisition else None
        self._segmenter = Segmenter(replace(before, file=None, acquisition=within, last_frame_ms=record.time_ms))
        self._segmenter.apply(self._segmenter.decide(record, _endless(acquisition).settings))
        self._note_naming(acquisition.settings)

    def on_file_continued(self, acquisition: Acquisition) -> None:
        """Note that the next frames belong to a file whose first ones aren't known."""
        self._highest.clear()
        before = self._segmenter.state
        file = OpenFileState(0, before.last_frame_ms)
        self._segmenter = Segmenter(replace(before, file=file, acquisition=_endless(acquisition)))
        self._note_naming(acquisition.settings)

    def is_left_out(self, record: Record) -> bool:
        """Whether this frame is left out of the open file."""
        acquisition = self._segmenter.state.acquisition
        if not self.by_session or acquisition is None:
            return False
        decision = self._segmenter.decide(record, acquisition.settings)
        self._segmenter.apply(decision)
        return not decision.writes

    def on_file_end(self, event: FileFinished | None) -> None:
        """Note that the open file ends; event: its own, None if it isn't finished."""
        if event:
            self._segmenter = Segmenter(event.checkpoint.state)
            self._note_naming(event.settings)
        elif self._segmenter.state.file:
            self._segmenter.on_closed(segmentation.path(self._segmenter.state))
        self._continues = event is not None and event.why is CloseReason.TIME

    def is_repeated(self, headers: RecordHeaders) -> bool:
        """Whether this frame, between two files, opens no file if they are named by session."""
        state = self._segmenter.state
        if headers.session in self._highest and segmentation.is_repeated(
            replace(state, session=headers.session, num=self._highest[headers.session]), headers
        ):
            return True
        return segmentation.is_repeated(state, headers)

    def _note_naming(self, settings: Settings) -> None:
        self.by_session = settings.name_format is NameFormat.SESSION


def _endless(acquisition: Acquisition) -> Acquisition:
    """The same with files that don't end by time: the events have where they ended."""
    settings = replace(acquisition.settings, time_per_file_ms=FOREVER_MS, gap_ms=FOREVER_MS)
    return replace(acquisition, settings=settings)


def _highest_nums(events: Sequence[FileFinished]) -> dict[int | None, int]:
    """The highest recorded frame_num of each session, as far as the states after these files have it."""
    found: dict[int | None, int] = {}
    for state in (event.checkpoint.state for event in events):
        known = [(it.start, it.num) for it in state.names.sessions if it.num is not None]
        for session, num in [*known, (state.session, state.num)]:
            if session is not None:
                found[session] = max(num, found.get(session, num))
    return found
