"""Rebuild a stream's files from its records, as the live archive has them.

The same object decides (core/segmenter.py), and the same tracker accepts records (g3stream/contract/sequence.py).
What differs is the state at the start: not a commit, but the events of the archive's files (core/catalog.py). These
have the settings of each acquisition, the names where a file couldn't have its own, and the digest of each file. No
I/O here: a `RebuildTarget` takes the content.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum

from msgspec.structs import replace

from archiver.core.checkpoint import FramePlace
from archiver.core.events import FileFinished
from archiver.core.paths import NameFormat
from archiver.core.segmentation import FOREVER_MS, CloseReason, Settings, State, is_repeated
from archiver.core.segmenter import AnyMessage, Carry, Decision, Segmenter
from archiver.core.used_names import Names
from archiver.replay.plan import ArchivePosition, Selection, TopicRange
from archiver.replay.rebuilt import RebuildTarget, RebuiltFile, SelectedFiles
from archiver.replay.recorded_files import RecordedFiles
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.sequence import Record, SequenceTracker
from g3stream.frame_format.layout import frame_type_name


class _Known(IntEnum):
    """What is known of the archive's state at the present record: each step more than the one before."""

    NOTHING = 0
    """The next frame may be within a file that began before the topic does."""
    BETWEEN_FILES = 1
    """No file is open; the frames that head the next one may be missing."""
    CARRY = 2
    """The frames that head the next file, too."""
    STATE = 3
    """All: the names and the sequence, too."""


