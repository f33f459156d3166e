"""The timeline of a night: lanes, bars and marks as percentages of its width. Pure.

Percentages, so that the same SVG fits a phone and a wall. A lane's bars are its acquisitions with cuts where a file
ends, or, where there is room, its files; each is a link.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final, TypeVar

from archiver.catalog.recorded import Acquisition, Loss, Recorded, RecordedFile
from archiver.catalog.rows import FINISHED
from archiver.core.formatting import count_noun, format_bytes, format_time
from archiver.core.segmentation import CloseReason
from archiver.web.text import short_duration
from archiver.web.urls import acquisition_url, file_url, loss_anchor
from archiver.web.wording import closing_brief, records_text

HOUR_MS: Final = 3_600_000
MAX_FILE_BARS: Final = 600
"""With more files in view, bars are acquisitions: as many links as a keyboard's user can pass."""
_MIN_WIDTH: Final = 0.15
"""Percent: what is shorter is still seen, and can be pointed at."""

_END_MARKS: Final[Mapping[str, str]] = {
    CloseReason.END: "end",
    CloseReason.GAP: "gap",
    CloseReason.LOST: "disconnected",
}
"""The marks of the reasons why an acquisition ended."""

T = TypeVar("T", Acquisition, RecordedFile, Loss)


@dataclass(frozen=True, slots=True)
class Window:
    """What a timeline shows. Times are in ms since the epoch."""

    start_ms: int
    end_ms: int

    def x(self, time_ms: int) -> float:
        """Return where a time is, in percent; what is outside is at the edge."""
        share = (min(max(time_ms, self.start_ms), self.end_ms) - self.start_ms) / (self.end_ms - self.start_ms)
        return round(100 * share, 3)

    def shows(self, time_ms: int) -> bool:
        """Return whether a time is inside."""
        return self.start_ms <= time_ms < self.end_ms

    def inside_ms(self, begin_ms: int, end_ms: int) -> int:
        """Return how much of a time is inside."""
        return max(0, min(end_ms, self.end_ms) - max(begin_ms, self.start_ms))

    def part_of(self, acquisition: Acquisition) -> Acquisition | None:
        """Return an acquisition with those of its files that have a part inside; None if none has."""
        files = tuple(it for it in acquisition.files if self._overlaps(it.begin_ms, it.end_ms))
        return Acquisition(files) if files else None

    def _overlaps(self, begin_ms: int, end_ms: int) -> bool:
        return begin_ms < self.end_ms and (end_ms > self.start_ms or begin_ms >= self.start_ms)


@dataclass(frozen=True, slots=True)
class Bar:
    """An acquisition, or a file; a link."""

    x: float
    width: float
    href: str
    title: str
    kind: str
    """`recorded`, or of a file: `salvaged`, `adopted`, `retired`; `open` while it is recorded."""
    cuts: tuple[float, ...] = ()
    """Where one file ends and the next begins."""

    @property
    def cut_path(self) -> str:
        """The cuts as the attribute `d` of an SVG path, 1 high; empty if there is none."""
        return vertical_lines(self.cuts)


@dataclass(frozen=True, slots=True)
class Mark:
    """Something at a moment, or with a width, for a while."""

    x: float
    kind: str
    """`end`, `gap`, `disconnected`: how an acquisition ended. `loss`. `missing`: frames that were never received."""
    title: str
    href: str = ""
    width: float = 0.0


@dataclass(frozen=True, slots=True)
class Lane:
    """A stream's line."""

    stream: str
    text: str
    """What it shows, in words."""
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]

    @property
    def end_path(self) -> str:
        """The marks of END as the attribute `d` of an SVG path, 1 high; the bars' titles say it, too.

        With an element for each, a third of the page of a night with thousands of acquisitions was these.
        """
        return vertical_lines(it.x for it in self.marks if it.kind == "end")

    @property
    def other_marks(self) -> tuple[Mark, ...]:
        """All other marks."""
        return tuple(it for it in self.marks if it.kind != "end")


