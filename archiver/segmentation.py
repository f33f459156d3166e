"""Where a file begins, where it ends, and what it is called.

Rule 1: everything that decides a boundary or a name lives in this file, as a function of the records in their
order, their timestamps and the settings. No clock, no offsets, no directory listing, no I/O: so a live archive,
a replayed one and one at a second site cut the same stream into the same files.

Rule 2: closing a file takes many steps that may fail and be repeated, so it stands between two records. For each
record ask `closes`. If that gives a reason, finish the file, take `closed(state)` for the state before the record,
and step the same record: no row of the table closes a file twice.

    record                          closes   step
    start                           START    the acquisition is over; its id is remembered
    end                             END      the acquisition is over; the carry is forgotten
    connected, lost                 LOST     the acquisition is over
    quiet, |t - last frame's| > gap GAP      the acquisition is over
    frame that isn't recorded                nothing
    frame, no acquisition                    begin one, open its first file, write
    frame, |t - last frame's| > gap GAP      the same
    frame, t - file's start >= time TIME     open the acquisition's next file, write
    frame                                    write

The table is the design's ("Segmentation"); the behaviour behind it is that of the recorder this replaces.
"""

from enum import Enum, StrEnum
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct
from msgspec.structs import replace

from archiver.layout import LATEST_START, MOST_NUMBER, NameFormat, file_path, start_second
from ingest.topic import Kind, Label
from ingest.wire import FRAME_TYPES

