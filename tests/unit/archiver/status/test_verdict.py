"""The verdict of `archiver status`: each stream's state, the sentences, and the exit code they lead to."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from archiver.commands import status as command
from archiver.console.tables import fitted
from archiver.status.evidence import Evidence
from archiver.status.screen import screen
from archiver.status.show import json_lines
from archiver.status.stream_status import Status
from archiver.status.verdict import StreamState, Verdict, judge
from g3stream.contract.headers import Kind
from g3stream.contract.program_status import OVERDUE_S, ArchiverStatus, IngestStatus

NOW = 1_800_000_000_000
HOUR = 3_600_000
CALM = Status(stream="s", group="g", records=100, last_record=NOW - 500, frames_since=NOW - HOUR, offset=97, lag=3)
"""Frames for an hour; the last three aren't recorded yet, as usual."""
INGEST = IngestStatus(
    host="smurf1",
    version="1",
    time_ms=NOW - 2000,
    started_ms=NOW - HOUR,
    stream="s",
    source="crate:4532",
    connected=True,
    since_ms=NOW - HOUR,
    bytes_per_s=2e6,
)
ARCHIVER = ArchiverStatus(
    host="daq1",
    version="1",
    time_ms=NOW - 2000,
    started_ms=NOW - HOUR,
    group="g",
    instance="daq1-0",
    data_dir="/data",
    streams=("s",),
    disk_free_bytes=10**13,
    bytes_per_s=2e6,
)
LATE = NOW - round(OVERDUE_S * 1000) - 1


def verdict(
    stream: Status = CALM,
    ingest: IngestStatus | None = INGEST,
    archivers: Sequence[ArchiverStatus] = (ARCHIVER,),
    copies: dict[str, tuple[int, int]] | None = None,
    *,
    are_reports_hidden: bool = False,
) -> Verdict:
    return judge(
        Evidence(
            "g",
            [stream],
            {"s": ingest} if ingest else {},
            {archiver.instance: archiver for archiver in archivers},
            copies or {},
            are_reports_hidden=are_reports_hidden,
        ),
        NOW,
    )


def test_all_is_well() -> None:
    found = verdict()
    assert found.problems == ()
    (stream,) = found.streams
    assert (stream.state, stream.since_ms, stream.instance) == (StreamState.RECORDING, NOW - HOUR, "daq1-0")


OPEN = replace(CALM, file="f.g3", acquisition_since=NOW - 3000)
LOST = replace(CALM, fact=Kind.LOST, fact_why="reset by peer", fact_time=NOW - 5000, frames_since=None)
AWAY = replace(LOST, fact_time=LATE - HOUR, last_record=LATE - HOUR)
BY_OPERATOR = replace(LOST, fact_why="closed by an operator on daq1", fact_time=NOW - 1000)
STATES: list[Any] = [
    pytest.param(CALM, INGEST, StreamState.RECORDING, NOW - HOUR, id="frames"),
    pytest.param(
        replace(CALM, fact=Kind.START, fact_time=NOW - 5), INGEST, StreamState.RECORDING, NOW - 5, id="start"
    ),
    pytest.param(replace(CALM, fact=Kind.QUIET, fact_time=NOW - 9), INGEST, StreamState.IDLE, NOW - 9, id="quiet"),
    pytest.param(replace(CALM, fact=Kind.END, fact_time=NOW - 9), INGEST, StreamState.IDLE, NOW - 9, id="end"),
    pytest.param(
        replace(OPEN, fact=Kind.QUIET, fact_time=NOW - 9), INGEST, StreamState.RECORDING, NOW - 3000, id="slow frames"
    ),
    pytest.param(replace(OPEN, fact=Kind.END, closing="end"), INGEST, StreamState.IDLE, None, id="being finished"),
    pytest.param(
        LOST,
        replace(INGEST, connected=False, since_ms=NOW - 5000),
        StreamState.DISCONNECTED,
        NOW - 5000,
        id="sender away",
    ),
    pytest.param(
        AWAY, replace(INGEST, connected=False, time_ms=LATE), StreamState.NO_INGEST, LATE, id="killed while away"
    ),
    pytest.param(CALM, replace(INGEST, time_ms=LATE), StreamState.NO_INGEST, NOW - 500, id="killed"),
    pytest.param(
        LOST,
        replace(INGEST, stopped=True, connected=False, since_ms=NOW - 4000),
        StreamState.STOPPED,
        NOW - 4000,
        id="stopped",
    ),
    pytest.param(
        LOST,
        replace(INGEST, stopped=True, connected=False, time_ms=LATE, since_ms=LATE),
        StreamState.STOPPED,
        LATE,
        id="stopped long ago",
    ),
    pytest.param(BY_OPERATOR, replace(INGEST, time_ms=LATE), StreamState.STOPPED, NOW - 1000, id="closed"),
    pytest.param(replace(CALM, lag=0), INGEST, StreamState.IDLE, None, id="frames that files don't contain"),
    pytest.param(CALM, None, StreamState.RECORDING, NOW - HOUR, id="an ingest without reports"),
    pytest.param(
        replace(CALM, last_record=NOW - 20_000), None, StreamState.NO_INGEST, NOW - 20_000, id="such a one, killed"
    ),
    pytest.param(LOST, None, StreamState.DISCONNECTED, NOW - 5000, id="such a one, disconnected"),
    pytest.param(
        replace(LOST, fact_why="ingest stopped"), None, StreamState.STOPPED, NOW - 5000, id="such a one, stopped"
    ),
    pytest.param(
        replace(CALM, lag=9, lag_since=NOW - 31_000), INGEST, StreamState.NOT_ARCHIVED, NOW - 31_000, id="behind"
    ),
    pytest.param(
        replace(CALM, lag=9, lag_since=NOW - 1000), INGEST, StreamState.RECORDING, NOW - HOUR, id="a second's lag"
    ),
    pytest.param(replace(CALM, offset=None, lag=None), INGEST, StreamState.NOT_ARCHIVED, None, id="never committed"),
    pytest.param(
        Status(stream="s", group="g", problem="it has no topic"), None, StreamState.NO_INGEST, None, id="no topic"
    ),
]


