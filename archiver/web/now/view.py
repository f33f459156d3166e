"""What the page of the present shows, from a snapshot: sentences, a row for each stream, the archivers. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from archiver.catalog.recorded import Loss
from archiver.core.formatting import count_noun, format_bytes
from archiver.status.verdict import DISK_HOURS, StreamState, StreamVerdict, hours_left
from archiver.web.now.rates import SPAN_MS, Sparkline, sparkline
from archiver.web.now.snapshot import Snapshot
from archiver.web.text import Moment, moment, rate_text, short_duration
from archiver.web.wording import closing_brief, records_text
from g3stream.contract.program_status import ArchiverStatus
from g3stream.host.durations import format_duration

STATE_CLASSES: Final[Mapping[StreamState, str]] = {
    StreamState.NOT_ARCHIVED: "not-archived",
    StreamState.NO_INGEST: "no-ingest",
    StreamState.DISCONNECTED: "disconnected",
    StreamState.RECORDING: "recording",
    StreamState.IDLE: "idle",
    StreamState.STOPPED: "stopped",
}
"""The name of each state's colour (CSS class) and shape (symbol in symbols.svg)."""
_LAG_SHOWN_MS = 5_000
"""While frames come, records of the last second or two aren't recorded yet; that isn't worth a second number."""


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A stream's row."""

    stream: str
    state: StreamState
    state_class: str
    since: Moment | None
    rate: str
    spark: Sparkline | None
    spark_text: str
    """The sparkline in words."""
    lag: str
    lag_age: str
    """How old the first record is that isn't recorded; empty while that is usual."""
    file: str
    """The open file's path."""
    file_name: str
    file_size: str
    file_age: str
    note: str
    """Why the file is being finished, or the stream stopped; what is wrong with its topic."""
    loss: Moment | None
    loss_text: str


@dataclass(frozen=True, slots=True)
class ArchiverRow:
    """An archiver's row."""

    instance: str
    host: str
    data_dir: str
    free: str
    left: str
    """How long that lasts."""
    is_full_soon: bool
    rate: str
    streams: tuple[str, ...]
    reported: Moment | None


@dataclass(frozen=True, slots=True)
class NowView:
    """The page of the present."""

    group: str
    now: Moment
    is_live: bool
    is_waiting: bool
    """Whether Kafka has never answered so far."""
    not_live_since: Moment | None
    error: str
    problems: tuple[str, ...]
    is_well: bool
    heading: str
    streams: tuple[StreamRow, ...]
    archivers: tuple[ArchiverRow, ...]
    sums: tuple[tuple[str, str], ...]
    """A number and what it counts."""


def now_view(snapshot: Snapshot, losses: Mapping[str, Loss], now_ms: int) -> NowView:
    """Return what the page shows. losses: the last one of each stream. now_ms: since the epoch."""
    now = moment(now_ms, now_ms)
    assert now is not None
    verdict, is_live = snapshot.verdict, snapshot.is_live(now_ms)
    problems = verdict.problems if verdict else ()
    return NowView(
        group=snapshot.group,
        now=now,
        is_live=is_live,
        is_waiting=verdict is None,
        not_live_since=None if is_live else moment(snapshot.collected_ms or snapshot.started_ms, now_ms),
        error=snapshot.error or "",
        problems=problems,
        is_well=is_live and not problems,
        heading=_heading(problems, is_waiting=verdict is None, is_live=is_live),
        streams=tuple(_stream_row(it, snapshot, losses, now_ms) for it in verdict.streams) if verdict else (),
        archivers=tuple(_archiver_row(it, now_ms) for it in verdict.archivers) if verdict else (),
        sums=_sums(snapshot),
    )


def _heading(problems: tuple[str, ...], *, is_waiting: bool, is_live: bool) -> str:
    if is_waiting:
        return "Waiting for Kafka"
    if problems:
        return count_noun(len(problems), "problem")
    return "All is well" if is_live else "All was well"


def _stream_row(it: StreamVerdict, snapshot: Snapshot, losses: Mapping[str, Loss], now_ms: int) -> StreamRow:
    status = it.status
    line = sparkline(snapshot.rates.get(status.stream, ()), now_ms)
    minutes = SPAN_MS // 60_000
    lag_ms = now_ms - status.lag_since if status.lag_since is not None else 0
    loss = losses.get(status.stream)
    file_age = short_duration(now_ms - status.file_start) if status.file_start is not None else ""
    return StreamRow(
        stream=status.stream,
        state=it.state,
        state_class=STATE_CLASSES[it.state],
        since=moment(it.since_ms, now_ms),
        rate=rate_text(it.bytes_per_s) if it.bytes_per_s else "",
        spark=line,
        spark_text=f"rate of the last {minutes} min, peak {rate_text(line.peak_bytes_per_s)}" if line else "",
        lag="" if status.lag is None else f"{status.lag:,}",
        lag_age=short_duration(lag_ms) if lag_ms > _LAG_SHOWN_MS else "",
        file=status.file or "",
        file_name=(status.file or "").rpartition("/")[2],
        file_size=format_bytes(status.file_bytes) if status.file_bytes is not None else "",
        file_age=file_age,
        note=_note(it),
        loss=moment(loss.until_ms, now_ms) if loss else None,
        loss_text=records_text(loss.records) if loss else "",
    )


def _note(it: StreamVerdict) -> str:
    if it.status.problem:
        return it.status.problem
    if it.status.closing:
        return f"being finished: {closing_brief(it.status.closing)}"
    if it.state in (StreamState.STOPPED, StreamState.DISCONNECTED):
        return it.status.fact_why or (it.ingest.disconnect_reason if it.ingest else "")
    return ""


def _archiver_row(report: ArchiverStatus, now_ms: int) -> ArchiverRow:
    hours, free_bytes = hours_left(report), report.disk_free_bytes
    return ArchiverRow(
        instance=report.instance,
        host=report.host,
        data_dir=report.data_dir,
        free="" if free_bytes is None else format_bytes(free_bytes),
        left="" if hours is None else format_duration(round(hours * 3_600_000)),
        is_full_soon=hours is not None and hours < DISK_HOURS,
        rate=rate_text(report.bytes_per_s) if report.bytes_per_s else "",
        streams=tuple(sorted(report.streams)),
        reported=moment(report.time_ms, now_ms),
    )


def _sums(snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
    verdict = snapshot.verdict
    if verdict is None:
        return ()
    streams = verdict.streams
    recording = sum(it.state is StreamState.RECORDING for it in streams)
    found = [(f"{recording} of {len(streams)}", "streams recording")]
    found.append((rate_text(sum(it.bytes_per_s for it in streams)), "received"))
    found.append((f"{sum(it.status.lag or 0 for it in streams):,}", "records not recorded yet"))
    reports = verdict.archivers
    disks = {(it.host, it.data_dir): it.disk_free_bytes for it in reports if it.disk_free_bytes is not None}
    if disks:
        left = [hours for it in reports if (hours := hours_left(it)) is not None]
        lasts = f", lasts {format_duration(round(min(left) * 3_600_000))}" if left else ""
        found.append((format_bytes(min(disks.values())), f"disk free{lasts}"))
    found.append((str(len(verdict.archivers)), "archiver" + "s" * (len(verdict.archivers) != 1) + " in the group"))
    return tuple(found)