StreamName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")]
TypeCode = Annotated[int, Meta(ge=0, lt=2**32)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Milliseconds = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Start = Annotated[int, Meta(ge=0, le=LATEST_START)]
Used = Annotated[int, Meta(ge=-1, le=2**63 - 1)]
FileNumber = Annotated[int, Meta(ge=0, le=MOST_NUMBER)]
UsedNumber = Annotated[int, Meta(ge=-1, le=MOST_NUMBER)]

LEFT_OUT = frozenset({FRAME_TYPES["PipelineInfo"], FRAME_TYPES["EndProcessing"]})
"""Frames that a G3 reader or writer makes for itself; files don't hold them."""


class Why(StrEnum):
    """Why a file was closed."""

    START = "start"
    END = "end"
    LOST = "lost"
    GAP = "gap"
    TIME = "time"


class Settings(Struct, frozen=True, omit_defaults=True):
    """What an operator chooses. Times in ms. carry: frame type codes."""

    time_per_file: Count = 600_000
    gap: Count = 10_000
    name_format: NameFormat = NameFormat.DATE
    carry: tuple[TypeCode, ...] = (FRAME_TYPES["Observation"],)


class Acquisition(Struct, frozen=True, omit_defaults=True):
    """The frames from a START, or a first frame, on. start: s. other_ids: frames that named another id."""

    start: Start
    id: StreamName
    settings: Settings
    other_ids: Count = 0


class OpenFile(Struct, frozen=True, omit_defaults=True):
    """The acquisition's file that is being written. start: ms, its first frame's time. missing: how many frames were
    never received, as jumps of `frame_num` in the newest session say."""

    number: FileNumber
    start: Milliseconds
    missing: Count = 0


class Names(Struct, frozen=True, omit_defaults=True):
    """What has been used for names. newest: the latest start of any acquisition, s; start, number: those of the
    last file; highest: the highest number of any file."""

    newest: Used = -1
    start: Used = -1
    number: UsedNumber = -1
    highest: UsedNumber = -1


class State(Struct, frozen=True, omit_defaults=True):
    """All that decides what the next record does. last: ms, the last recorded frame's time.

    start_id: the id of the last START, until its acquisition's end. carry: the types of the frames that head
    the next file, in order of last arrival. session, num: the newest session_id that a frame named, and the highest
    frame_num in it; these decide nothing, but what is missing is counted with them.
    """

    stream: StreamName
    acquisition: Acquisition | None = None
    file: OpenFile | None = None
    last: Milliseconds = 0
    carry: tuple[TypeCode, ...] = ()
    start_id: StreamName | None = None
    names: Names = Names()
    session: Integer | None = None
    num: Integer = 0


class Effect(Enum):
    """What to do with a record besides taking the new state."""

    NOTHING = 0
    WRITE = 1
    OPEN_AND_WRITE = 2
    """Open the file that the new state has, write the carry that `head` names, then the frame."""


def closes(state: State, label: Label, time: int) -> Why | None:
    """Why the open file must be finished before this record is stepped; None if it mustn't. time: ms."""
    file, acquisition = state.file, state.acquisition
    if file is None:
        return None
    assert acquisition
    kind = label.kind
    if kind is Kind.FRAME:
        if label.type in LEFT_OUT:
            return None
        if abs(time - state.last) > acquisition.settings.gap:
            return Why.GAP
        return Why.TIME if time - file.start >= acquisition.settings.time_per_file else None
    if kind is Kind.QUIET:
        return Why.GAP if abs(time - state.last) > acquisition.settings.gap else None
    return _CLOSING_KINDS[kind]


def closed(state: State, number: int) -> State:
    """The state with its file finished, under that number: usually the file's, a higher one if it was taken."""
    names = replace(state.names, number=number, highest=max(number, state.names.highest))
    return replace(state, file=None, names=names)


def step(state: State, label: Label, time: int, settings: Settings) -> tuple[State, Effect]:
    """What a record does. `closes` must have given None for it. settings: for an acquisition that begins now."""
    kind = label.kind
    if kind is Kind.FRAME:
        if label.type in LEFT_OUT:
            return state, Effect.NOTHING
        return _frame(state, label, time, settings)
    if kind is Kind.START:
        return replace(state, acquisition=None, start_id=label.id), Effect.NOTHING
    if kind is Kind.END:
        return replace(state, acquisition=None, start_id=None, carry=()), Effect.NOTHING
    if kind is Kind.QUIET:
        if state.acquisition and abs(time - state.last) > state.acquisition.settings.gap:
            state = replace(state, acquisition=None)
        return state, Effect.NOTHING
    return replace(state, acquisition=None, start_id=None), Effect.NOTHING


class Room(NamedTuple):
    """Where frames go on: each at most `gap` ms from the one before, and before `until`, ms."""

    gap: int
    until: int


def room(state: State, label: Label) -> Room | None:
    """For frames that are like the one just written but for `num`, which is the next each time.

    Within that room each closes nothing, is written, and changes the state as `went_on` says. None if they may do
    more than that.
    """
    acquisition, file = state.acquisition, state.file
    if (
        file is None
        or acquisition is None
        or label.kind is not Kind.FRAME
        or label.type in LEFT_OUT
        or label.type in acquisition.settings.carry
        or label.id not in (None, acquisition.id)
        or label.session is None
        or (label.session, label.num) != (state.session, state.num)
    ):
        return None
    return Room(acquisition.settings.gap, file.start + acquisition.settings.time_per_file)


def went_on(state: State, num: int, time: int) -> State:
    """The state after frames within its `room`, of which the last has that num and time, ms."""
    return replace(state, last=time, num=num)


def path(state: State) -> str:
    """The open file's path below the data directory."""
    acquisition, file = state.acquisition, state.file
    assert acquisition
    assert file
    return file_path(acquisition.start, acquisition.id, file.number, acquisition.settings.name_format)


def head(state: State, first: int | None) -> tuple[int, ...]:
    """The types of the frames to repeat at the head of the file just opened, in order; `first`: its own frame's."""
    return tuple(code for code in state.carry if code != first)


def _frame(state: State, label: Label, time: int, settings: Settings) -> tuple[State, Effect]:
    acquisition, file, names, carry = state.acquisition, state.file, state.names, state.carry
    effect = Effect.WRITE
    if file is None:
        effect = Effect.OPEN_AND_WRITE
        if acquisition is None or abs(time - state.last) > acquisition.settings.gap:
            start = start_second(time)
            number = _first_number(names, start)
            acquisition = Acquisition(start, label.id or state.start_id or state.stream, settings)
            carry = tuple(code for code in carry if code in settings.carry)
        else:
            number = names.number + 1
        file = OpenFile(number, time)
        names = Names(max(names.newest, acquisition.start), acquisition.start, number, max(names.highest, number))
    assert acquisition
    if label.id is not None and label.id != acquisition.id:
        acquisition = replace(acquisition, other_ids=acquisition.other_ids + 1)
    if label.type in acquisition.settings.carry:
        carry = (*(code for code in carry if code != label.type), label.type)
    session, num, missing = _numbered(state, label)
    if missing:
        file = replace(file, missing=min(file.missing + missing, _MOST))
    return State(state.stream, acquisition, file, time, carry, state.start_id, names, session, num), effect


def _numbered(state: State, label: Label) -> tuple[int | None, int, int]:
    """The newest session, its highest frame_num, and how many frames are missing between that and this one.

    A sender that is connected to anew sends old frames again: those, and older sessions, change nothing. What of a
    session was sent before its first frame here isn't ours to miss.
    """
    session, num = label.session, label.num
    if session is None or num is None or (state.session is not None and session < state.session):
        return state.session, state.num, 0
    if session != state.session:
        return session, num, 0
    return session, max(num, state.num), max(0, num - state.num - 1)


def _first_number(names: Names, start: int) -> int:
    """The number of an acquisition's first file, so that no name is ever used twice."""
    if start == names.start:
        return names.number + 1
    return 0 if start > names.newest else names.highest + 1


_MOST = 2**63 - 1
_CLOSING_KINDS = {Kind.START: Why.START, Kind.END: Why.END, Kind.CONNECTED: Why.LOST, Kind.LOST: Why.LOST}
