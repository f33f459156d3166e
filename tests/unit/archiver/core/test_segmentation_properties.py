"""Whatever the records and their clocks, the files hold every frame once, in order, under names of their own.

`MemoryArchive` is an archive without a disk and without Kafka: the pure core, driven as a recording drives it.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver.core.paths import NameFormat, file_path, start_second
from archiver.core.segmentation import (
    NOT_RECORDED_TYPES,
    CloseReason,
    Settings,
    State,
    after_close,
    close_reason,
    step,
)
from archiver.core.segmenter import Carry, Decision, Segmenter
from archiver.core.used_names import SESSIONS_REMEMBERED
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.sequence import Record, SequenceTracker
from g3stream.frame_format.layout import FRAME_TYPES
from tests.unit.g3stream.contract.test_sequence import A, Killed, Message, killed_ingests

STREAM = "crate1slot2"
NOON = 1_546_344_000_000
"""2019-01-01 12:00:00 UTC, in ms."""

quick = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
"""The runner may be a slow one; how long an example takes is no part of what is tested."""


@dataclass
class MemoryFile:
    """A file: its path, the frames repeated at its head, and its own with their times."""

    path: str
    head: tuple[bytes, ...]
    settings: Settings
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    why: CloseReason | None = None

    @property
    def bytes(self) -> bytes:
        """What would be on disk."""
        return b"".join([*self.head, *(value for _, value in self.frames)])


class Base(NamedTuple):
    """The state before a file's first record."""

    offset: int
    state: bytes
    epochs: tuple[tuple[str, int], ...]
    carried: Carry


class MemoryArchive:
    """Takes a log's messages, one after the other. disk: content by path, with unknown files, too."""

    def __init__(self, stream: str = STREAM) -> None:
        self.segmenter = Segmenter(State(stream))
        self.seen = SequenceTracker()
        self.files: list[MemoryFile] = []
        self.open: MemoryFile | None = None
        self.base: Base | None = None
        self.disk: dict[str, bytes] = {}

    @property
    def state(self) -> State:
        """After the last record."""
        return self.segmenter.state

    def take(self, message: Message, offset: int, chosen: Settings) -> None:
        """As a recording does: see whether it counts, finish the file if it closes it, write it."""
        record = self.seen.assemble(*message, offset)
        if record:
            self.record(record, chosen)

    def record(self, record: Record, chosen: Settings) -> None:
        """Take a whole record."""
        decision = self.segmenter.decide(record, chosen)
        if decision.close:
            self.finish(decision.close)
            decision = self.segmenter.decide(record, chosen)
        self.write(decision)

    def write(self, decision: Decision) -> None:
        """Open a file, and write, if that is what the record does."""
        record, state = decision.record, decision.state
        assert not decision.close
        if decision.opens:
            assert state.acquisition
            heads = self.segmenter.head(decision)
            offset = self.seen.safe_offset(record.offset)
            self.base = Base(offset, json(self.state), self.seen.epochs(), self.segmenter.carried())
            head = tuple(b"".join(frame.value) for frame in heads.values())
            self.open = MemoryFile(decision.path, head, state.acquisition.settings)
        if decision.writes:
            assert self.open
            self.open.frames.append((record.time_ms, b"".join(record.value)))
        self.segmenter.apply(decision)
        self.mark_processed(record)

    def mark_processed(self, record: Record) -> None:
        """Count it as recorded."""
        self.seen.mark_processed(record.headers)

    def finish(self, why: CloseReason) -> None:
        """Publish the open file: a name taken by the same bytes is its own, by others: the next free one."""
        file, acquisition, opened = self.open, self.state.acquisition, self.state.file
        assert file
        assert acquisition
        assert opened
        number = opened.number
        while self.disk.setdefault(file.path, file.bytes) != file.bytes:
            number += 1
            file.path = file_path(acquisition.start_s, acquisition.id, number, acquisition.settings.name_format)
        file.why = why
        self.files.append(file)
        self.segmenter.on_closed(file.path)
        self.open = self.base = None

    def all_files(self) -> list[MemoryFile]:
        """The finished, and the open one."""
        return [*self.files, *([self.open] if self.open else [])]


def json(state: State) -> bytes:
    return msgspec.json.encode(state)


def archived(log: Sequence[Message], chosen: Settings, offset: int = 0) -> MemoryArchive:
    """The archive that records a log, from that offset on."""
    archive = MemoryArchive()
    for at, message in enumerate(log[offset:], offset):
        archive.take(message, at, chosen)
    return archive