@dataclass(frozen=True, slots=True)
class Tick:
    """A time on the axis."""

    x: float
    text: str
    is_major: bool
    """Whether it is shown on a phone, too."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """A timeline's geometry."""

    ticks: tuple[Tick, ...]
    lanes: tuple[Lane, ...]
    now_x: float | None
    """Where the present is; None if it isn't in view."""
    by_file: bool
    """Whether bars are files."""

    @property
    def grid(self) -> tuple[tuple[str, str], ...]:
        """The grid of each lane, as CSS classes and paths, 1 high: one element instead of dozens in each lane."""
        return tuple(
            (name, vertical_lines(tick.x for tick in self.ticks if tick.is_major is is_major))
            for name, is_major in (("major", True), ("minor", False))
        )


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that is being recorded."""

    stream: str
    path: str
    since_ms: int


def timeline(
    window: Window,
    recorded: Recorded,
    losses: Iterable[Loss],
    open_files: Iterable[OpenFile],
    now_ms: int,
) -> Timeline:
    """Return the timeline. recorded, losses: of the window's time."""
    seen = [it for it in map(window.part_of, recorded.acquisitions) if it]
    by_file = sum(len(it.files) for it in seen) + len(recorded.others) <= MAX_FILE_BARS
    acquisitions, others, lost = _by_stream(seen), _by_stream(recorded.others), _by_stream(losses)
    opened = {it.stream: it for it in open_files if it.since_ms < window.end_ms and now_ms >= window.start_ms}
    lanes = tuple(
        _lane(
            stream,
            window,
            acquisitions.get(stream, ()),
            others.get(stream, ()),
            lost.get(stream, ()),
            _bar(window, opened[stream].since_ms, now_ms, "/", _open_title(opened[stream]), "open")
            if stream in opened
            else None,
            by_file=by_file,
        )
        for stream in sorted({*acquisitions, *others, *lost, *opened})
    )
    return Timeline(tuple(_ticks(window)), lanes, window.x(now_ms) if window.shows(now_ms) else None, by_file)


def vertical_lines(xs: Iterable[float]) -> str:
    """Return vertical lines, 1 high, as the attribute `d` of an SVG path."""
    return "".join(f"M{x} 0V1" for x in xs)


def _by_stream(items: Iterable[T]) -> Mapping[str, Sequence[T]]:
    found: dict[str, list[T]] = {}
    for it in items:
        found.setdefault(it.stream, []).append(it)
    return found


def _lane(
    stream: str,
    window: Window,
    acquisitions: Sequence[Acquisition],
    others: Sequence[RecordedFile],
    losses: Sequence[Loss],
    opened: Bar | None,
    *,
    by_file: bool,
) -> Lane:
    files = [file for it in acquisitions for file in it.files]
    if by_file:
        bars = [_file_bar(window, file) for file in files]
    else:
        bars = [_acquisition_bar(window, it) for it in acquisitions]
    bars += [_file_bar(window, file) for file in others]
    bars += [opened] if opened else []
    marks = [
        *(_missing(window, file) for file in files if file.missing),
        *(
            _end(window, it, after)
            for it, after in zip_longest(acquisitions, acquisitions[1:])
            if it.closed in _END_MARKS and window.shows(it.files[-1].end_ms)
        ),
        *(_loss(window, it) for it in losses),
    ]
    parts = [count_noun(len(acquisitions), "acquisition"), count_noun(len(files) + len(others), "file")]
    if losses:
        parts.append(f"{len(losses)} loss" + "es" * (len(losses) != 1))
    return Lane(stream, f"{stream}: {', '.join(parts)}", tuple(bars), tuple(marks))