@pytest.mark.parametrize(("stream", "ingest", "state", "since"), STATES)
def test_each_state_and_since_when(
    stream: Status, ingest: IngestStatus | None, state: StreamState, since: int | None
) -> None:
    (found,) = verdict(stream, ingest).streams
    assert (found.state, found.since_ms) == (state, since)


@pytest.mark.parametrize(("stream", "ingest", "state", "since"), STATES)
def test_a_troubled_stream_has_a_sentence_and_a_calm_one_none(
    stream: Status, ingest: IngestStatus | None, state: StreamState, since: int | None
) -> None:
    trouble = state in (StreamState.NO_INGEST, StreamState.DISCONNECTED) or stream.lag_since == NOW - 31_000
    assert any("s" in problem.split() or "s:" in problem for problem in verdict(stream, ingest).problems) is trouble
    assert since != 0


LAGS = replace(CALM, lag=9, lag_since=NOW - 60_000)
SILENT = replace(CALM, last_record=NOW - HOUR, fact=Kind.LOST, lag=0)
NEVER = replace(CALM, offset=None, lag=None, problem="not recorded by this group")
DEAD = replace(ARCHIVER, time_ms=LATE)
STOPPED = replace(ARCHIVER, stopped=True, streams=())
OTHER = replace(ARCHIVER, instance="daq2-0", host="daq2", streams=("t",))
PROBLEMS: list[Any] = [
    pytest.param({"ingest": replace(INGEST, time_ms=LATE)}, "no ingest for s since", id="ingest killed"),
    pytest.param({"ingest": replace(INGEST, time_ms=LATE)}, "it ran on smurf1", id="ingest killed, where"),
    pytest.param({"archivers": [DEAD], "stream": LAGS}, "no archiver of the group g runs since", id="no archiver"),
    pytest.param(
        {"archivers": [DEAD], "stream": SILENT}, "no archiver of the group g runs since", id="nothing comes"
    ),
    pytest.param({"archivers": [STOPPED]}, "the last was daq1-0 on daq1", id="archiver stopped"),
    pytest.param({"archivers": [], "stream": NEVER}, "no archiver of the group g runs:", id="never an archiver"),
    pytest.param({"archivers": [OTHER], "stream": LAGS}, "group is configured for s", id="not assigned"),
    pytest.param(
        {"archivers": [DEAD, OTHER], "stream": LAGS}, "daq1-0 on daq1 hasn't reported", id="killed, and not replaced"
    ),
    pytest.param({"archivers": [DEAD]}, "reports, though all is recorded", id="clocks that differ"),
    pytest.param({"archivers": [replace(ARCHIVER, disk_free_bytes=10**9)]}, "full in 8 min", id="disk"),
    pytest.param({"copies": {"g3.frames.s": (1, 3)}}, "g3.frames.s has 1 of 3 copies in sync", id="copies"),
    pytest.param({"stream": LAGS}, "s: recording is 1 min behind", id="lag"),
    pytest.param({"ingest": replace(INGEST, problems=("it is full",))}, "s: it is full", id="of an ingest"),
    pytest.param({"archivers": [replace(ARCHIVER, problems=("refused",))]}, "refused", id="of an archiver"),
    pytest.param({"stream": replace(CALM, problem="deleted")}, "s: deleted", id="of a stream"),
]