# Records from the wild

CARRIABLE = [FRAME_TYPES[name] for name in ("Observation", "Wiring", "Calibration", "Scan")]
OBSERVATION, WIRING, NONE = (FRAME_TYPES[name] for name in ("Observation", "Wiring", "none"))
TYPES = [
    FRAME_TYPES[name] for name in ("Scan", "Scan", "Observation", "Wiring", "PipelineInfo", "EndProcessing", "none")
]
STEPS = st.one_of(
    st.integers(0, 2_000),
    st.integers(0, 20_000),
    st.sampled_from([0, 1, 9_999, 10_000, 10_001, -9_999, -10_000, -10_001, 60_000]),
    st.integers(-20_000, 0),
    st.integers(-20_000_000, 20_000_000),
)
FORWARD = st.one_of(st.integers(0, 2_000), st.integers(0, 20_000), st.sampled_from([0, 10_000, 10_001, 3_600_000]))
KINDS = [Kind.FRAME] * 9 + [Kind.START, Kind.START, Kind.END, Kind.CONNECTED, Kind.LOST, Kind.QUIET, Kind.QUIET]
SETTINGS = st.builds(
    Settings,
    time_per_file_ms=st.sampled_from([1, 1_000, 5_000, 15_000, 60_000, 600_000]),
    gap_ms=st.sampled_from([0, 1_000, 10_000, 60_000]),
    name_format=st.sampled_from(NameFormat),
    carry=st.lists(st.sampled_from(CARRIABLE), max_size=3, unique=True).map(tuple),
)
SESSIONS = [None, None, 1_546_344_000, 1_546_344_000, 1_546_000_000, 9_000_000_000, 7, -1]
"""Of two days; of a crate whose clock was in the future; two that name no file."""
NUMS = [None, 0, 1, 2, 3, 5, 8]
BEGINNINGS = st.sampled_from([NOON, NOON, NOON, 0, -50_000, 9_999_999_990_000])


@st.composite
def wild_logs(draw: st.DrawFn, steps: st.SearchStrategy[int] = STEPS) -> list[Message]:
    """The records of a stream, each with a value of its own."""
    time = draw(BEGINNINGS)
    facts = st.tuples(
        steps,
        st.sampled_from(KINDS),
        st.sampled_from(TYPES),
        st.sampled_from([None, None, "x1", "y2"]),
        st.sampled_from(SESSIONS),
        st.sampled_from(NUMS),
    )
    log = []
    for seq, (by, kind, code, name, session, num) in enumerate(draw(st.lists(facts, max_size=30))):
        time += by
        if kind in (Kind.START, Kind.END):
            headers = RecordHeaders(kind, A, seq, FRAME_TYPES["none"], name)
        else:
            frame = kind is Kind.FRAME
            headers = RecordHeaders(kind, A, seq, code, name, session, num) if frame else RecordHeaders(kind, A, seq)
        log.append(Message(headers, time, b"%d %s;" % (seq, kind.encode())))
    return log


def recorded(log: Sequence[Message]) -> list[Message]:
    """The frames that belong into files; by session, some of these may be left out, as they are there already."""
    return [m for m in log if m.headers.kind is Kind.FRAME and m.headers.type not in NOT_RECORDED_TYPES]


def not_by_session(chosen: Settings) -> Settings:
    """The same, except for names."""
    by_session = chosen.name_format is NameFormat.SESSION
    return msgspec.structs.replace(chosen, name_format=NameFormat.DATE) if by_session else chosen


# The laws


@quick
@given(wild_logs(), SETTINGS)
def test_no_frame_is_lost_or_doubled_and_order_holds(log: list[Message], chosen: Settings) -> None:
    got = [frame for file in archived(log, chosen).all_files() for frame in file.frames]
    if chosen.name_format is not NameFormat.SESSION:
        assert got == [(message.time, message.value) for message in recorded(log)]
        return
    there: list[RecordHeaders] = []
    for message in recorded(log):
        if got and got[0][1] == message.value:
            del got[0]
            there.append(message.headers)
        else:
            assert message.headers.type in (OBSERVATION, WIRING, NONE), "data is never left out"
            assert message.headers.num is not None
            assert any(
                headers.session == message.headers.session
                and headers.num is not None
                and headers.num >= message.headers.num
                for headers in there
            )
    assert got == []


