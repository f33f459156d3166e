"""Anonymous memory of ingest and archiver: the maximum of all runs with frames of a size."""

from collections.abc import Sequence

from bench.load.frames import frames
from bench.report.results import Line, Run, line, most
from bench.scenarios import both
from bench.scenarios.site import Site

PART = "memory"
GOALS = {"2MB": {"ingest": 100.0, "archiver": 130.0}, "100MB": {"ingest": 400.0, "archiver": 400.0}}
"""MB, by frame size."""
_LEAST_FRAMES = 10


def missing(runs: Sequence[Run]) -> list[str]:
    """Return the frame sizes for which there is no run yet."""
    return [size for size in GOALS if not all(_with(runs, who, size) for who in GOALS[size])]


def ours(site: Site, size: str) -> Run:
    """Run both at once, with frames of that size."""
    run = both.ours(site, frames(size), at_least=_LEAST_FRAMES)
    return Run(PART, "ours", size, run.bytes, run.seconds, run.used)


def lines(runs: Sequence[Run]) -> list[Line]:
    """Return a line for each frame size and program."""
    found = []
    for size, goals in GOALS.items():
        for who, bound in goals.items():
            if mine := _with(runs, who, size):
                largest = max(mine, key=lambda run: _megabytes(run, who))
                found += _line(who, largest, bound)
    return found


def _line(who: str, run: Run, bound: float) -> list[Line]:
    return line(
        f"anonymous memory: {who}", [run], figure=lambda run: _megabytes(run, who), unit="MB", goal=most(bound)
    )


def _with(runs: Sequence[Run], who: str, size: str) -> list[Run]:
    return [run for run in runs if run.frames == size and who in run.used]


def _megabytes(run: Run, who: str) -> float:
    return run.used[who].anonymous_bytes / 1e6
