"""Segmentation: where a file begins, where it ends, and what it is called.

Rule 1: everything that decides a boundary or a name lives in this file, as a function of the records in their
order, their timestamps and the settings. No clock, no offsets, no directory listing, no I/O: so a live archive,
a replayed one and one at a second site cut the same stream into the same files.

Rule 2: closing a file takes many steps that may fail and be repeated, so it happens between two records. For each
record call `close_reason`. If that returns a reason, finish the file, continue with the state `after_close(state)`,
and step the same record: no row of the table closes a file twice.

    record                          closes   step
    start                           START    the acquisition is over; its id is remembered
    end                             END      the acquisition is over; the carry is forgotten
    connected, lost                 LOST     the acquisition is over
    quiet, |t - last frame's| > gap GAP      the acquisition is over
    frame that isn't recorded                nothing happens
    frame, no acquisition                    begin one, open its first file, write
    frame, |t - last frame's| > gap GAP      the same
    frame, t - file's start >= time TIME     open the acquisition's next file, write
    frame                                    write

The table is the design's ("Segmentation"); the behaviour behind it is that of the recorder this replaces.

Rule 3, only for names by session: a file is named after the session_id of its first frame (after the time, if that
can't name a file), with the session's next number, and only frames of that session are repeated at its head. A sender
sends its latest metadata frames again on each connection: those that are recorded already (a frame_num up to the
session's highest) open no file, and are left out of a file of another session. The table above stays valid.
"""

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from archiver.core import used_names
from archiver.core.paths import MAX_NUMBER, NameFormat, file_path, start_second
from archiver.core.used_names import Names, Start
from g3stream.contract.headers import Kind, RecordHeaders, ShownEnum
from g3stream.frame_format.layout import FRAME_TYPES

StreamName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")]
TypeCode = Annotated[int, Meta(ge=0, lt=2**32)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Milliseconds = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
FileNumber = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]

NOT_RECORDED_TYPES = frozenset({FRAME_TYPES["PipelineInfo"], FRAME_TYPES["EndProcessing"]})
"""Frames that a G3 reader or writer makes for itself; files don't contain them."""
NO_FRAME_NUM = -(2**63)
"""Stands for a session's highest frame_num while no frame of it has had one."""
FOREVER_MS = 2**62
"""As a file's time or gap: it ends only by a record that says so."""
_NEVER_RESENT_TYPES = frozenset({FRAME_TYPES["Scan"], FRAME_TYPES["Timepoint"]})
"""Never sent again by a G3NetworkSender on a new connection; of all other types it sends the latest frame."""


class CloseReason(ShownEnum):
    """Why a file was closed."""

    START = "start"
    END = "end"
    LOST = "lost"
    """The connection to the sender ended; no data is lost by it."""
    GAP = "gap"
    TIME = "time"


class Settings(Struct, frozen=True, omit_defaults=True):
    """What an operator chooses for the files of an acquisition."""

    time_per_file_ms: Annotated[Count, Meta(description="The time after which a file is rotated, in ms.")] = (
        msgspec.field(default=600_000, name="time_per_file")
    )
    gap_ms: Annotated[Count, Meta(description="The time without frames that ends an acquisition, in ms.")] = (
        msgspec.field(default=10_000, name="gap")
    )
    name_format: Annotated[NameFormat, Meta(description="How files are named.")] = NameFormat.DATE
    carry: Annotated[
        tuple[TypeCode, ...], Meta(description="The type codes of the frames repeated at the head of each file.")
    ] = (FRAME_TYPES["Observation"],)


class Acquisition(Struct, frozen=True, omit_defaults=True):
    """The current acquisition: frames that belong together, from START or a first frame."""

    start_s: Start = msgspec.field(name="start")
    """In s since 1970; with names by session, the session of its last file."""
    id: StreamName
    settings: Settings
    other_ids: Count = 0
    """Frames that had another stream id."""


class OpenFileState(Struct, frozen=True, omit_defaults=True):
    """The acquisition's file that is open."""

    number: FileNumber
    """At the end of its name."""
    first_frame_ms: Milliseconds = msgspec.field(name="start")
    """The time of its first frame."""
    missing: Count = 0
    """Frames that were never received, by jumps of `frame_num` in the newest session."""


