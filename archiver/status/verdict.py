"""The verdict on an archive: the state of each stream, and what is wrong, in sentences. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from archiver.core.formatting import format_time
from archiver.status.evidence import Evidence
from archiver.status.stream_status import Status
from g3stream.contract.headers import Kind
from g3stream.contract.program_status import ARCHIVER_RATE_MS, ArchiverStatus, IngestStatus
from g3stream.host.durations import format_duration

LATE_MS = 30_000
"""An archive whose first unrecorded record is older is behind: usual are one to two seconds."""
SILENT_MS = 15_000
"""While an ingest is connected, it publishes at least one record each second."""
DISK_HOURS = 24.0
"""A disk that will be full sooner is a problem."""
_SHOWN_STREAMS = 6
_MOMENT_MS = 5_000
"""Records that are younger come now: while an ingest is connected it publishes one each second, and an archiver
commits as often."""


class StreamState(StrEnum):
    """The state of a stream, worst first; the values are shown, and in the JSON."""

    NOT_ARCHIVED = "not archived"
    """Records wait in Kafka that this group hasn't recorded, for longer than usual."""
    NO_INGEST = "no ingest"
    """Its ingest has died, or can't reach Kafka, or there was none."""
    DISCONNECTED = "disconnected"
    """Its ingest has no connection to the sender."""
    RECORDING = "recording"
    """An acquisition is open: frames came in the last seconds, and are recorded."""
    IDLE = "idle"
    """The sender is connected, and no acquisition is open."""
    STOPPED = "stopped"
    """Its ingest was stopped in an orderly way, or an operator has closed its acquisition since it died."""


TROUBLED = frozenset({StreamState.NOT_ARCHIVED, StreamState.NO_INGEST, StreamState.DISCONNECTED})
"""The states of which each has a sentence."""


@dataclass(frozen=True, slots=True)
class StreamVerdict:
    """A stream, its state, and since when, ms since the epoch; None if unknown."""

    status: Status
    state: StreamState
    since_ms: int | None
    ingest: IngestStatus | None
    instance: str | None
    """The archiver that records it; None if none does, or it isn't known."""

    @property
    def bytes_per_s(self) -> float:
        """Data frames that its ingest receives now; 0 if that has stopped, or died."""
        return self.ingest.bytes_per_s if self.ingest and self.state is not StreamState.NO_INGEST else 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on an archive."""

    problems: tuple[str, ...]
    """What is wrong, a sentence each; empty if all is well."""
    streams: tuple[StreamVerdict, ...]
    """Troubled ones first."""
    archivers: tuple[ArchiverStatus, ...]
    """The group's archivers, by their last reports: those that run, and one that has died and is missed."""


def judge(evidence: Evidence, now_ms: int) -> Verdict:
    """Return the verdict. now_ms: since the epoch."""
    states = {it.stream: state_of(it, evidence.ingests.get(it.stream), now_ms) for it in evidence.streams}
    late = frozenset(stream for stream, (state, _) in states.items() if state is StreamState.NOT_ARCHIVED)
    archivers = _shown_archivers(evidence, late, now_ms)
    instances = _archiver_by_stream(archivers or ())
    found = []
    for status in evidence.streams:
        state, since_ms = states[status.stream]
        ingest = evidence.ingests.get(status.stream)
        found.append(StreamVerdict(status, state, since_ms, ingest, instances.get(status.stream)))
    order = list(StreamState)
    found.sort(key=lambda it: (order.index(it.state), it.status.stream))
    problems = dict.fromkeys(_problems(evidence, archivers, found, now_ms))
    return Verdict(tuple(problems), tuple(found), tuple(archivers or ()))


