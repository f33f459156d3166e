"""A live stream from a real G3NetworkSender: the latency until its frames are readable, and its cost.

A frame's latency is the time from when the sender passes it to spt3g until the file has its last byte. The kernel
reports each write to the file, the same for all contestants. The CPU time is that of the same period.
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

from bench.measure.process_cost import ContestError, Measured
from bench.report.results import BROKER, Compare, Line, Run, line, most, of
from bench.scenarios.site import Growing, Site, program, settle
from g3stream.contract.topics import frames_topic
from testbed.child_process import free_port

PART = "live"
_DIRECT, _BARE = "direct recorder", "bare loops"


@dataclass(frozen=True, slots=True)
class Load:
    """A stream of frames of the same size."""

    size: str
    rate: float
    """Frames per second."""
    seconds: float

    @property
    def name(self) -> str:
        """The name that is shown."""
        return f"{self.rate:g}/s of {self.size}"


def latency_loads(seconds: float) -> list[Load]:
    """Return the loads to which the latency goals apply."""
    return [Load("20kB", 200, seconds / 2), Load("2MB", 1, seconds)]


def steady_loads(seconds: float) -> list[Load]:
    """Return the loads to which the goal of CPU time applies, 2 MB/s."""
    return [Load("20kB", 100, seconds), Load("2MB", 1, seconds)]


def ours(site: Site, load: Load) -> Run:
    """Run ingest and archiver."""
    stream, data = site.stream(), site.new_path("data")
    with ExitStack() as stack:
        sender, port = _sender(stack, load)
        ingest = stack.enter_context(site.ingest(stream, port))
        archiver = stack.enter_context(site.archiver(stream, data))
        run = _measure(site, load, "ours", sender, {"ingest": ingest, "archiver": archiver}, Growing(data, archiver))
        archiver.end()
    site.forget(stream)
    return run


def direct(site: Site, load: Load) -> Run:
    """Run spt3g's reader and writer in one process."""
    directory = site.new_path("direct")
    directory.mkdir()
    with ExitStack() as stack:
        sender, port = _sender(stack, load)
        settle()
        recorder = stack.enter_context(
            program("bench.contestants.direct", str(port), str(directory / "direct_000.g3"))
        )
        return _measure(site, load, _DIRECT, sender, {"direct": recorder}, Growing(directory, recorder))


def bare(site: Site, load: Load) -> Run:
    """Run the minimum with Kafka: two loops that check nothing and have no spool."""
    stream, data = site.stream(), site.new_path("bare")
    data.mkdir()
    with ExitStack() as stack:
        sender, port = _sender(stack, load)
        settle()
        topic, file = frames_topic(stream), data / "bare_000.g3"
        pump = stack.enter_context(program("bench.contestants.bare", "pump", site.servers, topic, str(port)))
        pour = stack.enter_context(program("bench.contestants.bare", "pour", site.servers, topic, str(file)))
        processes = {"bare ingest": pump, "bare archiver": pour}
        run = _measure(site, load, _BARE, sender, processes, Growing(data, pour))
    site.forget(stream)
    return run


CONTESTANTS: Sequence[Callable[[Site, Load], Run]] = (ours, bare, direct)


def latency_lines(runs: Sequence[Run]) -> list[Line]:
    """Return the lines for the latencies; median and 99th percentile have goals."""
    found = []
    for load in latency_loads(1):
        mine, direct = (of(runs, PART, who, load.name) for who in ("ours", _DIRECT))
        for name, bound in (("p50", 10.0), ("p90", None), ("p99", 30.0), ("max", None)):
            found += line(
                "received → readable in the partial",
                mine,
                direct,
                figure=_more(name),
                unit=f"ms, {name}",
                against=_DIRECT,
                compare=Compare.DIFFERENCE,
                goal=None if bound is None else most(bound),
            )
    return found


def steady_lines(runs: Sequence[Run]) -> list[Line]:
    """Return the lines for CPU time per gigabyte: of both, which has the goal, of each, and of the broker."""
    found = []
    for load in steady_loads(1):
        mine = of(runs, PART, "ours", load.name)
        for who, goal in ((_DIRECT, most(2)), (_BARE, None)):
            other = of(runs, PART, who, load.name)
            what = "CPU, steady: ingest + archiver"
            found += line(what, mine, other, figure=_cpu_of_all, unit="s/GB", against=who, goal=goal)
        for who in ("ingest", "archiver", BROKER):
            found += line(f"… {who} alone", mine, figure=_cpu_of(who), unit="s/GB")
    return found


def _more(name: str) -> Callable[[Run], float]:
    return lambda run: run.more[name]


def _cpu_of(who: str) -> Callable[[Run], float]:
    return lambda run: run.cpu_per_gigabyte(who)


def _cpu_of_all(run: Run) -> float:
    return sum(map(run.cpu_per_gigabyte, run.programs))


def _sender(stack: ExitStack, load: Load) -> tuple[Measured, int]:
    port = free_port()
    count = str(round(load.rate * load.seconds))
    sender = program("bench.load.network_sender", str(port), load.size, count, str(load.rate), stdin=True)
    stack.enter_context(sender)
    sender.line()
    return sender, port


def _measure(
    site: Site, load: Load, who: str, sender: Measured, processes: Mapping[str, Measured], file: Growing
) -> Run:
    with program("bench.measure.watcher", str(file.path), stdin=True) as watcher:
        watcher.line()
        before = site.broker_cpu()
        for process in processes.values():
            process.begin()
        sender.send("go")
        sender.line()
        used = {name: process.used() for name, process in processes.items()}
        if who != _DIRECT:
            used[BROKER] = site.broker_used(before)
        file.await_still()
        sent = json.loads(sender.last_line())
        grown = json.loads(watcher.last_line())
    latencies = _latencies(sent["sent"], sent["bytes"], grown)
    file.path.unlink(missing_ok=True)
    file.close()
    total = len(sent["sent"]) * sent["bytes"]
    return Run(PART, who, load.name, total, load.seconds, used, percentiles(latencies))


def _latencies(sent: Sequence[int], length: int, grown: Sequence[tuple[int, int]]) -> list[float]:
    """Return each frame's latency, ms. Raises ContestError.

    sent: when each was sent, ns since the epoch. length: of a frame, bytes. grown: times and sizes of the file.
    """
    sizes = [size for _, size in grown]
    if not sizes or any(after < before for before, after in pairwise(sizes)):
        raise ContestError("the file didn't grow, or shrank")
    # The file's size before the first frame follows from its size with all frames.
    begin = sizes[-1] - len(sent) * length
    if begin < 0:
        raise ContestError(f"the file has {sizes[-1]} bytes, fewer than {len(sent)} frames of {length}")
    found = []
    for number, at in enumerate(sent, 1):
        seen, _ = grown[bisect_left(sizes, begin + number * length)]
        found.append((seen - at) / 1e6)
    return found


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p90, p99 and the maximum."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {**{f"p{part}": ordered[round(last * part / 100)] for part in (50, 90, 99)}, "max": ordered[-1]}