@pytest.mark.parametrize(("given", "said"), PROBLEMS)
def test_each_problem_is_a_sentence(given: dict[str, Any], said: str) -> None:
    assert said in "\n".join(verdict(**given).problems)


NO_PROBLEM: list[Any] = [
    pytest.param([DEAD, replace(OTHER, streams=("s",))], "daq2-0", id="killed, and replaced by another"),
    pytest.param(
        [DEAD, replace(OTHER, streams=())], None, id="killed, and replaced by one that has just started again"
    ),
    pytest.param([STOPPED, replace(OTHER, streams=("s",))], "daq2-0", id="stopped, and replaced by another"),
    pytest.param(
        [replace(DEAD, streams=("gone",)), replace(OTHER, streams=("s",))], "daq2-0", id="of a deleted topic"
    ),
    pytest.param([OTHER], None, id="it has just been started, and hasn't reported its streams yet"),
    pytest.param([], None, id="an archiver from before there were reports"),
    pytest.param([replace(OTHER, streams=("s",), time_ms=NOW - 9000), ARCHIVER], "daq1-0", id="taken over lately"),
]


@pytest.mark.parametrize(("archivers", "instance"), NO_PROBLEM)
def test_archivers_that_are_no_problem(archivers: list[ArchiverStatus], instance: str | None) -> None:
    found = verdict(archivers=archivers)
    assert (found.problems, found.streams[0].instance) == ((), instance)
    assert {it.instance for it in found.archivers} <= {it.instance for it in archivers if it.time_ms > LATE}


def test_of_hidden_reports_nothing_is_said() -> None:
    found = verdict(NEVER, None, archivers=[], are_reports_hidden=True)
    assert found.problems == ("s: not recorded by this group",)


def test_how_long_the_disk_lasts_is_unknown_at_first() -> None:
    """An archiver that has just started records what waited in Kafka, as fast as it can."""
    almost_full = replace(ARCHIVER, disk_free_bytes=10**9)
    assert verdict(archivers=[replace(almost_full, started_ms=NOW - 500_000)]).problems == ()
    assert verdict(archivers=[almost_full]).problems != ()


def test_one_host_that_died_is_one_sentence() -> None:
    names = [f"crate{n}" for n in range(40)]
    found = judge(
        Evidence(
            "g",
            [replace(CALM, stream=name) for name in names],
            {name: replace(INGEST, stream=name, time_ms=LATE) for name in names},
            {},
            {},
        ),
        NOW,
    )
    (sentence,) = found.problems
    assert "and 34 more" in sentence


def test_troubled_streams_come_first() -> None:
    found = judge(
        Evidence("g", [CALM, replace(CALM, stream="z")], {"s": INGEST, "z": replace(INGEST, time_ms=LATE)}, {}, {}),
        NOW,
    )
    assert [it.status.stream for it in found.streams] == ["z", "s"]


@pytest.mark.parametrize("width", [80, 200])
def test_the_screen_fits(width: int) -> None:
    file = "18000/crate1slot2/2027-01-15-08-00-00_000.g3"
    stream = replace(CALM, stream="crate1slot2", file=file, file_bytes=10**9)
    found = screen(verdict(stream, archivers=[replace(ARCHIVER, streams=("crate1slot2",))]), "g", NOW)
    lines = [line for line, _ in fitted(found, width)]
    assert all(len(line) <= width for line in lines), lines
    assert any(file in line for line in lines)


def test_the_reason_that_an_operator_gave_is_in_the_row_of_the_stream() -> None:
    closed = replace(BY_OPERATOR, fact_why="smurf-srv12 lost power")
    lines = [line for line, _ in fitted(screen(verdict(closed, replace(INGEST, time_ms=LATE)), "g", NOW), 80)]
    assert any(line.startswith("s ") and "stopped" in line for line in lines), lines
    assert any("(smurf-srv12 lost power)" in line for line in lines), lines


def test_json_has_each_stream_and_archiver_and_the_verdict() -> None:
    lines = [json.loads(line) for line in json_lines(verdict(), "g")]
    assert [line["kind"] for line in lines] == ["stream", "archiver", "verdict"]
    assert lines[-1]["ok"] is True
    said = command.make_parser().format_help()
    for line in lines:
        assert all(name in said for name in line), line
