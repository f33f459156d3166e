"""The segmentation table, found out by asking the code what each kind of record does in each state."""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from archiver.core.paths import NameFormat
from archiver.core.segmentation import CloseReason, Settings, State, after_close, close_reason, step
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.frame_format.layout import FRAME_TYPES

_STREAM, _EPOCH = "crate1slot2", "0" * 16
_SESSION = 1_753_651_800
_BEGIN_MS = _SESSION * 1000
_STEP_MS = 5_000
_BY_DATE = Settings()
_BY_SESSION = Settings(name_format=NameFormat.SESSION)


class Phase(Enum):
    """What segmentation knows of a stream, as far as it decides what a record does."""

    IDLE = "no acquisition"
    OPEN = "file open"
    FINISHED = "file finished"


class RecordCase(NamedTuple):
    """A record that may come next."""

    label: str
    kind: Kind
    type_name: str | None = None
    after_ms: int = 2_000
    """Time since the last recorded frame."""
    num: int | None = None
    """Its frame_num; None for the next one."""
    session: int = _SESSION


class Effect(NamedTuple):
    """What a record does."""

    words: str
    after: Phase


_AFTER_GAP_MS = _BY_DATE.gap_ms + 1_000
_AT_TIME_MS = 7_000
"""From the last frame of `_phases` to the time at which its file is full, or later; less than the gap."""

CASES = (
    RecordCase("start", Kind.START, "none"),
    RecordCase("end", Kind.END, "none"),
    RecordCase("connected", Kind.CONNECTED),
    RecordCase("lost", Kind.LOST),
    RecordCase("quiet", Kind.QUIET),
    RecordCase("quiet, gap over", Kind.QUIET, after_ms=_AFTER_GAP_MS),
    RecordCase("frame", Kind.FRAME, "Scan"),
    RecordCase("frame, gap over", Kind.FRAME, "Scan", _AFTER_GAP_MS),
    RecordCase("frame, file full", Kind.FRAME, "Scan", _AT_TIME_MS),
    RecordCase("frame not recorded", Kind.FRAME, "PipelineInfo"),
)
"""Every kind of record, at every time that matters."""

SENT_AGAIN_CASES = (
    RecordCase("sent again, of the newest session", Kind.FRAME, "Observation", num=1),
    RecordCase("sent again, file full", Kind.FRAME, "Observation", _AT_TIME_MS, num=1),
    RecordCase("sent again, of an earlier session", Kind.FRAME, "Observation", num=1, session=_SESSION - 100),
)
"""Frames that a sender repeats on a new connection; with names by session."""


def table(*, by_session: bool = False) -> Mapping[tuple[RecordCase, Phase], Effect]:
    """Return what each record does in each phase. by_session: frames that are sent again, with names by session."""
    settings, cases = (_BY_SESSION, SENT_AGAIN_CASES) if by_session else (_BY_DATE, CASES)
    states = _phases(settings)
    return {(case, phase): _effect(states[phase], case, settings) for case in cases for phase in Phase}


def _phases(settings: Settings) -> Mapping[Phase, State]:
    """Make a state of each phase, by recording: each has a carried frame and the id of a START, to be forgotten."""
    start = _fact(Kind.START, "crate9slot9")
    state = _recorded(State(_STREAM), settings, (_frame("Observation", 1, _SESSION - 100), -60_000))
    state = _recorded(state, settings, (_fact(Kind.LOST), -50_000), (start, 0), (_frame("Observation", 1), 0))
    scans = [_frame("Scan", 2 + n) for n in range((settings.time_per_file_ms - 1) // _STEP_MS)]
    opened = _recorded(state, settings, *((scan, (n + 1) * _STEP_MS) for n, scan in enumerate(scans)))
    idle = _recorded(opened, settings, (_fact(Kind.LOST), 0), (start, 0))
    return {Phase.IDLE: idle, Phase.OPEN: opened, Phase.FINISHED: after_close(opened, 0)}


def _recorded(state: State, settings: Settings, *records: tuple[RecordHeaders, int]) -> State:
    """Return the state after these records, each with its time in ms."""
    for headers, at_ms in records:
        if close_reason(state, headers, _BEGIN_MS + at_ms):
            assert state.file
            state = after_close(state, state.file.number)
        state, _ = step(state, headers, _BEGIN_MS + at_ms, settings)
    return state


def _effect(before: State, case: RecordCase, settings: Settings) -> Effect:
    num = before.num + 1 if case.num is None else case.num
    is_frame = case.kind is Kind.FRAME
    headers = _frame(case.type_name or "", num, case.session) if is_frame else _fact(case.kind, "crate7slot7")
    time_ms = before.last_frame_ms + case.after_ms
    if reason := close_reason(before, headers, time_ms):
        return Effect(f"finish the file: {_REASONS[reason]}", Phase.FINISHED)
    after, writes = step(before, headers, time_ms, settings)
    return Effect(_described(before, after, writes=writes, is_frame=is_frame, case=case), phase_of(after))


def _described(before: State, after: State, *, writes: bool, is_frame: bool, case: RecordCase) -> str:
    """Describe how a record that finishes no file changes the state."""
    if writes:
        if before.file:
            return "write it"
        assert after.acquisition
        assert after.file
        number = f"`_{after.file.number:03d}`"
        if before.acquisition and before.acquisition.start_s == after.acquisition.start_s:
            return f"open the acquisition's next file, {number}; write it"
        return f"begin an acquisition: open its file {number}; write it"
    if is_frame and case.type_name != "PipelineInfo":
        assert after == before
        return "leave it out"
    words = []
    if before.acquisition and not after.acquisition:
        words.append("the acquisition is over")
    if after.start_id != before.start_id:
        words.append("remember its id" if after.start_id else "forget the start's id")
    if before.carry and not after.carry:
        words.append("forget the carry")
    assert bool(words) == (after != before)
    return "; ".join(words) or "nothing"


def phase_of(state: State) -> Phase:
    """Return the phase that a state is in."""
    if state.file:
        return Phase.OPEN
    return Phase.FINISHED if state.acquisition else Phase.IDLE


def _frame(type_name: str, num: int, session: int = _SESSION) -> RecordHeaders:
    return RecordHeaders(Kind.FRAME, _EPOCH, num, FRAME_TYPES[type_name], _STREAM, session, num)


def _fact(kind: Kind, stream_id: str | None = None) -> RecordHeaders:
    return RecordHeaders(kind, _EPOCH, 0, id=stream_id if kind is Kind.START else None)


_REASONS = {reason: f"`{reason.value}`" for reason in CloseReason}


def markdown(*, by_session: bool = False) -> str:
    """Return the table as Markdown."""
    effects = table(by_session=by_session)
    lines = [
        "| record | " + " | ".join(f"*{phase.value}*" for phase in Phase) + " |",
        "|---|" + "---|" * len(Phase),
    ]
    for case in dict.fromkeys(case for case, _ in effects):
        lines.append(f"| {_as_code(case.label)} | " + " | ".join(effects[case, p].words for p in Phase) + " |")
    return "\n".join(lines) + "\n"


def _as_code(label: str) -> str:
    name, comma, rest = label.partition(",")
    return f"`{name}`{comma}{rest}" if name in {kind.value for kind in Kind} else label