@quick
@given(wild_logs(), SETTINGS)
def test_no_file_is_longer_than_time_per_file_nor_has_a_gap(log: list[Message], chosen: Settings) -> None:
    for file in archived(log, chosen).all_files():
        times = [time for time, _ in file.frames]
        assert all(time - times[0] < chosen.time_per_file_ms for time in times[1:])
        assert all(abs(later - earlier) <= chosen.gap_ms for earlier, later in pairwise(times))


@quick
@given(wild_logs(), SETTINGS, st.sets(st.integers(0, 20)))
def test_every_file_has_a_name_of_its_own(log: list[Message], chosen: Settings, taken: set[int]) -> None:
    """Even if some names are taken by files that aren't ours."""
    alone = archived(log, chosen)
    names = [file.path for file in alone.all_files()]
    assert len(set(names)) == len(names)
    foreign = {name: b"not ours" for at, name in enumerate(names) if at in taken}
    archive = MemoryArchive()
    archive.disk = dict(foreign)
    for at, message in enumerate(log):
        archive.take(message, at, chosen)
    assert {name: archive.disk[name] for name in foreign} == foreign
    assert len(archive.disk) == len(archive.files) + len(foreign)
    assert [file.bytes for file in archive.files] == [file.bytes for file in alone.files]


def order_of(name: str) -> tuple[str, int]:
    """By what files are sorted: start, then number; whatever the format, starts have one length."""
    start, number = name.rpartition("/")[2].removesuffix(".g3").rsplit("_", 1)
    return start, int(number)


@quick
@given(wild_logs(steps=FORWARD), SETTINGS)
def test_names_are_sorted_in_time_while_clocks_are(log: list[Message], chosen: Settings) -> None:
    if log and not 1_000_000_000_000 <= log[0].time < 9_000_000_000_000:
        log = [message._replace(time=message.time - log[0].time + NOON) for message in log]
    names = [file.path for file in archived(log, not_by_session(chosen)).all_files()]
    assert [order_of(name) for name in names] == sorted(order_of(name) for name in names)


@quick
@given(wild_logs(), SETTINGS)
def test_the_state_survives_json_at_any_point(log: list[Message], chosen: Settings) -> None:
    uninterrupted = archived(log, chosen)
    archive = MemoryArchive()
    for at, message in enumerate(log):
        archive.take(message, at, chosen)
        again = msgspec.json.decode(json(archive.state), type=State)
        assert again == archive.state
        archive.segmenter.reset(again)
        archive.seen = SequenceTracker(archive.seen.epochs())
    assert archive.all_files() == uninterrupted.all_files()


@quick
@given(wild_logs(), SETTINGS, st.integers(0, 3))
def test_what_closed_a_file_does_not_close_again(log: list[Message], chosen: Settings, further: int) -> None:
    """The closing record is stepped again after a restart, with the file's number or the one that was free."""
    state = State(STREAM)
    for message in log:
        if close_reason(state, message.headers, message.time):
            assert state.file
            state = after_close(state, state.file.number + further)
            assert close_reason(state, message.headers, message.time) is None
            assert state.file is None
        state, is_written = step(state, message.headers, message.time, chosen)
        if message.headers.kind is not Kind.FRAME:
            assert not is_written
            assert close_reason(state, message.headers, message.time) is None
            assert step(state, message.headers, message.time, chosen) == (state, is_written)


@quick
@given(wild_logs().flatmap(killed_ingests), SETTINGS, st.data())
def test_a_file_is_made_again_from_its_first_record(killed: Killed, chosen: Settings, data: st.DataObject) -> None:
    """This is how a partial that was lost is rebuilt: at any point, from the base it was opened on."""
    log = killed.log
    until = data.draw(st.integers(0, len(log)), label="damage is found after")
    archive = archived(log[:until], chosen)
    base = archive.base
    if base is None:
        return
    again = MemoryArchive()
    again.segmenter.reset(msgspec.json.decode(base.state, type=State), base.carried)
    again.seen = SequenceTracker(base.epochs)
    for at, message in enumerate(log[base.offset : until], base.offset):
        again.take(message, at, chosen)
    assert again.files == []
    assert again.open == archive.open
    assert again.state == archive.state
    assert again.seen.epochs() == archive.seen.epochs()
    assert again.seen.losses == []


