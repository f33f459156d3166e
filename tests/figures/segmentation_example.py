"""An example stream on a timeline, and its files, as the segmenter makes them."""

from collections.abc import Iterator
from typing import NamedTuple

from archiver.core.paths import NameFormat
from archiver.core.segmentation import Settings, State
from archiver.core.segmenter import Segmenter
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.sequence import Record
from g3stream.frame_format.layout import FRAME_TYPES
from tests.figures import svg

_STREAM, _EPOCH = "crate1slot2", "0" * 16
_BEGIN_S = 1_753_651_800
"""2025-07-27 21:30:00 UTC; also the session's id."""
SETTINGS = Settings(time_per_file_ms=30_000)
_OBSERVATION, _SCAN = FRAME_TYPES["Observation"], FRAME_TYPES["Scan"]
_LEFT, _TOP, _PX_PER_S = 24, 150, 5.8
_WIDTH, _HEIGHT = 760, 380
_NAME_PX = 175


class Happening(NamedTuple):
    """A record of the example."""

    at_s: int
    kind: Kind
    type: int | None = None
    num: int | None = None


class ExampleFile(NamedTuple):
    """A file of the example."""

    path: str
    head: tuple[int, ...]
    """The types of the frames repeated at its head."""
    first_s: int
    frames: list[Happening]
    why: str
    """Why it was closed."""
    closed_s: int


def stream() -> list[Happening]:
    """Return the example's records."""
    found = [Happening(0, Kind.CONNECTED), Happening(1, Kind.START), Happening(2, Kind.FRAME, _OBSERVATION, 1)]
    found += _scans(3, 46, 2)
    found += [Happening(46, Kind.END), Happening(50, Kind.START), Happening(51, Kind.FRAME, _OBSERVATION, 24)]
    found += _scans(52, 63, 25)
    found += [Happening(at, Kind.QUIET) for at in range(63, 77)]  # each second: nothing comes
    found += _scans(77, 92, 31)
    found += [Happening(92, Kind.LOST), Happening(97, Kind.CONNECTED)]
    found += [Happening(97, Kind.FRAME, _OBSERVATION, 24)]  # a sender repeats it on each connection
    found += _scans(98, 113, 39)
    return [*found, Happening(113, Kind.END)]


def _scans(begin_s: int, end_s: int, num: int) -> list[Happening]:
    """Return a Scan frame each two seconds."""
    return [Happening(at, Kind.FRAME, _SCAN, num + n) for n, at in enumerate(range(begin_s, end_s, 2))]


def files(name_format: NameFormat = NameFormat.DATE) -> list[ExampleFile]:
    """Return the example's files, as the segmenter decides."""
    settings = Settings(time_per_file_ms=SETTINGS.time_per_file_ms, name_format=name_format)
    segmenter, found, frames = Segmenter(State(_STREAM)), list[ExampleFile](), list[Happening]()
    for seq, happening in enumerate(stream()):
        at_s, kind, code, num = happening
        session = _BEGIN_S if kind is Kind.FRAME else None
        headers = RecordHeaders(kind, _EPOCH, seq, code, _STREAM if session else None, session, num)
        record = Record(headers, (_BEGIN_S + at_s) * 1000, (b"frame",), seq)
        decision = segmenter.decide(record, settings)
        if decision.close:
            segmenter.on_closed(found[-1].path)
            found[-1] = found[-1]._replace(why=decision.close.value, closed_s=at_s)
            decision = segmenter.decide(record, settings)
        if decision.opens:
            frames = []
            head = tuple(segmenter.head(decision))
            found.append(ExampleFile(decision.path, head, at_s, frames, "", at_s))
        if decision.writes:
            frames.append(happening)
        segmenter.apply(decision)
    return found


def markdown() -> str:
    """Return the table of the example's files, as Markdown."""
    lines = ["| file | at its head | its own frames | ended by |", "|---|---|---|---|"]
    for file in files():
        head = "the Observation, repeated" if file.head else "—"
        own = {
            name: sum(frame.type == code for frame in file.frames)
            for name, code in (("Observation", _OBSERVATION), ("Scan", _SCAN))
        }
        counts = ", ".join(f"{count} {name}" for name, count in own.items() if count)
        lines.append(f"| `{file.path}` | {head} | {counts} | `{file.why}`, at {file.closed_s} s |")
    return "\n".join(lines) + "\n"


