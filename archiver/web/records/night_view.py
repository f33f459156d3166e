"""What the page of a night shows: sums, the timeline, losses, a row for each stream. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from urllib.parse import quote

from archiver.catalog.recorded import Acquisition, Loss, Recorded, RecordedFile
from archiver.core.formatting import format_bytes, format_iso, format_time
from archiver.web.records.timeline import HOUR_MS, OpenFile, Timeline, Window, timeline
from archiver.web.records.views import LossRow, loss_row
from archiver.web.text import short_duration
from archiver.web.urls import DAY_MS, night_of, night_start_ms, night_url


@dataclass(frozen=True, slots=True)
class Link:
    """A link; without `href`, its text alone."""

    text: str
    href: str = ""
    rel: str = ""
    is_current: bool = False


@dataclass(frozen=True, slots=True)
class HourLink:
    """A link that zooms to an hour."""

    text: str
    href: str
    title: str
    """The hour, and whether anything was recorded in it."""
    has_data: bool
    is_current: bool


@dataclass(frozen=True, slots=True)
class StreamSums:
    """A stream's row."""

    stream: str
    href: str
    acquisitions: str
    files: str
    size: str
    recorded: str
    missing: str
    losses: str


@dataclass(frozen=True, slots=True)
class NightView:
    """The page of a night."""

    heading: str
    span: str
    pager: tuple[Link, ...]
    hours: tuple[HourLink, ...]
    sums: tuple[tuple[str, str], ...]
    timeline: Timeline
    has_others: bool
    """Whether there are salvaged, adopted or retired files."""
    losses: tuple[LossRow, ...]
    streams: tuple[StreamSums, ...]
    json_href: str


def night_window(night: date) -> Window:
    """Return a whole night."""
    start_ms = night_start_ms(night)
    return Window(start_ms, start_ms + DAY_MS)


def night_view(
    night: date,
    window: Window,
    recorded: Recorded,
    losses: Sequence[Loss],
    open_files: Sequence[OpenFile],
    spans: Sequence[tuple[int, int]],
    now_ms: int,
) -> NightView:
    """Return the page.

    window: the night, or a part of it. recorded, losses: of that time. spans: when the whole night's files begin and
    end.
    """
    whole = night_window(night)
    is_zoomed = window != whole
    parts = [part for part in map(window.part_of, recorded.acquisitions) if part]
    files = [it for part in parts for it in part.files]
    every = [*files, *recorded.others]
    return NightView(
        heading=f"Night of {night.isoformat()}",
        span=f"{format_time(window.start_ms)[5:16]} to {format_time(window.end_ms)[5:16]}",
        pager=tuple(_hour_pager(night, window) if is_zoomed else _night_pager(night, now_ms)),
        hours=tuple(_hours(night, window, [*spans, *((it.since_ms, now_ms) for it in open_files)], now_ms)),
        sums=tuple(_sums(every, losses)),
        timeline=timeline(window, recorded, losses, open_files, now_ms),
        has_others=bool(recorded.others) or any(it.retired for it in files),
        losses=tuple(loss_row(it, now_ms) for it in losses),
        streams=tuple(_streams(window, parts, recorded.others, losses)),
        json_href=f"{night_url(night)}.json" + (_zoom(window) if is_zoomed else ""),
    )


def zoom_url(night: date, window: Window) -> str:
    """Return the URL of a part of a night."""
    return night_url(night) + _zoom(window)


def _zoom(window: Window) -> str:
    start, end = ((format_iso(it) or "")[:16] + "Z" for it in (window.start_ms, window.end_ms))
    return f"?from={quote(start)}&to={quote(end)}"


def _night_pager(night: date, now_ms: int) -> Iterator[Link]:
    if night > date.min + timedelta(days=1):
        before = night - timedelta(days=1)
        yield Link(f"← {before.isoformat()}", night_url(before), "prev")
    present = night_of(now_ms)
    if night < present:
        after = night + timedelta(days=1)
        yield Link(f"{after.isoformat()} →", night_url(after), "next")
    if night != present:
        yield Link("the present night", "/night")


def _hour_pager(night: date, window: Window) -> Iterator[Link]:
    length_ms = window.end_ms - window.start_ms
    whole = night_window(night)
    for text, start_ms, rel in (
        ("← earlier", window.start_ms - length_ms, "prev"),
        ("later →", window.end_ms, "next"),
    ):
        inside = whole.start_ms <= start_ms and start_ms + length_ms <= whole.end_ms
        yield Link(text, zoom_url(night, Window(start_ms, start_ms + length_ms)) if inside else "", rel)
    yield Link("the whole night", night_url(night))


def _hours(night: date, window: Window, spans: Iterable[tuple[int, int]], now_ms: int) -> Iterator[HourLink]:
    start_ms = night_start_ms(night)
    hours = range(DAY_MS // HOUR_MS)
    with_data = {
        hour
        for begin_ms, end_ms in spans
        for hour in range(
            max(0, (begin_ms - start_ms) // HOUR_MS), min(len(hours), (end_ms - start_ms) // HOUR_MS + 1)
        )
    }
    for hour in hours:
        part = Window(start_ms + hour * HOUR_MS, start_ms + (hour + 1) * HOUR_MS)
        has_data = hour in with_data
        what = "recorded" if has_data else "still to come" if part.start_ms > now_ms else "nothing was recorded"
        text = format_time(part.start_ms)[11:13]
        yield HourLink(text, zoom_url(night, part), f"{text} h: {what}", has_data, part == window)


def _sums(files: Sequence[RecordedFile], losses: Sequence[Loss]) -> Iterator[tuple[str, str]]:
    streams, missing, lost = (
        {it.stream for it in files},
        sum(it.missing for it in files),
        sum(it.times for it in losses),
    )
    yield f"{len(streams):,}", "stream" if len(streams) == 1 else "streams"
    yield f"{len(files):,}", "file" if len(files) == 1 else "files"
    yield format_bytes(sum(it.bytes for it in files)), "recorded"
    yield f"{missing:,}", "frame missing" if missing == 1 else "frames missing"
    yield f"{lost:,}", "loss" if lost == 1 else "losses"


def _streams(
    window: Window, parts: Sequence[Acquisition], others: Sequence[RecordedFile], losses: Sequence[Loss]
) -> Iterator[StreamSums]:
    names = {it.stream for it in parts} | {it.stream for it in others} | {it.stream for it in losses}
    since, until = (quote((format_iso(it) or "")[:19] + "Z") for it in (window.start_ms, window.end_ms))
    for stream in sorted(names):
        theirs = [it for it in parts if it.stream == stream]
        files = [file for it in theirs for file in it.files]
        every = [*files, *(it for it in others if it.stream == stream)]
        recorded_ms = sum(window.inside_ms(it.files[0].begin_ms, it.files[-1].end_ms) for it in theirs)
        missing = sum(it.missing for it in files)
        lost = sum(it.times for it in losses if it.stream == stream)
        yield StreamSums(
            stream=stream,
            href=f"/files?stream={quote(stream)}&since={since}&until={until}",
            acquisitions=f"{len(theirs):,}",
            files=f"{len(every):,}",
            size=format_bytes(sum(it.bytes for it in every)),
            recorded=short_duration(recorded_ms),
            missing=f"{missing:,}" if missing else "",
            losses=f"{lost:,}" if lost else "",
        )