@quick
@given(wild_logs().flatmap(killed_ingests), SETTINGS, st.data())
def test_republished_records_give_the_same_files(killed: Killed, chosen: Settings, data: st.DataObject) -> None:
    """Ingest is killed and publishes again, in chunks; the archiver is killed and continues from any commit."""
    log = killed.log
    uninterrupted = archived(killed.records, chosen)
    archive, saved_at = MemoryArchive(), 0
    saved = copy.deepcopy(archive)
    kills = data.draw(st.lists(st.integers(0, len(log)), max_size=2), label="kills after")
    commits = data.draw(st.sets(st.integers(0, len(log))), label="commits after")
    for until in [*sorted(kills), len(log)]:
        disk = archive.disk
        archive = copy.deepcopy(saved)
        archive.disk = disk
        archive.seen = SequenceTracker(saved.seen.epochs())
        for at in range(saved_at, until):
            archive.take(log[at], at, chosen)
            if at in commits:
                saved, saved_at = copy.deepcopy(archive), archive.seen.safe_offset(at + 1)
    assert archive.all_files() == uninterrupted.all_files()
    assert archive.disk == uninterrupted.disk


@quick
@given(wild_logs(), st.lists(SETTINGS, min_size=2, max_size=4), st.data())
def test_settings_take_effect_at_the_next_acquisition(
    log: list[Message], choices: list[Settings], data: st.DataObject
) -> None:
    archive, effective = MemoryArchive(), choices[0]
    for at, message in enumerate(log):
        chosen = data.draw(st.sampled_from(choices))
        before = archive.state
        archive.take(message, at, chosen)
        if archive.state.acquisition is None or archive.state.file is None:
            continue
        over = before.acquisition is None or abs(message.time - before.last_frame_ms) > effective.gap_ms
        if over and recorded([message]):
            effective = chosen
        assert archive.open
        assert archive.state.acquisition.settings == archive.open.settings == effective
        assert len(archive.open.head) <= len(effective.carry)


# The same table, written in another way


def expected(log: Sequence[Message], chosen: Settings) -> list[tuple[str, list[bytes], list[bytes]]]:
    """(path, head, frames) of each file, by looking at the whole log instead of going record by record."""
    files: list[tuple[str, list[bytes], list[bytes]]] = []
    used: list[tuple[int, int]] = []  # (start, number) of every file
    for numbers in acquisitions(log, chosen):
        first = log[numbers[0]]
        start = start_second(first.time)
        if used and used[-1][0] == start:
            number = used[-1][1] + 1
        elif all(start > earlier for earlier, _ in used):
            number = 0
        else:
            number = max(earlier for _, earlier in used) + 1
        name = first.headers.id or id_of_start(log, numbers[0]) or STREAM
        begun = first.time
        for at in numbers:
            message = log[at]
            if at == numbers[0] or message.time - begun >= chosen.time_per_file_ms:
                begun = message.time
                files.append((file_path(start, name, number, chosen.name_format), heads(log, at, chosen), []))
                used.append((start, number))
                number += 1
            files[-1][2].append(message.value)
    return files


def acquisitions(log: Sequence[Message], chosen: Settings) -> list[list[int]]:
    """The frames' places in the log, acquisition by acquisition."""
    found: list[list[int]] = []
    over = True
    last = 0
    for at, message in enumerate(log):
        silent = abs(message.time - last) > chosen.gap_ms
        if message.headers.kind is Kind.QUIET:
            over = over or silent
        elif message.headers.kind is not Kind.FRAME:
            over = True
        elif message.headers.type not in NOT_RECORDED_TYPES:
            if over or silent:
                found.append([])
            found[-1].append(at)
            over, last = False, message.time
    return found


def id_of_start(log: Sequence[Message], before: int) -> str | None:
    """The id of the last START, if neither END nor another connection came since."""
    for message in reversed(log[:before]):
        if message.headers.kind is Kind.START:
            return message.headers.id
        if message.headers.kind in (Kind.END, Kind.CONNECTED, Kind.LOST):
            return None
    return None


def heads(log: Sequence[Message], at: int, chosen: Settings) -> list[bytes]:
    """The last frames of the carried types before that place, since the last END, but for the type that is there."""
    latest: dict[int, bytes] = {}
    for message in reversed(log[:at]):
        if message.headers.kind is Kind.END:
            break
        code = message.headers.type
        if message.headers.kind is Kind.FRAME and code in chosen.carry and code is not None:
            latest.setdefault(code, message.value)
    return [value for code, value in reversed(latest.items()) if code != log[at].headers.type]


@settings(quick, max_examples=80)
@given(wild_logs(), SETTINGS)
def test_the_table_record_by_record_is_the_table_seen_as_a_whole(log: list[Message], chosen: Settings) -> None:
    chosen = not_by_session(chosen)
    assert contents(archived(log, chosen)) == expected(log, chosen)


