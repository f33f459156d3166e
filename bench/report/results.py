"""Results: runs, the lines that compare them, the table and the file."""

import json
import os
import platform
import re
import socket
import statistics
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import confluent_kafka
from rich.table import Table

from bench.measure.process_cost import Used
from testbed.kafka.distribution import KAFKA_VERSION

Figure = Callable[["Run"], float]
"""One number of a run."""

BROKER = "broker"
RESULTS = Path(__file__).parents[1] / "results"
_TITLE = "medians (min–max) of interleaved runs; memory and CPU of each process: ours / other, without the broker"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one contestant."""

    part: str
    """The part of the benchmark."""
    who: str
    """The contestant."""
    frames: str
    """The frames' size."""
    bytes: int
    """Bytes moved."""
    seconds: float
    used: Mapping[str, Used] = field(default_factory=dict)
    """By process."""
    more: Mapping[str, float] = field(default_factory=dict)
    """Other figures, by name with unit."""

    def cpu_per_gigabyte(self, who: str) -> float:
        """Return the CPU seconds of one of its processes per 1e9 bytes."""
        return self.used[who].cpu_seconds / (self.bytes / 1e9)

    @property
    def programs(self) -> list[str]:
        """Its processes, without the broker."""
        return [who for who in self.used if who != BROKER]


def rate(run: Run) -> float:
    """Return the throughput, MB/s."""
    return run.bytes / run.seconds / 1e6


class Compare(StrEnum):
    """How a line's figure is calculated from ours and the other's."""

    RATIO = "ratio"
    DIFFERENCE = "difference"
    ALONE = "alone"


@dataclass(frozen=True, slots=True)
class Goal:
    """A lower or upper bound of a figure."""

    bound: float
    at_least: bool

    def met(self, figure: float) -> bool:
        """Return whether the figure meets the goal."""
        return figure >= self.bound if self.at_least else figure <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


def least(bound: float) -> Goal:
    """Return the goal that a figure is at least `bound`."""
    return Goal(bound, at_least=True)


def most(bound: float) -> Goal:
    """Return the goal that a figure is at most `bound`."""
    return Goal(bound, at_least=False)


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, minimum and maximum of repetitions."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Calculate them from at least one value."""
        values = sorted(values)
        return cls(statistics.median(values), values[0], values[-1])

    def __str__(self) -> str:
        median = _number(self.median)
        return median if self.least == self.most else f"{median} ({_number(self.least)}–{_number(self.most)})"


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one process."""

    megabytes: float
    """Maximum of its anonymous memory in all runs, MB."""
    cpu_per_gigabyte: float
    """Median CPU time, s/GB."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table."""

    what: str
    frames: str
    unit: str
    ours: Spread
    against: str
    other: Spread | None
    compare: Compare
    figure: float
    """To which the goal applies: ours / other, ours - other, or ours."""
    goal: Goal | None
    met: bool | None
    ours_used: Mapping[str, Cost]
    """By process, including the broker."""
    other_used: Mapping[str, Cost]


def line(
    what: str,
    ours: Sequence[Run],
    others: Sequence[Run] = (),
    *,
    figure: Figure = rate,
    unit: str = "MB/s",
    against: str = "",
    compare: Compare = Compare.RATIO,
    goal: Goal | None = None,
) -> list[Line]:
    """Return the line that compares the medians of these runs; none if one of the two is missing.

    against: the other's name. Without it the line shows ours alone, without the costs.
    """
    if not ours or (against and not others):
        return []
    mine = Spread.of(map(figure, ours))
    if not against:
        found = mine.median
        met = goal.met(found) if goal else None
        return [Line(what, ours[0].frames, unit, mine, "", None, Compare.ALONE, found, goal, met, {}, {})]
    other = Spread.of(map(figure, others))
    found = mine.median - other.median if compare is Compare.DIFFERENCE else mine.median / other.median
    met = goal.met(found) if goal else None
    costs = _costs(ours), _costs(others)
    return [Line(what, ours[0].frames, unit, mine, against, other, compare, found, goal, met, *costs)]


def of(runs: Iterable[Run], part: str, who: str, frames: str) -> list[Run]:
    """Select the runs of a part, a contestant and a frame size."""
    return [run for run in runs if (run.part, run.who, run.frames) == (part, who, frames)]


def sizes_of(runs: Iterable[Run], part: str) -> list[str]:
    """Return the frame sizes of a part's runs, in order."""
    return list(dict.fromkeys(run.frames for run in runs if run.part == part))


def table(lines: Iterable[Line]) -> Table:
    """Return the table to print."""
    made = Table(title=_TITLE, box=None, header_style="bold", pad_edge=False)
    made.add_column("")
    for heading in ("frames", "ours", "other"):
        made.add_column(heading, justify="right")
    made.add_column("against")
    for heading in ("figure", "goal", "", "memory, MB", "CPU s/GB"):
        made.add_column(heading, justify="right")
    before = ""
    for one in lines:
        made.add_row(
            one.what if one.what != before else "",
            one.frames,
            f"{one.ours} {one.unit}",
            str(one.other) if one.other else "",
            one.against,
            _figure(one),
            str(one.goal) if one.goal else "",
            {True: "[green]met[/]", False: "[red]not met[/]", None: ""}[one.met],
            _pair(one, lambda cost: cost.megabytes),
            _pair(one, lambda cost: cost.cpu_per_gigabyte),
        )
        before = one.what
    return made


def machine() -> dict[str, str | int]:
    """Return the machine and the versions of the software."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607 - git is the one on PATH
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": socket.gethostname(),
        "system": platform.platform(),
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count() or 0,
        "memory_megabytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000,
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
        "librdkafka": confluent_kafka.libversion()[0],
        "git": git.stdout.strip(),
    }


def write(settings: Mapping[str, object], runs: Sequence[Run], lines: Sequence[Line]) -> Path:
    """Write the results to a new file in bench/results. Returns its path."""
    about = machine()
    when = str(about["time"])[:19].replace(":", "").replace("T", "-")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{when}-{about['machine']}.json"
    found = {
        **about,
        "settings": settings,
        "lines": [asdict(one) for one in lines],
        "runs": [asdict(run) for run in runs],
    }
    path.write_text(json.dumps(found, indent=1) + "\n")
    return path


def _figure(one: Line) -> str:
    match one.compare:
        case Compare.RATIO:
            return f"{one.figure:.2f} ×"
        case Compare.DIFFERENCE:
            return f"{one.figure:+.1f}"
        case Compare.ALONE:
            return ""


def _costs(runs: Sequence[Run]) -> dict[str, Cost]:
    moved = [run for run in runs if run.bytes]
    return {
        who: Cost(
            max(run.used[who].anonymous_bytes for run in moved) / 1e6,
            statistics.median(run.cpu_per_gigabyte(who) for run in moved),
        )
        for who in (moved[0].used if moved else ())
    }


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _pair(one: Line, figure: Callable[[Cost], float]) -> str:
    """Format a figure of each of our processes, and of each of the other's."""
    sides = [
        "+".join(_number(figure(cost)) for who, cost in used.items() if who != BROKER)
        for used in (one.ours_used, one.other_used)
    ]
    return " / ".join(side for side in sides if side)