def _shown_archivers(evidence: Evidence, late: frozenset[str], now_ms: int) -> list[ArchiverStatus] | None:
    """Return the archivers of the group as Verdict has them, sorted by instance; None if nothing is known of them.

    late: streams that are behind. A dead archiver is shown only if it was the last one to record such a stream: if
    none is behind, nobody needs it.
    """
    reports = [*evidence.archivers.values()]
    if not reports:
        # An archiver from before there were reports commits, too.
        is_recorded = any(status.offset is not None for status in evidence.streams)
        return None if evidence.are_reports_hidden or is_recorded else []
    running = [it for it in reports if not it.is_overdue(now_ms) and not it.stopped]
    if not running:
        return []
    last = _archiver_by_stream(it for it in reports if not it.stopped)
    dead = [it for it in reports if it.is_overdue(now_ms)]
    missed = [it for it in dead if any(last[stream] == it.instance for stream in late.intersection(it.streams))]
    return sorted(running + missed, key=lambda it: it.instance)


def _archiver_by_stream(reports: Iterable[ArchiverStatus]) -> dict[str, str]:
    """Return for each stream the archiver that was the last to report that it records it."""
    return {stream: it.instance for it in sorted(reports, key=lambda it: it.time_ms) for stream in it.streams}


def state_of(status: Status, ingest: IngestStatus | None, now_ms: int) -> tuple[StreamState, int | None]:
    """Return a stream's state, and since when, ms since the epoch. ingest: its last report, if there is one."""
    if status.offset is None or (status.lag_since is not None and now_ms - status.lag_since > LATE_MS):
        if status.records:
            return StreamState.NOT_ARCHIVED, status.lag_since
        if ingest is None:
            return StreamState.NO_INGEST, None
    is_lost = status.fact is Kind.LOST
    if ingest and ingest.stopped:
        return StreamState.STOPPED, ingest.since_ms
    if ingest and ingest.is_overdue(now_ms):
        if is_lost and (status.fact_time or 0) > ingest.time_ms:
            return StreamState.STOPPED, status.fact_time  # `archiver close`
        return StreamState.NO_INGEST, max(ingest.time_ms, status.last_record or 0)
    if ingest and not ingest.connected:
        return StreamState.DISCONNECTED, ingest.since_ms
    if is_lost and not ingest:  # an ingest from before there were reports
        is_stopped = status.fact_why == "ingest stopped"
        return StreamState.STOPPED if is_stopped else StreamState.DISCONNECTED, status.fact_time
    if status.last_record is None:
        return StreamState.IDLE, ingest.since_ms if ingest else None
    if not ingest and now_ms - status.last_record > SILENT_MS:
        return StreamState.NO_INGEST, status.last_record
    if status.file and not status.closing:
        return StreamState.RECORDING, status.acquisition_since or status.file_start
    if status.fact is None and status.lag == 0:  # frames of types that files don't contain
        return StreamState.IDLE, None
    if status.fact in (None, Kind.START):  # not yet committed
        return StreamState.RECORDING, status.frames_since if status.fact is None else status.fact_time
    return StreamState.IDLE, status.fact_time


def _problems(
    evidence: Evidence, archivers: Sequence[ArchiverStatus] | None, streams: Sequence[StreamVerdict], now_ms: int
) -> Iterator[str]:
    yield from _ingest_problems(streams, now_ms)
    yield from _archiver_problems(evidence, archivers, streams, now_ms)
    for topic, (in_sync, copies) in sorted(evidence.copies.items()):
        yield f"the topic {topic} has {in_sync} of {copies} copies in sync: a broker is down, or can't keep up"


def _ingest_problems(streams: Sequence[StreamVerdict], now_ms: int) -> Iterator[str]:
    dead: defaultdict[tuple[str, int | None], list[StreamVerdict]] = defaultdict(list)  # by host and minute
    others: list[str] = []
    for it in streams:
        stream, ingest = it.status.stream, it.ingest
        if it.state is StreamState.NO_INGEST:
            minute = None if it.since_ms is None else it.since_ms // 60_000
            dead[ingest.host if ingest else "", minute].append(it)
        elif it.state is StreamState.DISCONNECTED and not (ingest and ingest.problems):
            why = f": {it.status.fact_why}" if it.status.fact_why else ""
            others.append(f"{stream}: its sender isn't connected{_since(it.since_ms, now_ms)}{why}")
        if ingest and not (ingest.stopped or ingest.is_overdue(now_ms)):
            others += (f"{stream}: {problem}" for problem in ingest.problems)
    for (host, _), theirs in dead.items():
        where = f"; it ran on {host}" if host else ""
        names = _named(it.status.stream for it in theirs)
        yield f"no ingest for {names}{_since(theirs[0].since_ms, now_ms)}{where}"
    yield from others