def contents(archive: MemoryArchive) -> list[tuple[str, list[bytes], list[bytes]]]:
    """(path, head, frames) of each file."""
    return [(file.path, list(file.head), [value for _, value in file.frames]) for file in archive.all_files()]


# Names by session, written in another way


class Sessions:
    """(path, head, frames) of each file, with all that ever was of each session at hand."""

    def __init__(self, log: Sequence[Message], chosen: Settings) -> None:
        self.files: list[tuple[str, list[bytes], list[bytes]]] = []
        self._chosen = chosen
        self._highest: dict[int, int] = {}  # frame_num, by session
        self._numbers: dict[int, int] = {}  # the next one, by start
        self._carry: list[tuple[int | None, int, bytes]] = []  # session, type, value
        self._session: int | None = None
        self._open = False
        self._acquisition: tuple[int, str] | None = None
        self._begun = self._last = 0
        for at, message in enumerate(log):
            headers = message.headers
            silent = abs(message.time - self._last) > chosen.gap_ms
            if headers.kind is Kind.QUIET:
                if silent:
                    self._open, self._acquisition = False, None
            elif headers.kind is not Kind.FRAME:
                self._open, self._acquisition = False, None
                if headers.kind is Kind.END:
                    self._carry.clear()
            elif headers.type not in NOT_RECORDED_TYPES:
                if self._open and (silent or message.time - self._begun >= chosen.time_per_file_ms):
                    self._open = False
                self._frame(message, silent=silent, start_id=id_of_start(log, at))

    def _frame(self, message: Message, *, silent: bool, start_id: str | None) -> None:
        headers, session = message.headers, message.headers.session
        if headers.num is not None and session is not None:
            there = headers.num <= self._highest.get(session, headers.num - 1)
            if (
                there
                and headers.type in (OBSERVATION, WIRING, NONE)
                and not (self._open and session == self._session)
            ):
                return
            self._highest[session] = max(headers.num, self._highest.get(session, headers.num))
        if session is not None and session != self._session:
            if self._session not in NAMING:
                self._highest.pop(self._session or 0, None)  # as it names no files, it isn't remembered
            self._session = session
            self._carry.clear()
        if not self._open:
            if self._acquisition is None or silent:
                self._acquisition = start_second(message.time), headers.id or start_id or STREAM
            start, name = self._acquisition
            if session in NAMING:
                assert session is not None
                start = session
            self._acquisition = start, name
            number = self._numbers.get(start, 0)
            self._numbers[start] = number + 1
            of_session = self._session not in NAMING or self._session == start
            headed = of_session and headers.type not in (OBSERVATION, WIRING, NONE)
            heads = [value for _, code, value in self._carry if code != headers.type] if headed else []
            self.files.append((f"{start:010}"[:5] + f"/{name}/{start}_{number:03d}.g3", heads, []))
            self._open, self._begun = True, message.time
        self.files[-1][2].append(message.value)
        self._last = message.time
        if headers.type in self._chosen.carry and (session is None or session == self._session):
            self._carry = [carried for carried in self._carry if carried[1] != headers.type]
            self._carry.append((session, headers.type or 0, message.value))


NAMING = {session for session in SESSIONS if session is not None and session > 1_000_000_000}


@settings(quick, max_examples=200)
@given(wild_logs(), SETTINGS)
def test_names_by_session_record_by_record_are_those_seen_as_a_whole(log: list[Message], chosen: Settings) -> None:
    chosen = msgspec.structs.replace(chosen, name_format=NameFormat.SESSION)
    if len({start_second(message.time) for message in log} | NAMING) > SESSIONS_REMEMBERED:
        log = [message._replace(time=NOON + (message.time - NOON) % 2_000) for message in log]
    assert contents(archived(log, chosen)) == Sessions(log, chosen).files


@settings(quick, max_examples=100)
@given(wild_logs(), SETTINGS)
def test_the_files_of_a_session_are_numbered_without_a_hole(log: list[Message], chosen: Settings) -> None:
    """As far as sessions are remembered; readers take the files of a session by its prefix, and 000 as the first."""
    chosen = msgspec.structs.replace(chosen, name_format=NameFormat.SESSION)
    log = [message._replace(time=NOON + (message.time - NOON) % 2_000) for message in log]
    numbers: dict[str, list[int]] = {}
    for file in archived(log, chosen).all_files():
        start, number = order_of(file.path)
        numbers.setdefault(start, []).append(number)
    assert all(found == list(range(len(found))) for found in numbers.values())