class State(Struct, frozen=True, omit_defaults=True):
    """All of a stream's state that decides what the next record does."""

    stream: StreamName
    acquisition: Acquisition | None = None
    file: OpenFileState | None = None
    last_frame_ms: Milliseconds = msgspec.field(default=0, name="last")
    """The time of the last recorded frame."""
    carry: tuple[TypeCode, ...] = ()
    """The types of the frames to repeat at the head of the next file, in the order of their last arrival."""
    start_id: StreamName | None = None
    """The id of the last START, until its acquisition ends."""
    names: Names = Names()
    session: Integer | None = None
    """The newest session_id that a frame had; with names by session, the last frame's."""
    num: Integer = 0
    """The highest frame_num of `session`; NO_FRAME_NUM if none is known."""


def close_reason(state: State, headers: RecordHeaders, time_ms: int) -> CloseReason | None:
    """Why the open file must be finished before this record is stepped; None if it need not be."""
    file, acquisition = state.file, state.acquisition
    if file is None:
        return None
    assert acquisition
    kind = headers.kind
    if kind is Kind.FRAME:
        if headers.type in NOT_RECORDED_TYPES:
            return None
        if abs(time_ms - state.last_frame_ms) > acquisition.settings.gap_ms:
            return CloseReason.GAP
        return CloseReason.TIME if time_ms - file.first_frame_ms >= acquisition.settings.time_per_file_ms else None
    if kind is Kind.QUIET:
        return CloseReason.GAP if abs(time_ms - state.last_frame_ms) > acquisition.settings.gap_ms else None
    return _CLOSING_KINDS[kind]


def after_close(state: State, number: int) -> State:
    """The state once its file is finished under that number: the file's own, or a higher one if that was taken."""
    acquisition = state.acquisition
    assert acquisition
    names = used_names.with_file(
        state.names, acquisition.start_s, number, in_sessions=_by_session(acquisition.settings)
    )
    return replace(state, file=None, names=names)


def step(state: State, headers: RecordHeaders, time_ms: int, settings: Settings) -> tuple[State, bool]:
    """Return the state after a record for which `close_reason` is None, and whether the record is written.

    If it is, and no file was open, it is written to the new state's, after the carried frames (`head_types`).
    settings: for an acquisition that begins now.
    """
    kind = headers.kind
    if kind is Kind.FRAME:
        if headers.type in NOT_RECORDED_TYPES:
            return state, False
        return _frame(state, headers, time_ms, settings)
    if kind is Kind.START:
        return replace(state, acquisition=None, start_id=headers.id), False
    if kind is Kind.END:
        return replace(state, acquisition=None, start_id=None, carry=()), False
    if kind is Kind.QUIET:
        if state.acquisition and abs(time_ms - state.last_frame_ms) > state.acquisition.settings.gap_ms:
            state = replace(state, acquisition=None)
        return state, False
    return replace(state, acquisition=None, start_id=None), False


class FrameWindow(NamedTuple):
    """The times that frames must have to continue the open file."""

    gap_ms: int
    """At most so far from the frame before."""
    until_ms: int
    """Before this time."""


def frame_window(state: State, headers: RecordHeaders) -> FrameWindow | None:
    """The window for frames like the one just written, except for `num`, which increases by one each time.

    Within it each frame closes nothing, is written, and changes the state as `advance` does. None if such frames may
    do more than that.
    """
    acquisition, file = state.acquisition, state.file
    if (
        file is None
        or acquisition is None
        or headers.kind is not Kind.FRAME
        or headers.type in NOT_RECORDED_TYPES
        or headers.type in acquisition.settings.carry
        or headers.id not in (None, acquisition.id)
        or headers.session is None
        or (headers.session, headers.num) != (state.session, state.num)
    ):
        return None
    return FrameWindow(acquisition.settings.gap_ms, file.first_frame_ms + acquisition.settings.time_per_file_ms)


def advance(state: State, num: int, time_ms: int) -> State:
    """The state after frames within its `frame_window`, the last of which has that num and time."""
    return replace(state, last_frame_ms=time_ms, num=num)


def path(state: State) -> str:
    """The open file's path below the data directory."""
    acquisition, file = state.acquisition, state.file
    assert acquisition
    assert file
    return file_path(acquisition.start_s, acquisition.id, file.number, acquisition.settings.name_format)


def head_types(state: State, first: int | None) -> tuple[int, ...]:
    """The types of the frames to repeat at the head of the file just opened, in order; first: its own frame's."""
    acquisition = state.acquisition
    assert acquisition
    if _by_session(acquisition.settings):
        if used_names.is_session(state.session) and acquisition.start_s != state.session:
            return ()  # the carried frames are another session's
        if first not in _NEVER_RESENT_TYPES:
            # sotodlib sorts a session's files by the times of their Scan frames, or of their first frame if they have
            # none, and looks for its END in the last one: so a file that has only the session's end must not begin
            # with a repeated frame from its beginning.
            return ()
    return tuple(code for code in state.carry if code != first)