def _archiver_problems(
    evidence: Evidence, archivers: Sequence[ArchiverStatus] | None, streams: Sequence[StreamVerdict], now_ms: int
) -> Iterator[str]:
    last = max(evidence.archivers.values(), key=lambda it: it.time_ms, default=None)
    if archivers is not None and not archivers and _is_recorded_now(streams, last, now_ms):
        why = "is it of an older version, may it not write to g3.status, or do the clocks of the hosts differ?"
        yield f"no archiver of the group {evidence.group} reports, though all is recorded: {why}"
    elif archivers is not None and not archivers:
        since = f"{_since(last.time_ms, now_ms)}; the last was {last.instance} on {last.host}" if last else ""
        yield f"no archiver of the group {evidence.group} runs{since}: nothing is recorded, frames wait in Kafka"
    late = [it for it in streams if it.state is StreamState.NOT_ARCHIVED]
    if archivers and (unassigned := [it.status.stream for it in late if it.instance is None]):
        yield f"no archiver of the group is configured for {_named(unassigned)}"
    for report in archivers or ():
        if report.is_overdue(now_ms):
            what = f"the archiver {report.instance} on {report.host}"
            yield f"{what} hasn't reported{_since(report.time_ms, now_ms)}: it has died, or can't reach Kafka"
        else:
            yield from report.problems
            if (hours := hours_left(report)) is not None and hours < DISK_HOURS:
                left = format_duration(round(hours * 3_600_000))
                yield f"the disk of {report.data_dir} on {report.host} will be full in {left}, at the present rate"
    behind = [it for it in late if it.status.lag_since is not None]
    if behind and archivers != []:
        oldest = min(it.status.lag_since or 0 for it in behind)
        names = _named(it.status.stream for it in behind)
        yield f"{names}: recording is {format_duration(now_ms - oldest)} behind; the records wait in Kafka"
    found: defaultdict[str, list[str]] = defaultdict(list)
    for it in streams:
        if it.status.problem and it.state is not StreamState.NO_INGEST:
            found[it.status.problem].append(it.status.stream)
    yield from (f"{_named(names)}: {problem}" for problem, names in found.items())


def _is_recorded_now(streams: Sequence[StreamVerdict], last: ArchiverStatus | None, now_ms: int) -> bool:
    """Return whether what just comes is recorded, long after the last report of an archiver."""
    if last is not None and now_ms - last.time_ms <= 3 * _MOMENT_MS:
        return False  # it was stopped a moment ago
    for it in streams:
        lag_since_ms = now_ms if it.status.lag_since is None else it.status.lag_since
        comes = it.status.last_record is not None and now_ms - it.status.last_record <= _MOMENT_MS
        if comes and it.status.offset is not None and now_ms - lag_since_ms <= _MOMENT_MS:
            return True
    return False


def hours_left(report: ArchiverStatus) -> float | None:
    """Return how long an archiver's disk lasts at the present rate, in hours; None if unknown, or nothing is written.

    Only its own writing counts. Unknown during its first minutes, when it often records what waited in Kafka.
    """
    has_just_started = report.time_ms - report.started_ms < ARCHIVER_RATE_MS
    if report.disk_free_bytes is None or report.bytes_per_s <= 0 or has_just_started:
        return None
    return report.disk_free_bytes / report.bytes_per_s / 3600


def _since(since_ms: int | None, now_ms: int) -> str:
    if since_ms is None:
        return ""
    return f" since {format_time(since_ms)} UTC ({format_duration(max(0, now_ms - since_ms))})"


def _named(streams: Iterable[str]) -> str:
    names = sorted(streams)
    more = f" and {len(names) - _SHOWN_STREAMS} more" if len(names) > _SHOWN_STREAMS else ""
    return ", ".join(names[:_SHOWN_STREAMS]) + more
