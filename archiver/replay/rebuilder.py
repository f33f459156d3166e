"""Rebuild a stream's files from its records, as the live archive has them.

The same code decides (core/sequence.py, core/segmentation.py). What differs is the state at the start: not a
commit, but the events of the archive's files (core/catalog.py). These have the settings of each acquisition, the
names where a file couldn't have its own, and the digest of each file. No I/O here: a `RebuildTarget` takes the
content.
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from archiver.core.checkpoint import FramePlace
from archiver.core.events import FileFinished
from archiver.core.paths import NameFormat, start_and_number
from archiver.core.segmentation import (
    CloseReason,
    Effect,
    Settings,
    State,
    after_close,
    close_reason,
    head_types,
    is_carried,
    is_repeated,
    path,
    step,
)
from archiver.core.sequence import Record, SequenceTracker
from archiver.core.used_names import Names
from archiver.replay.plan import ArchivePosition, Overrides, ReplayStart, Selection
from archiver.replay.rebuilt import RebuildTarget, RebuiltFile
from archiver.replay.recorded_files import RecordedFiles
from archiver.segments.carry import Carry
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.frames.layout import frame_type_name

_FOREVER_MS = 2**62


class Rebuilder:
    """Rebuilds files from the records that are fed, beginning at `start`.

    events: of this stream's files, in order.
    load: reads the frames of a carry from their places.
    through: the last file that is selected, if that is known.
    """

    def __init__(
        self,
        stream: str,
        start: ReplayStart,
        events: Sequence[FileFinished],
        overrides: Overrides,
        selection: Selection,
        target: RebuildTarget,
        load: Callable[[Mapping[int, FramePlace]], Carry],
        position: ArchivePosition,
        through: FileFinished | None = None,
    ) -> None:
        self.file: RebuiltFile | None = None
        """The open file."""
        self.not_rebuilt: list[RebuiltFile] = []
        """Files that can't be rebuilt; `missing` says why."""
        self.done = False
        """Whether no selected file can follow."""
        self.lost_records = 0
        """Records that are missing in the topic, by their sequence."""
        self._stream, self._overrides, self._selection = stream, overrides, selection
        self._recorded = RecordedFiles(events, position, is_truncated=start.is_truncated)
        self._target, self._load, self._through = target, load, through
        before = start.checkpoint
        self._state = before.state if before else State(stream)
        self._sequence = SequenceTracker(before.epochs, before.forgotten) if before else SequenceTracker()
        self._carry = load(before.carry) if before else Carry()
        self._first_offset = -1  # of the first message fed
        # The state has names and sequence; the carry heads the next files.
        self._is_state_known = self._is_carry_known = not start.is_truncated
        # The next frame may be within a file that began before the topic does.
        self._is_truncated = start.is_truncated
        self._held_back: list[RebuiltFile] = []  # closed files of an acquisition that may end before `since_ms`
        self._is_since_reached = selection.since_ms is None  # by this acquisition
        self._too_late = False  # whether this acquisition begins after `until_ms`
        until = selection.until_ms
        self._last_selected_offset = max(
            (event.closing.offset for event in events if until is None or event.first.time <= until), default=-1
        )

    def feed(self, headers: RecordHeaders, time_ms: int, value: bytes, offset: int) -> None:
        """Feed the topic's next message, with its time in ms. Raises the target's errors."""
        if self._first_offset < 0:
            self._first_offset = offset
        record = self._sequence.assemble(headers, time_ms, value, offset)
        if record is None:
            return
        self._process(record)
        self._sequence.mark_processed(record.headers)
        if self._sequence.losses:
            self.lost_records += sum(loss.records or 0 for loss in self._sequence.losses)
            self._sequence.losses.clear()

    def finish(self) -> None:
        """End at the topic's end: the open file stays open, if it is selected."""
        self._drop_held_back()
        if self.file and not self._is_since_reached:
            self._target.drop(self.file)
            self.file = None

    def _process(self, record: Record) -> None:
        headers, time_ms = record.headers, record.time_ms
        if self._through and record.offset > self._through.closing.offset:
            self.done = True
            return
        if not self._is_state_known:
            self._synchronize(record)
        self._recorded.begin(record)
        while why := close_reason(self._state, headers, time_ms):
            self._close_file(why, record)
        if self.done:
            return
        settings = self._settings_for(record) if self._state.file is None else self._recorded.settings
        state, effect = step(self._state, headers, time_ms, settings)
        if effect is Effect.OPEN_AND_WRITE:
            self._open_file(state, record)
            if self.done:
                return
        if effect is not Effect.NOTHING:
            self._write_frame(state, record)
        elif headers.kind in (Kind.START, Kind.END, Kind.CONNECTED, Kind.LOST):
            self._is_truncated = False
            self._is_carry_known = self._is_carry_known or headers.kind is Kind.END
        self._state = state
        self._recorded.end(record)

    def _settings_for(self, record: Record) -> Settings:
        if not self._recorded.is_inside:
            self._recorded.see_newest_settings(record)
            if self._recorded.was_recorded(record.offset) and is_repeated(self._state, record.headers):
                # The archive continued after it, and it is in no file: it was left out, whatever the settings before.
                name_format = self._overrides.name_format or NameFormat.SESSION
                return replace(self._overrides.apply_to(self._recorded.settings), name_format=name_format)
        settings = self._overrides.apply_to(self._recorded.settings)
        # Only the events show where a file ends that began before the topic does.
        return replace(settings, time_per_file_ms=_FOREVER_MS) if self._is_truncated else settings

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
                state = before.checkpoint.state if before else State(self._stream)
                if before is None or before.why is not CloseReason.TIME:
                    state = replace(state, acquisition=None, start_id=begun.id)
                self._adopt_state(before, replace(state, carry=begun.carry), _epochs_before(begun, before))

        if not self._is_state_known and self._state.file is None:
            self._adopt_sessions(record)

    def _adopt_sessions(self, record: Record) -> None:
        """Adopt the sessions of the last file before this record: their repeated frames are in no file.

        The rest of the state isn't known.
        """
        if last := self._recorded.newly_finished_before(record.offset):
            found = last.checkpoint.state
            self._state = replace(self._state, session=found.session, num=found.num, names=found.names)

    def _is_original_cut(self, event: FileFinished) -> bool:
        return event.why is CloseReason.TIME and self._overrides.any_given

    def _adopt_state(self, after: FileFinished | None, state: State, epochs: Sequence[tuple[str, int]]) -> None:
        self._abort_file()
        self._state = state
        places = after.checkpoint.carry if after else {}
        self._carry = self._load({code: place for code, place in places.items() if code in state.carry})
        self._sequence.prepend(epochs, after.checkpoint.forgotten if after else ())
        self._is_state_known, self._is_carry_known, self._is_truncated = True, True, False

    def _open_file(self, state: State, record: Record) -> None:
        headers, time_ms = record.headers, record.time_ms
        event = None if self._overrides.any_given else self._recorded.beginning_with(record)
        name = event.path if event else path(state)
        begins = (
            self._state.acquisition is None
            or abs(time_ms - self._state.last_frame_ms) > self._state.acquisition.settings.gap_ms
        )
        if begins and self._selection.until_ms is not None:
            self._too_late = time_ms > self._selection.until_ms
            if self._too_late and record.offset > self._last_selected_offset:
                self.done = True
                return
        file = RebuiltFile(self._stream, name, time_ms, None, event)
        codes = head_types(state, headers.type)
        assert state.acquisition
        if self._is_truncated:
            file.missing = "its beginning is no longer in the topic"
        elif missing := self._missing_carry(codes, headers.type, state.acquisition.settings, event):
            file.missing = f"its head repeats a frame of type {frame_type_name(missing)} that no longer exists"
        elif not self._too_late and (not self._selection.paths or name in self._selection.paths):
            file.content = self._target.begin(self._stream, name, time_ms)
        self.file = file
        if file.content:
            for code in codes:
                file.content.write(self._carry.repeat(code, name, file.content.length))

    def _missing_carry(
        self, codes: tuple[int, ...], first: int | None, settings: Settings, event: FileFinished | None
    ) -> int:
        """Return the type of a frame that the file's head needs and that isn't available; 0 if there is none."""
        available = self._carry.places(codes)
        needed = list(event.carry) if event else list(codes)
        if not event and not self._is_carry_known:
            needed += [code for code in settings.carry if code != first]
        return next((code for code in needed if code not in available), 0)

    def _write_frame(self, state: State, record: Record) -> None:
        file, code = self.file, record.headers.type
        assert file
        assert state.acquisition
        if code is not None and is_carried(state, record.headers):
            self._carry.store(code, record, file.path, file.content.length if file.content else 0)
        if file.content:
            file.content.write(record.value)
        file.frames += 1
        file.last_ms = record.time_ms
        if (
            not self._is_since_reached
            and self._selection.since_ms is not None
            and record.time_ms >= self._selection.since_ms
        ):
            self._is_since_reached = True
            for held in self._held_back:
                self._target.finish(held)
            self._held_back.clear()

    def _close_file(self, why: CloseReason, closing: Record) -> None:
        if self._is_truncated:
            self._abort_file()
            self._state = replace(self._state, file=None, acquisition=None, names=Names())
            self._is_truncated = False
            return
        file = self.file
        assert file
        assert self._state.file
        self.file, file.close_reason = None, why
        _, number = start_and_number(file.path)
        self._state = after_close(self._state, number)
        self.done = file.event is not None and file.event is self._through
        if not file.event and not self._overrides.any_given and self._recorded.has_events_until(closing.offset):
            # As when a killed ingest published records again that had been recorded before the topic's first record.
            self._target.drop(file)
            file.missing = file.missing or "no event of a file that begins with this record"
        if file.missing:
            self.not_rebuilt.append(file)
        elif file.content and self._is_since_reached:
            self._target.finish(file)
        elif file.content:
            self._held_back.append(file)
        if why is not CloseReason.TIME:
            self._drop_held_back()
            self._is_since_reached = self._selection.since_ms is None

    def _drop_held_back(self) -> None:
        for held in self._held_back:
            self._target.drop(held)
        self._held_back.clear()

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
    return [*((epoch, _FOREVER_MS) for epoch in epochs if epoch != first.epoch), (first.epoch, first.seq - 1)]