def names_markdown() -> str:
    """Return the names of the example's files by each format, as Markdown."""
    by_format = [[file.path.rpartition("/")[2] for file in files(name_format)] for name_format in NameFormat]
    lines = [
        "| " + " | ".join(f"`{name_format.value}`" for name_format in NameFormat) + " |",
        "|---" * len(NameFormat) + "|",
    ]
    lines += ["| " + " | ".join(f"`{name}`" for name in row) + " |" for row in zip(*by_format, strict=True)]
    return "\n".join(lines) + "\n"


def timeline_drawing() -> str:
    """Return the drawing: the records above, the files below."""
    elements = [*_axis(), *_records(), *_files()]
    title = "An example stream on a timeline, and the files that it becomes"
    return svg.drawing(_WIDTH, _HEIGHT, title, "Described in the table on the page.", elements)


def _x(at_s: float) -> float:
    return round(_LEFT + at_s * _PX_PER_S, 1)


def _axis() -> Iterator[str]:
    yield svg.text(_LEFT, 28, ["records, and when they were received"], "start", "strong")
    yield svg.path(f"M{_x(0):g} {_TOP} H{_x(120):g}", name="thin")
    for at_s in range(0, 121, 10):
        yield svg.path(f"M{_x(at_s):g} {_TOP} v6", name="thin")
        yield svg.text(_x(at_s), _TOP + 20, [f"{at_s} s"], "middle", "small faint")


def _records() -> Iterator[str]:
    named = {Kind.CONNECTED: 0, Kind.START: 1, Kind.END: 1, Kind.LOST: 1}
    for happening in stream():
        x = _x(happening.at_s)
        if happening.kind in named:
            y = 52 + 22 * named[happening.kind]
            yield svg.path(f"M{x:g} {y + 4} V{_TOP}", name="thin")
            at, anchor = (x - 4, "end") if happening.kind in (Kind.END, Kind.LOST) else (x + 4, "start")
            yield svg.text(at, y, [happening.kind.value], anchor, "small")
        elif happening.type == _OBSERVATION:
            yield svg.bar(x - 3, _TOP - 30, 6, 28, "mark")
        elif happening.kind is Kind.QUIET:
            yield svg.path(f"M{x:g} {_TOP - 4} v-6", name="thin")
        else:
            yield svg.path(f"M{x:g} {_TOP - 2} v-26")
    yield svg.text(_x(70), _TOP - 36, ["quiet, each second"], "middle", "small faint")


def _files() -> Iterator[str]:
    top = _TOP + 52
    yield svg.text(_LEFT, top, ["files, and why each ends"], "start", "strong")
    for n, file in enumerate(files()):
        x, end, y = _x(file.first_s), _x(file.closed_s), top + 14 + 26 * n
        yield svg.bar(x, y, end - x, 18)
        own_observation = any(frame.type == _OBSERVATION for frame in file.frames)
        if file.head or own_observation:
            yield svg.bar(x, y, 6, 18, "mark" if own_observation else "mark repeated")
        name = file.path.rpartition("/")[2]
        after = end + 8 + _NAME_PX + 40 < _WIDTH
        yield svg.text(
            end + 8 if after else x - 8, y + 13, [f"{name} · {file.why}"], "start" if after else "end", "small"
        )
    y = _HEIGHT - 20
    yield svg.path(f"M{_LEFT + 3} {y - 12} v14")
    yield svg.text(_LEFT + 12, y, ["Scan frame"], "start", "small faint")
    yield svg.bar(_LEFT + 100, y - 11, 6, 13, "mark")
    yield svg.text(_LEFT + 112, y, ["Observation frame"], "start", "small faint")
    yield svg.bar(_LEFT + 240, y - 11, 6, 13, "mark repeated")
    yield svg.text(
        _LEFT + 252, y, ["the last Observation frame, repeated at a file's head (carry)"], "start", "small faint"
    )
