"""Scaling: many streams at once through one ingest and one archiver, or a group of archivers."""

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure.cost_over_time import Course, Courses
from bench.measure.lags import between, by_second, late_until, quantiles
from bench.measure.process_cost import ContestError
from bench.report.results import BROKER, Line, Run, line, most
from bench.scenarios.many import Load, Many, WatchedSite
from bench.scenarios.site import environment

SIZE, RATE = 200_000, 1.0
NEAR_SECONDS = 1.0
_CPU_IS_FULL = 0.97
_GROUP_STEADY_SECONDS = 30.0
_GROUP_AFTER_KILL_SECONDS = 40.0
_WHOLE_NIGHT = {"retention.bytes": -1, "segment.bytes": 64 << 20}


@dataclass(frozen=True, slots=True)
class Found:
    """A run and its curves."""

    run: Run
    curves: Mapping[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By name: [(x, y), …]."""


def steady(site: WatchedSite, load: Load, seconds: float, part: str, prefix: str) -> Found:
    """Run one ingest and one archiver for `seconds` after all streams are recorded."""
    begun = time.time()
    with Many(site, load, prefix) as many:
        many.archiver("archiver")
        many.await_alive()
        many.await_near()
        caught_up = time.time() - begun
        pids = {name: process.pid for name, process in many.processes().items()}
        lag: list[tuple[float, float]] = []
        begin = time.time()
        for process in many.processes().values():
            process.begin()
        broker_before = site.broker_cpu()
        idle_before = _idle()
        with Courses({**pids, BROKER: site.broker_pid}) as courses:
            while (left := begin + seconds - time.time()) > 0:
                time.sleep(min(1.0, left))
                lag.append((time.time() - begin, max(many.metric("lag_seconds").values(), default=0.0)))
        end = time.time()
        used = {name: process.used() for name, process in many.processes().items()}
        used[BROKER] = site.broker_used(broker_before)
        busy = 1 - (_idle() - idle_before) / (end - begin) / _CORES
        found = between(many.finish(), begin, end)
        many.forget()
    own = sum(course.cores() for course in courses.of.values())
    more = {f"lag {name} s": value for name, value in quantiles(found).items()}
    more |= {"lag metric max s": max((value for _, value in lag), default=0.0), "streams": float(load.streams)}
    more |= {"frame bytes": float(load.size), "seconds until all are recorded": caught_up}
    more |= {"machine busy": busy, "own cores": own, "foreign cores": max(0.0, busy * _CORES - own)}
    for name, course in courses.of.items():
        more |= {f"{name} cores": course.cores(), f"{name} MB/h": course.growth(), f"{name} threads": course.threads}
    total = len(found) * load.size
    run = Run(part, "ours", load.name, total, end - begin, used, more)
    return Found(run, {"lag, s": [(float(x), y) for x, y in by_second(found, begin)], **_curves(courses.of)})


def doubling(site: WatchedSite, start: int, most_streams: int, seconds: float) -> Iterator[Found]:
    """Double the number of streams until frames are late or the machine is full."""
    count = start
    while count <= most_streams:
        found = steady(site, Load(count, SIZE, RATE), seconds, "doubling", f"d{count}-")
        yield found
        if found.run.more["lag p99 s"] > NEAR_SECONDS or found.run.more["own cores"] > _CPU_IS_FULL * _CORES:
            return
        count *= 2


def group(site: WatchedSite, streams: int, archivers: int, prefix: str) -> Found:
    """Run a group of archivers, kill one, and compare the files with those of a replay."""
    load = Load(streams, SIZE, RATE)
    names = [f"archiver-{number}" for number in range(archivers)]
    with Many(site, load, prefix, _WHOLE_NIGHT) as many:
        for name in names:
            many.archiver(name)
        many.await_alive()
        many.await_near()
        begin = time.time()
        time.sleep(_GROUP_STEADY_SECONDS)
        spread = {name: len(found) for name, found in many.metric_of_each("lag_records").items()}
        victim = names[0]
        killed = time.time()
        many.archivers[victim].end(signal.SIGKILL)
        time.sleep(_GROUP_AFTER_KILL_SECONDS)
        del many.archivers[victim], many.ports[victim]
        after = {name: len(found) for name, found in many.metric_of_each("lag_records").items()}
        end = time.time()
        found = many.finish()
        same, count = _same_as_replay(many, site)
        many.forget()
    steady_lags, later = between(found, begin, killed), between(found, killed - 2, end)
    moved = {lag.stream for lag in later if lag.seconds > NEAR_SECONDS}
    kept = [lag for lag in later if lag.stream not in moved]
    more = {f"lag {name} s": value for name, value in quantiles(steady_lags).items()}
    more |= {f"streams of {name}": float(number) for name, number in spread.items()}
    more |= {f"streams of {name} after the kill": float(number) for name, number in after.items()}
    more |= {
        "late until s": late_until(later, killed, NEAR_SECONDS),
        "lag max after the kill s": max(lag.seconds for lag in later),
        "streams that were late": float(len(moved)),
        "lag max of the others s": max((lag.seconds for lag in kept), default=0.0),
        "files": float(count),
        "identical files": float(same),
        "streams": float(streams),
        "archivers": float(archivers),
    }
    run = Run("group", f"{archivers} archivers", load.name, len(found) * load.size, end - begin, {}, more)
    return Found(run, {"lag, s": [(float(x) - (killed - begin), y) for x, y in by_second(found, begin)]})


def _same_as_replay(many: Many, site: WatchedSite) -> tuple[int, int]:
    """Return how many files are identical to those of a replay of the same topics, and how many there are."""
    other = site.new_path("replayed")
    command = [sys.executable, "-m", "archiver", "replay", "--data-dir", str(other), "--bootstrap-servers"]
    streams = [part for stream in many.streams for part in ("--stream", stream)]
    done = subprocess.run(
        [*command, site.servers, *streams], env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ContestError(f"replay ended with {done.returncode}: {done.stderr[-2000:]}")
    ours = many.files()
    theirs = {str(path.relative_to(other)): path for path in other.glob("[0-9]*/*/*.g3")}
    return sum(_digest(path) == _digest(theirs.get(name)) for name, path in ours.items()), len(ours | theirs)


def lines(runs: list[Run]) -> list[Line]:
    """Return the lines for the lag of all streams, the cost of each process, and the group."""
    found = []
    for part in ("streams", "doubling", "by streams", "by frame size"):
        for run in (run for run in runs if run.part == part):
            for name in ("p50", "p99", "max"):
                goal = most(NEAR_SECONDS) if part == "streams" else None
                found += _line(f"{part}: receipt → readable, {name}", run, f"lag {name} s", "s", goal)
            for who in (*run.programs, BROKER):
                found += _line(f"… CPU of {who}", run, f"{who} cores", "cores")
            for who in run.programs:
                found += _line(f"… memory of {who}, its slope", run, f"{who} MB/h", "MB/h")
    for run in (run for run in runs if run.part == "group"):
        found += _line(f"{run.who}: receipt → readable, max", run, "lag max s", "s", most(NEAR_SECONDS))
        found += _line("… one killed: late for", run, "late until s", "s", most(15))
        found += _line("… lag of the others' streams, max", run, "lag max of the others s", "s")
        found += _line("… identical files", run, "identical files", f"of {run.more['files']:.0f}")
    return found


def _line(what: str, run: Run, name: str, unit: str, goal: object = None) -> list[Line]:
    return line(what, [run], figure=lambda run: run.more[name], unit=unit, goal=goal)  # type: ignore[arg-type]


def _curves(courses: Mapping[str, Course]) -> dict[str, list[tuple[float, float]]]:
    return {f"{name}, MB": list(zip(course.times, course.memory, strict=True)) for name, course in courses.items()}


def _digest(path: Path | None) -> str | None:
    if path is None:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_CORES = len([line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu")]) - 1


def _idle() -> float:
    """Return the CPU seconds in which this machine was idle since its boot."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(fields[4]) + int(fields[5])) / 100