class Rebuilder:
    """Rebuilds files from the records of a range that are fed.

    It has more attributes than other classes, of which a third is its result, and a third what it is given.
    events: of this stream's files, in order.
    load: reads the frames of a carry from their places.
    is_truncated: whether the topic once had records before its present first one.
    """

    def __init__(
        self,
        stream: str,
        topic_range: TopicRange,
        events: Sequence[FileFinished],
        selection: Selection,
        target: RebuildTarget,
        load: Callable[[Mapping[int, FramePlace]], Carry],
        position: ArchivePosition,
        *,
        is_truncated: bool,
    ) -> None:
        self.file: RebuiltFile | None = None
        """The open file."""
        self.not_rebuilt: list[RebuiltFile] = []
        """Files that can't be rebuilt; `missing` says why."""
        self.done = False
        """Whether no selected file can follow."""
        self.lost_records = 0
        """Records that are missing in the topic, by their sequence."""
        self._overrides, self._target, self._load = selection.overrides, target, load
        self._through = topic_range.through
        self._recorded = RecordedFiles(events, position, is_truncated=is_truncated)
        self._selected = SelectedFiles(selection, target, events)
        before = topic_range.after.checkpoint if topic_range.after else None
        self._known = _Known.NOTHING if is_truncated and not before else _Known.STATE
        self._segmenter = Segmenter(before.state, load(before.carry)) if before else Segmenter(State(stream))
        self._sequence = SequenceTracker(before.epochs, before.forgotten) if before else SequenceTracker()
        self._first_offset = -1  # of the first message fed
        self._run_may_follow = False

    def feed(self, headers: RecordHeaders, time_ms: int, value: bytes, offset: int) -> None:
        """Feed the topic's next message, with its time in ms. Raises the target's errors."""
        if self._first_offset < 0:
            self._first_offset = offset
        record = self._sequence.assemble(headers, time_ms, value, offset)
        self._run_may_follow = record is not None and headers.chunk == (1, 1)
        if record is None:
            return
        self._process(record)
        self._sequence.mark_processed(record.headers)
        if self._sequence.losses:
            self.lost_records += sum(loss.records or 0 for loss in self._sequence.losses)
            self._sequence.losses.clear()

    def feed_run(self, messages: deque[AnyMessage], before: AnyMessage, headers: RecordHeaders) -> int:
        """Take from the messages those that only continue the file after `before`, fed last; return their number.

        headers: those of `before`.
        """
        file, last = self.file, self._through
        if (
            file is None
            or not messages
            or self.done
            or self._known is not _Known.STATE
            or not self._selected.is_since_reached
            or not self._run_may_follow
            or self._sequence.has_incomplete
            or (last and (messages[-1].offset() or 0) > last.closing.offset)
        ):
            return 0
        run = self._segmenter.take_run(messages, before, headers, self._recorded.frames_within(headers))
        if run is None:
            return 0
        self._sequence.advance(headers.epoch, run.headers.seq)
        file.append(run.values, len(run.values), run.times[-1])
        return len(run.values)

    def finish(self) -> None:
        """End at the topic's end: the open file stays open, if it is selected."""
        if self.file and not self._selected.is_since_reached:
            self._target.drop(self.file)
            self.file = None
        self._selected.on_acquisition_end()

    def _process(self, record: Record) -> None:
        if self._through and record.offset > self._through.closing.offset:
            self.done = True
            return
        if self._known is not _Known.STATE:
            self._synchronize(record)
        self._recorded.begin(record)
        while (decision := self._segmenter.decide(record, self._settings_for(record))).close:
            self._close_file(decision.close, record)
            if self.done:
                return
        if decision.opens:
            self._open_file(decision)
            if self.done:
                return
        kind = record.headers.kind
        if decision.writes:
            assert self.file
            self.file.append(record.value, 1, record.time_ms)
            self._selected.on_frame(record.time_ms)
        elif kind in (Kind.START, Kind.END, Kind.CONNECTED, Kind.LOST):
            self._known = max(self._known, _Known.CARRY if kind is Kind.END else _Known.BETWEEN_FILES)
        self._segmenter.apply(decision)
        self._recorded.end(record)

    def _settings_for(self, record: Record) -> Settings:
        state = self._segmenter.state
        if state.file:
            return self._recorded.settings
        if not self._recorded.is_inside:
            self._recorded.see_newest_settings(record)
            if self._recorded.was_recorded(record.offset) and is_repeated(state, record.headers):
                # The archive continued after it, and it is in no file: it was left out, whatever the settings before.
                name_format = self._overrides.name_format or NameFormat.SESSION
                return replace(self._overrides.apply_to(self._recorded.settings), name_format=name_format)
        settings = self._overrides.apply_to(self._recorded.settings)
        # Only the events show where a file ends that began before the topic does.
        return settings if self._known else replace(settings, time_per_file_ms=FOREVER_MS)

    def _synchronize(self, record: Record) -> None:
        """Adopt the archive's state, if it isn't known yet, and this record closed or began a recorded file."""
        closed_file, begun = self._recorded.closed_by(record), self._recorded.beginning_with(record)
        # If the original was before our first record, this is a copy, from a killed ingest.
        is_original = closed_file and closed_file.closing.offset >= self._first_offset
        if closed_file and is_original and not self._is_original_cut(closed_file):
            self._adopt_state(closed_file, closed_file.checkpoint.state, closed_file.checkpoint.epochs)
        elif begun and begun.first.offset >= self._first_offset:
            before = self._recorded.before(begun)
            if before is None or not self._is_original_cut(before):
                state = before.checkpoint.state if before else State(self._segmenter.state.stream)
                if before is None or before.why is not CloseReason.TIME:
                    state = replace(state, acquisition=None, start_id=begun.id)
                self._adopt_state(before, replace(state, carry=begun.carry), _epochs_before(begun, before))

        if self._known is not _Known.STATE and self._segmenter.state.file is None:
            self._adopt_sessions(record)

    def _adopt_sessions(self, record: Record) -> None:
        """Adopt the sessions of the last file before this record: their repeated frames are in no file.

        The rest of the state isn't known.
        """
        if last := self._recorded.newly_finished_before(record.offset):
            found = last.checkpoint.state
            state = replace(self._segmenter.state, session=found.session, num=found.num, names=found.names)
            self._segmenter.reset(state)

    def _is_original_cut(self, event: FileFinished) -> bool:
        return event.why is CloseReason.TIME and self._overrides.any_given

    def _adopt_state(self, after: FileFinished | None, state: State, epochs: Sequence[tuple[str, int]]) -> None:
        self._abort_file()
        places = after.checkpoint.carry if after else {}
        carry = self._load({code: place for code, place in places.items() if code in state.carry})
        self._segmenter.reset(state, carry)
        self._sequence.prepend(epochs, after.checkpoint.forgotten if after else ())
        self._known = _Known.STATE

    def _open_file(self, decision: Decision) -> None:
        record, before = decision.record, self._segmenter.state
        time_ms = record.time_ms
        event = None if self._overrides.any_given else self._recorded.beginning_with(record)
        if (
            before.acquisition is None or abs(time_ms - before.last_frame_ms) > before.acquisition.settings.gap_ms
        ) and self._selected.on_acquisition(time_ms, record.offset):
            self.done = True
            return
        file = RebuiltFile(event.path if event else decision.path, time_ms, None, event)
        if not self._known:
            file.missing = "its beginning is no longer in the topic"
        elif missing := self._missing_carry(decision, event):
            file.missing = f"its head repeats a frame of type {frame_type_name(missing)} that no longer exists"
        elif self._selected.wants(file.path):
            file.content = self._target.begin(file.path, time_ms)
        self.file = file
        if file.content:
            for frame in self._segmenter.head(decision).values():
                file.content.write(frame.value)

    def _missing_carry(self, decision: Decision, event: FileFinished | None) -> int:
        """Return the type of a frame that the file's head needs and that isn't available; 0 if there is none."""
        needed = list(event.carry if event else decision.head_types)
        if not event and self._known < _Known.CARRY:
            assert decision.state.acquisition
            carried, first = decision.state.acquisition.settings.carry, decision.record.headers.type
            needed += [code for code in carried if code != first]
        available = self._segmenter.head(decision)
        return next((code for code in needed if code not in available), 0)

    def _close_file(self, why: CloseReason, closing: Record) -> None:
        if not self._known:
            self._abort_file()
            self._segmenter.reset(replace(self._segmenter.state, file=None, acquisition=None, names=Names()))
            self._known = _Known.BETWEEN_FILES
            return
        file = self.file
        assert file
        self.file, file.close_reason = None, why
        self._segmenter.on_closed(file.path)
        self.done = file.event is not None and file.event is self._through
        if not file.event and not self._overrides.any_given and self._recorded.has_events_until(closing.offset):
            # As when a killed ingest published records again that had been recorded before the topic's first record.
            self._target.drop(file)
            file.missing = file.missing or "no event of a file that begins with this record"
        if file.missing:
            self.not_rebuilt.append(file)
        elif file.content:
            self._selected.on_closed(file)
        if why is not CloseReason.TIME:
            self._selected.on_acquisition_end()

    def _abort_file(self) -> None:
        if self.file:
            self._target.drop(self.file)
            self.not_rebuilt.append(self.file)
            self.file = None


def _epochs_before(event: FileFinished, before: FileFinished | None) -> list[tuple[str, int]]:
    """Return what had been recorded before a file's first record, by producer epoch.

    Between that and the end of the file before, there may have been more records of older epochs than the event
    shows. As an epoch ends when the next begins, all of theirs count as recorded.
    """
    epochs = dict(before.checkpoint.epochs) if before else {}
    if before:
        epochs[before.closing.epoch] = 0
    first = event.first
    return [*((epoch, FOREVER_MS) for epoch in epochs if epoch != first.epoch), (first.epoch, first.seq - 1)]