def _acquisition_bar(window: Window, acquisition: Acquisition) -> Bar:
    files = acquisition.files
    begin_ms, end_ms = files[0].begin_ms, files[-1].end_ms
    size = format_bytes(sum(it.bytes for it in files))
    title = f"{_span(begin_ms, end_ms)}, {count_noun(len(files), 'file')}, {size}{_faults(files)}"
    title += _ending(files[-1])
    cuts = tuple(window.x(it.begin_ms) for it in files[1:] if window.shows(it.begin_ms))
    kind = "retired" if all(it.retired for it in files) else "recorded"
    return _bar(window, begin_ms, end_ms, acquisition_url(acquisition.stream, acquisition.number), title, kind, cuts)


def _file_bar(window: Window, file: RecordedFile) -> Bar:
    kind = "retired" if file.retired else "recorded" if file.kind == FINISHED else file.kind
    title = f"{_span(file.begin_ms, file.end_ms)}, {file.path}, {format_bytes(file.bytes)}{_faults([file])}"
    title += _ending(file)
    title += f", {kind}" * (kind != "recorded")
    return _bar(window, file.begin_ms, file.end_ms, file_url(file.path), title, kind)


def _bar(
    window: Window, begin_ms: int, end_ms: int, href: str, title: str, kind: str, cuts: tuple[float, ...] = ()
) -> Bar:
    x, width = _extent(window, begin_ms, end_ms)
    return Bar(x, width, href, title, kind, cuts)


def _extent(window: Window, begin_ms: int, end_ms: int) -> tuple[float, float]:
    """Return where something begins and how wide it is: never too narrow to be seen."""
    x = window.x(begin_ms)
    width = max(_MIN_WIDTH, round(window.x(end_ms) - x, 3))
    return round(min(x, 100 - width), 3), width


def _span(begin_ms: int, end_ms: int) -> str:
    return f"{format_time(begin_ms)[11:]} to {format_time(end_ms)[11:]}"


def _open_title(it: OpenFile) -> str:
    return f"since {format_time(it.since_ms)[11:]}, {it.path}, being recorded"


def _faults(files: Sequence[RecordedFile]) -> str:
    missing = sum(it.missing for it in files)
    return f", {count_noun(missing, 'frame')} missing" if missing else ""


def _ending(last: RecordedFile) -> str:
    """Return how an acquisition ended with this file, if that is marked."""
    return f", {closing_brief(last.closed)}" if last.closed in _END_MARKS else ""


def _missing(window: Window, file: RecordedFile) -> Mark:
    x, width = _extent(window, file.begin_ms, file.end_ms)
    return Mark(x, "missing", f"{count_noun(file.missing, 'frame')} missing in {file.path}", width=width)


def _end(window: Window, acquisition: Acquisition, after: Acquisition | None) -> Mark:
    """Return the mark of an acquisition's end, if it wasn't simply the next one's START. after: the next one."""
    end_ms = acquisition.files[-1].end_ms
    title = f"{format_time(end_ms)[11:]} {closing_brief(acquisition.closed)}"
    if acquisition.closed == CloseReason.GAP and after:
        title += f": no frames for {short_duration(after.first_ms - end_ms)}"
    return Mark(window.x(end_ms), _END_MARKS[acquisition.closed], title)


def _loss(window: Window, loss: Loss) -> Mark:
    x = window.x(loss.until_ms if loss.since_ms is None else min(loss.since_ms, loss.until_ms))
    title = f"{format_time(loss.until_ms)[11:]}, {records_text(loss.records)} lost"
    return Mark(x, "loss", title, f"#{loss_anchor(loss)}", round(window.x(loss.until_ms) - x, 3))


def _ticks(window: Window) -> Iterator[Tick]:
    hours = (window.end_ms - window.start_ms) / HOUR_MS
    step_ms = HOUR_MS if hours > 6 else 10 * 60_000 if hours > 0.5 else 60_000
    major_ms = 3 * step_ms
    time_ms = -(-window.start_ms // step_ms) * step_ms
    while time_ms < window.end_ms:
        text = format_time(time_ms)[11:16]
        yield Tick(window.x(time_ms), text, (time_ms - window.start_ms) % major_ms == 0)
        time_ms += step_ms
