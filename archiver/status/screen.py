"""The screen of `archiver status`: what is wrong, a row for each stream and each archiver, and sums. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence

from archiver.console.tables import Line, Part, Table
from archiver.core.formatting import count_noun, format_bytes
from archiver.core.segmentation import CloseReason
from archiver.status.verdict import TROUBLED, StreamState, StreamVerdict, Verdict, hours_left
from g3stream.host.durations import format_duration
from g3stream.host.printable import printable

_STYLES = {StreamState.RECORDING: "green", StreamState.STOPPED: "dim"}


def screen(verdict: Verdict, group: str, now_ms: int) -> list[Part]:
    """Return the screen. now_ms: since the epoch."""
    problems = verdict.problems
    parts: list[Part] = [
        Line(f"{count_noun(len(problems), 'problem')}:", "bold red")
        if problems
        else Line("all is well", "bold green"),
        *(Line(f"- {printable(problem)}", "red") for problem in problems),
        "",
        _streams(verdict.streams, now_ms),
        "",
    ]
    if verdict.archivers:
        parts += [_archivers(verdict), ""]
    return [*parts, "; ".join(_sums(verdict, group))]


def _streams(streams: Sequence[StreamVerdict], now_ms: int) -> Table:
    rows = [_stream(it, now_ms) for it in streams]
    styles = ["red" if it.state in TROUBLED else _STYLES.get(it.state, "") for it in streams]
    head = ("stream", "state", " since", " rate", " lag", " size", "open file")
    return Table(head, rows, frozenset({6}), styles=styles)


def _stream(it: StreamVerdict, now_ms: int) -> tuple[str, ...]:
    status = it.status
    since = "" if it.since_ms is None else format_duration(max(0, now_ms - it.since_ms))
    rate = f"{format_bytes(round(it.bytes_per_s))}/s" if it.bytes_per_s else ""
    lag = "" if status.lag is None else f"{status.lag:,}"
    size = "" if status.file_bytes is None else format_bytes(status.file_bytes)
    file = status.file or ""
    if status.closing:
        file += f" (being finished: {CloseReason(status.closing).shown})"
    elif it.state is StreamState.STOPPED and status.fact_why:  # of an operator, with `archiver close`, or of ingest
        file = f"({printable(status.fact_why)})"
    return status.stream, it.state, since, rate, lag, size, file


def _archivers(verdict: Verdict) -> Table:
    rows = []
    for report in verdict.archivers:
        names = sorted(report.streams)
        free = ""
        if report.disk_free_bytes is not None:
            free = format_bytes(report.disk_free_bytes)
            if (hours := hours_left(report)) is not None:
                free += f", {format_duration(round(hours * 3_600_000))}"
        rows.append((report.instance, report.host, report.data_dir, free, str(len(names)), ", ".join(names)))
    head = ("archiver", "host", "data directory", " disk free", " streams", "which")
    return Table(head, rows, frozenset({2, 5}))


def _sums(verdict: Verdict, group: str) -> Iterator[str]:
    states = Counter(it.state for it in verdict.streams)
    parts = ", ".join(f"{states[state]} {state}" for state in StreamState if states[state])
    yield count_noun(len(verdict.streams), "stream") + (f": {parts}" if parts else "")
    if rate := sum(it.bytes_per_s for it in verdict.streams):
        yield f"{format_bytes(round(rate))}/s"
    yield f"{count_noun(sum(it.status.lag or 0 for it in verdict.streams), 'record')} not recorded yet"
    yield f"{count_noun(len(verdict.archivers), 'archiver')} in the group {group}"
