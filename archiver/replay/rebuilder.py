"""One stream's records → its files again, as the live archive has them.

The same laws decide (core/sequence.py, core/segmentation.py). What is known at the start differs: not a commit, but
what the archive told of its files (core/catalog.py). From there come the settings of each acquisition, the names
where a file couldn't have its own, and the digest that a rebuilt file must have. No I/O here: a `Target` takes what
files hold.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from archiver.core.checkpoint import Checkpoint, Place
from archiver.core.events import FileFinished
from archiver.core.paths import NameFormat, start_and_number
from archiver.core.segmentation import (
    Effect,
    Settings,
    State,
    Why,
    closed,
    closes,
    head,
    is_carried,
    is_repeated,
    path,
    step,
)
from archiver.core.sequence import Record, Seen
from archiver.core.used_names import Names
from archiver.segments.carry import Carry
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.frames.layout import frame_type_name

_FOR_EVER = 2**62


@dataclass(frozen=True, slots=True)
class Choice:
    """What an operator wants otherwise than it was recorded. Times in ms; None: as recorded."""

    time_per_file: int | None = None
    gap: int | None = None
    name_format: NameFormat | None = None
    carry: tuple[int, ...] | None = None

    @property
    def given(self) -> bool:
        """Whether anything is: then names, cuts and bytes aren't those of the live archive."""
        return self != Choice()

    def over(self, recorded: Settings) -> Settings:
        """The settings that result."""
        return Settings(
            recorded.time_per_file if self.time_per_file is None else self.time_per_file,
            recorded.gap if self.gap is None else self.gap,
            self.name_format or recorded.name_format,
            recorded.carry if self.carry is None else self.carry,
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files: those of acquisitions that overlap `since` to `until` (ms), and of these only the paths in `only`,
    if it has any."""

    since: int | None = None
    until: int | None = None
    only: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Start:
    """Where reading begins. offset: None for the topic's first record. before: what was so there, None if that isn't
    known; then `cut` says whether the topic once had records before it."""

    offset: int | None
    before: Checkpoint | None
    cut: bool


@dataclass(frozen=True, slots=True)
class Reached:
    """How far the archive is. offset: what was closed before it is told of. settings: of what isn't told of yet.
    open_first: epoch and seq of the first record of the file that is open at that offset, if one is; known: whether
    that can be said."""

    offset: int
    settings: Settings
    open_first: tuple[str, int] | None = None
    known: bool = False


class Content(Protocol):
    """What a file is made of, in whatever form the target wants it. length: bytes so far."""

    @property
    def length(self) -> int:
        """Bytes so far."""

    def write(self, parts: Sequence[bytes]) -> None:
        """Append these."""


@dataclass(slots=True)
class Rebuilt:
    """A file that is rebuilt, or would be. first, last: ms. told: its event, if there is one and it shall be as that.

    content: None if it isn't wanted, or can't be rebuilt; then `lacking` says why. why: None while it isn't closed.
    """

    stream: str
    path: str
    first: int
    content: Content | None
    told: FileFinished | None
    lacking: str = ""
    frames: int = 0
    last: int = 0
    why: Why | None = None


class Target(Protocol):
    """Where rebuilt files go."""

    def begin(self, stream: str, path: str, first: int) -> Content:
        """A file begins; first: ms. Raises OSError."""

    def finish(self, file: Rebuilt) -> None:
        """It is whole. Raises OSError."""

    def drop(self, file: Rebuilt) -> None:
        """It isn't wanted after all. Raises OSError."""


class Rebuilding:
    """Rebuilds from `start`. told: this stream's files, in order. load: finds the frames of a carry at their places.
    through: the last file that is wanted, if that is known.

    After each batch of messages look at `file` (the open one), `left_out` and `over` (nothing wanted comes any
    more). lost: how many records the topic lacks, as their sequence shows.
    """

    def __init__(
        self,
        stream: str,
        start: Start,
        told: Sequence[FileFinished],
        choice: Choice,
        wanted: Wanted,
        target: Target,
        load: Callable[[Mapping[int, Place]], Carry],
        reached: Reached,
        through: FileFinished | None = None,
    ) -> None:
        self.file: Rebuilt | None = None
        self.left_out: list[Rebuilt] = []
        self.over = False
        self.lost = 0
        self._stream, self._told_files, self._choice, self._wanted = stream, told, choice, wanted
        self._target, self._load, self._through = target, load, through
        before = start.before
        self._state = before.state if before else State(stream)
        self._seen = Seen(before.epochs, before.forgotten) if before else Seen()
        self._carry = load(before.carry) if before else Carry()
        self._begin = -1  # the first offset that we are given
        self._known = self._carry_known = not start.cut  # names, duplicates; and what heads the next files
        self._cut = start.cut  # the next frame may be in the midst of a file that began before the topic does
        self._held: list[Rebuilt] = []  # of an acquisition that may end before `since`
        self._reached = wanted.since is None  # by this acquisition
        self._too_late = False  # this acquisition is
        self._by_first = {(event.first.epoch, event.first.seq): n for n, event in enumerate(told)}
        self._by_closing = {(event.closing.epoch, event.closing.seq): event for event in told}
        self._newest, self._last_told = reached.settings, told[-1].closing.offset if told else -1
        self._open_first = reached.open_first
        self._in_recorded = False  # in the archive's file, whatever ours is
        self._in_recorded_until: tuple[str, int] | None = None
        self._finished = 0  # how many of the files told of end before this record
        self._told_until = max(reached.offset, self._last_told) if told or start.cut else 0
        self._recorded_until = max(reached.offset if reached.known else -1, self._last_told)
        self._recorded = told[0].settings if told else reached.settings
        until = wanted.until
        self._last_wanted = max(
            (event.closing.offset for event in told if until is None or event.first.time <= until), default=-1
        )

    def take(self, label: RecordHeaders, time: int, value: bytes, offset: int) -> None:
        """The topic's next message, its time in ms. Raises what the target raises."""
        if self._begin < 0:
            self._begin = offset
        record = self._seen.whole(label, time, value, offset)
        if record is None:
            return
        self._step(record)
        self._seen.saw(record.label)
        if self._seen.losses:
            self.lost += sum(loss.records or 0 for loss in self._seen.losses)
            self._seen.losses.clear()

    def end(self) -> None:
        """The log is at its end: what is open stays open, if it is wanted."""
        self._drop_held()
        if self.file and not self._reached:
            self._target.drop(self.file)
            self.file = None

    def _step(self, record: Record) -> None:
        label, time = record.label, record.time
        if self._through and record.offset > self._through.closing.offset:
            self.over = True
            return
        if not self._known:
            self._find_where(record)
        identity = label.epoch, label.seq
        self._begin_recorded(identity)
        while why := closes(self._state, label, time):
            self._close(why, record)
        if self.over:
            return
        settings = self._settings(record) if self._state.file is None else self._recorded
        state, effect = step(self._state, label, time, settings)
        if effect is Effect.OPEN_AND_WRITE:
            self._open(state, record)
            if self.over:
                return
        if effect is not Effect.NOTHING:
            self._write(state, record)
        elif label.kind in (Kind.START, Kind.END, Kind.CONNECTED, Kind.LOST):
            self._cut = False
            self._carry_known = self._carry_known or label.kind is Kind.END
        self._state = state
        if identity == self._in_recorded_until:
            self._in_recorded = False

    def _begin_recorded(self, identity: tuple[str, int]) -> None:
        """If the archive has a file that begins with that record, note in which we are, and with which settings."""
        if (number := self._by_first.get(identity)) is not None:
            event = self._told_files[number]
            self._in_recorded, self._recorded = True, event.settings
            self._in_recorded_until = event.last.epoch, event.last.seq
        elif identity == self._open_first:
            self._in_recorded, self._recorded, self._in_recorded_until = True, self._newest, None

    def _told(self, record: Record) -> FileFinished | None:
        number = self._by_first.get((record.label.epoch, record.label.seq))
        return None if number is None else self._told_files[number]

    def _settings(self, record: Record) -> Settings:
        if not self._in_recorded:
            if record.offset >= self._last_told:
                self._recorded = self._newest
            if record.offset < self._recorded_until and is_repeated(self._state, record.label):
                # The archive went on after it, and it is in no file: it was left out, whatever settings were before.
                name_format = self._choice.name_format or NameFormat.SESSION
                return replace(self._choice.over(self._recorded), name_format=name_format)
        settings = self._choice.over(self._recorded)
        # Where a file begins that began before the topic does, only what was told can say.
        return replace(settings, time_per_file=_FOR_EVER) if self._cut else settings

    def _find_where(self, record: Record) -> None:
        """Not knowing what was before: if this record closed or began a file told of, go on as the archive did."""
        identity = record.label.epoch, record.label.seq
        closed_file, number = self._by_closing.get(identity), self._by_first.get(identity)
        # If it stood before our first record, this is a copy, from a killed ingest.
        here = closed_file and closed_file.closing.offset >= self._begin
        if closed_file and here and not self._is_only_their_cut(closed_file):
            self._adopt(closed_file, closed_file.checkpoint.state, closed_file.checkpoint.epochs)
        elif number is not None and self._told_files[number].first.offset >= self._begin:
            event = self._told_files[number]
            before = self._told_files[number - 1] if number else None
            if before is None or not self._is_only_their_cut(before):
                state = before.checkpoint.state if before else State(self._stream)
                if before is None or before.why is not Why.TIME:
                    state = replace(state, acquisition=None, start_id=event.id)
                self._adopt(before, replace(state, carry=event.carry), _seen_before(event, before))

        if not self._known and self._state.file is None:
            self._know_sessions(record)

    def _know_sessions(self, record: Record) -> None:
        """As the last file before this record left them: what is sent again of those is in no file, though we can't
        know what else was so there."""
        before = self._finished
        while self._finished < len(self._told_files) and self._told_files[self._finished].offset <= record.offset:
            self._finished += 1
        if self._finished > before:
            found = self._told_files[self._finished - 1].checkpoint.state
            self._state = replace(self._state, session=found.session, num=found.num, names=found.names)

    def _is_only_their_cut(self, event: FileFinished) -> bool:
        return event.why is Why.TIME and self._choice.given

    def _adopt(self, after: FileFinished | None, state: State, epochs: Sequence[tuple[str, int]]) -> None:
        self._leave_out()
        self._state = state
        places = after.checkpoint.carry if after else {}
        self._carry = self._load({code: place for code, place in places.items() if code in state.carry})
        self._seen.also(epochs, after.checkpoint.forgotten if after else ())
        self._known, self._carry_known, self._cut = True, True, False

    def _open(self, state: State, record: Record) -> None:
        label, time = record.label, record.time
        event = None if self._choice.given else self._told(record)
        name = event.path if event else path(state)
        begins = (
            self._state.acquisition is None or abs(time - self._state.last) > self._state.acquisition.settings.gap
        )
        if begins and self._wanted.until is not None:
            self._too_late = time > self._wanted.until
            if self._too_late and record.offset > self._last_wanted:
                self.over = True
                return
        file = Rebuilt(self._stream, name, time, None, event)
        codes = head(state, label.type)
        assert state.acquisition
        if self._cut:
            file.lacking = "its beginning has left the topic"
        elif lacking := self._lacking(codes, label.type, state.acquisition.settings, event):
            file.lacking = f"its head repeats a frame of type {frame_type_name(lacking)} that can't be found any more"
        elif not self._too_late and (not self._wanted.only or name in self._wanted.only):
            file.content = self._target.begin(self._stream, name, time)
        self.file = file
        if file.content:
            for code in codes:
                file.content.write(self._carry.repeat(code, name, file.content.length))

    def _lacking(
        self, codes: tuple[int, ...], first: int | None, settings: Settings, event: FileFinished | None
    ) -> int:
        """The type of a frame that the file's head needs and that isn't here; 0 if there is none."""
        here = self._carry.places(codes)
        needed = list(event.carry) if event else list(codes)
        if not event and not self._carry_known:
            needed += [code for code in settings.carry if code != first]
        return next((code for code in needed if code not in here), 0)

    def _write(self, state: State, record: Record) -> None:
        file, code = self.file, record.label.type
        assert file
        assert state.acquisition
        if code is not None and is_carried(state, record.label):
            self._carry.keep(code, record, file.path, file.content.length if file.content else 0)
        if file.content:
            file.content.write(record.value)
        file.frames += 1
        file.last = record.time
        if not self._reached and self._wanted.since is not None and record.time >= self._wanted.since:
            self._reached = True
            for held in self._held:
                self._target.finish(held)
            self._held.clear()

    def _close(self, why: Why, closing: Record) -> None:
        if self._cut:
            self._leave_out()
            self._state = replace(self._state, file=None, acquisition=None, names=Names())
            self._cut = False
            return
        file = self.file
        assert file
        assert self._state.file
        self.file, file.why = None, why
        _, number = start_and_number(file.path)
        self._state = closed(self._state, number)
        self.over = file.told is not None and file.told is self._through
        if not file.told and not self._choice.given and closing.offset < self._told_until:
            # As when a killed ingest published again what had been recorded before the topic's first record.
            self._target.drop(file)
            file.lacking = file.lacking or "no file is told of that begins so"
        if file.lacking:
            self.left_out.append(file)
        elif file.content and self._reached:
            self._target.finish(file)
        elif file.content:
            self._held.append(file)
        if why is not Why.TIME:
            self._drop_held()
            self._reached = self._wanted.since is None

    def _drop_held(self) -> None:
        for held in self._held:
            self._target.drop(held)
        self._held.clear()

    def _leave_out(self) -> None:
        if self.file:
            self._target.drop(self.file)
            self.left_out.append(self.file)
            self.file = None


def _seen_before(event: FileFinished, before: FileFinished | None) -> list[tuple[str, int]]:
    """What had been seen before a file's first record. Between that and the end of the file before, there may have
    been more of the older epochs than is told; an epoch ends when the next begins, so it is all of them."""
    epochs = dict(before.checkpoint.epochs) if before else {}
    if before:
        epochs[before.closing.epoch] = 0
    first = event.first
    return [*((epoch, _FOR_EVER) for epoch in epochs if epoch != first.epoch), (first.epoch, first.seq - 1)]