def is_carried(state: State, headers: RecordHeaders) -> bool:
    """Whether the frame just stepped is to be repeated at the head of later files; state: after that frame."""
    acquisition = state.acquisition
    if acquisition is None or headers.type not in acquisition.settings.carry:
        return False
    return not _by_session(acquisition.settings) or headers.session in (None, state.session)


def is_repeated(state: State, headers: RecordHeaders) -> bool:
    """Whether this frame may have been sent again: its frame_num isn't above the highest recorded of its session."""
    session, num = headers.session, headers.num
    if headers.type in _NEVER_RESENT_TYPES or session is None or num is None:
        return False
    if session == state.session:
        return num <= state.num
    known = used_names.find(state.names, session)
    return known is not None and known.num is not None and num <= known.num


def _frame(state: State, headers: RecordHeaders, time_ms: int, settings: Settings) -> tuple[State, bool]:
    acquisition, file, carry = state.acquisition, state.file, state.carry
    begins = file is None and (
        acquisition is None or abs(time_ms - state.last_frame_ms) > acquisition.settings.gap_ms
    )
    if not begins:
        assert acquisition
        settings = acquisition.settings
    by_session = _by_session(settings)
    if by_session and (file is None or headers.session != state.session) and is_repeated(state, headers):
        return state, False
    session, num, missing, names = (_numbered_by_session if by_session else _numbered)(state, headers)
    if by_session and session != state.session:
        carry = ()
    if file is None:
        if begins:
            acquisition = Acquisition(start_second(time_ms), headers.id or state.start_id or state.stream, settings)
            carry = tuple(code for code in carry if code in settings.carry)
        assert acquisition
        if by_session:
            if headers.session is not None and used_names.is_session(headers.session):
                acquisition = replace(acquisition, start_s=headers.session)
            number = used_names.number_of_session(names, acquisition.start_s)
        else:
            number = used_names.number_of_start(names, acquisition.start_s) if begins else names.number + 1
        file = OpenFileState(number, time_ms)
        names = used_names.with_file(names, acquisition.start_s, number, in_sessions=by_session)
    assert acquisition
    if headers.id is not None and headers.id != acquisition.id:
        acquisition = replace(acquisition, other_ids=acquisition.other_ids + 1)
    if missing:
        file = replace(file, missing=min(file.missing + missing, _MAX))
    after = State(state.stream, acquisition, file, time_ms, carry, state.start_id, names, session, num)
    if headers.type is not None and is_carried(after, headers):
        after = replace(after, carry=(*(code for code in carry if code != headers.type), headers.type))
    return after, True


class _Numbered(NamedTuple):
    """What a frame's frame_num changes in the state."""

    session: int | None
    num: int
    missing: int
    """Frames missing between the session's highest frame_num and this one."""
    names: Names


def _numbered(state: State, headers: RecordHeaders) -> _Numbered:
    """Count by the newest session.

    A sender sends old frames again on a new connection: these, and frames of older sessions, change nothing. Frames
    of a session before the first one received here don't count as missing.
    """
    session, num, names = headers.session, headers.num, state.names
    if session is None or num is None or (state.session is not None and session < state.session):
        return _Numbered(state.session, state.num, 0, names)
    if session != state.session:
        return _Numbered(session, num, 0, names)
    return _Numbered(session, max(num, state.num), missing_between(state.num, num), names)


def _numbered_by_session(state: State, headers: RecordHeaders) -> _Numbered:
    """Count by the frame's own session, which may be an earlier one again.

    A crate whose clock was ahead for a while must not make all of its later sessions count as old ones.
    """
    session, num, names = headers.session, headers.num, state.names
    if session is None:
        return _Numbered(state.session, state.num, 0, names)
    highest = state.num
    if session != state.session:
        names = used_names.with_session(names, state.session, state.num)
        known = used_names.find(names, session)
        highest = NO_FRAME_NUM if known is None or known.num is None else known.num
    if num is None:
        return _Numbered(session, highest, 0, names)
    return _Numbered(session, max(num, highest), missing_between(highest, num), names)


def missing_between(highest: int, num: int) -> int:
    """The number of frames missing between a session's highest frame_num and this one."""
    return 0 if highest == NO_FRAME_NUM else max(0, num - highest - 1)


def _by_session(settings: Settings) -> bool:
    return settings.name_format is NameFormat.SESSION


_MAX = 2**63 - 1
_CLOSING_KINDS = {
    Kind.START: CloseReason.START,
    Kind.END: CloseReason.END,
    Kind.CONNECTED: CloseReason.LOST,
    Kind.LOST: CloseReason.LOST,
}
