"""ingest while Kafka is down, socket → spool, against a loop that discards what it reads, and a G3NetworkSender."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from bench.load.frames import SMURF, Frames, start_frame
from bench.measure.process_cost import ContestError
from bench.report.results import Line, Run, least, line, of, sizes_of
from bench.scenarios.site import Site, program, settle
from testbed.child_process import free_port

PART = "spool"
_POLL_SECONDS = 0.005
_SETTLED_SECONDS = 0.3
_TIMEOUT_SECONDS = 300.0


def ours(site: Site, frames: Frames) -> Run:
    """Run ingest without a Kafka until its spool doesn't grow any more."""
    spool = site.new_path("spool")
    times = frames.times(site.total)
    total = times * len(frames.unit)
    unreachable = f"127.0.0.1:{free_port()}"
    with (
        site.sender(frames, start_frame(), times) as (sender, port),
        site.ingest("bench", port, unreachable, spool) as ingest,
    ):
        ingest.await_log("START")
        before = _spooled(spool)
        ingest.begin()
        begun = time.perf_counter()
        sender.send(str(times))
        grown = _await_spooled(spool, before + total)
        used = {"ingest": ingest.used()}
    for path in spool.rglob("*.bundles"):
        path.unlink()
    return Run(PART, "ours", frames.name, total, grown - begun, used)


def discarding(site: Site, frames: Frames) -> Run:
    """Read the same bytes and discard them."""
    times = frames.times(site.total)
    total = times * len(frames.unit)
    settle()
    with (
        site.sender(frames, b"", times) as (sender, port),
        program("bench.contestants.discard", str(port), str(total)) as reader,
    ):
        reader.line()
        reader.begin()
        begun = time.perf_counter()
        sender.send(str(times))
        reader.line()
        seconds = time.perf_counter() - begun
        used = {"discarding": reader.used()}
    return Run(PART, "discarding", frames.name, total, seconds, used)


def network_sender(site: Site, frames: Frames) -> Run:
    """Read and discard frames of that size from a G3NetworkSender that sends as fast as it can."""
    port = free_port()
    times = frames.times(site.total)
    total = times * len(frames.unit)
    with program("bench.load.network_sender", str(port), frames.name, str(times), "0", stdin=True) as sender:
        sender.line()
        with program("bench.contestants.discard", str(port), str(total)) as reader:
            reader.line()
            time.sleep(0.3)  # it is accepted with the next frame
            sender.begin()
            begun = time.perf_counter()
            sender.send("go")
            reader.line()
            seconds = time.perf_counter() - begun
            used = {"sender": sender.used()}
    return Run(PART, "G3NetworkSender", frames.name, total, seconds, used)


def contestants(frames: Frames) -> list[Callable[[Site, Frames], Run]]:
    """Return the contestants for these frames: the G3NetworkSender can't make a SMuRF's."""
    return [ours, discarding] if frames.name == SMURF else [ours, discarding, network_sender]


def lines(runs: Sequence[Run]) -> list[Line]:
    """Return two lines for each frame size."""
    found = []
    for what, who, goal in (
        ("ingest: socket → spool, Kafka down", "discarding", 0.4),
        ("… and a G3NetworkSender sends", "G3NetworkSender", 1.0),
    ):
        for size in sizes_of(runs, PART):
            mine, others = of(runs, PART, "ours", size), of(runs, PART, who, size)
            found += line(what, mine, others, against=who, goal=least(goal))
    return found


def _await_spooled(spool: Path, size: int) -> float:
    """Wait for `size` bytes and the end of growth. Returns when that was (perf_counter). Raises ContestError."""
    last, at = 0, time.perf_counter()
    until = at + _TIMEOUT_SECONDS
    # Each record adds a few bytes to its frame's: the spool is complete when it stops growing.
    while last < size or time.perf_counter() - at < _SETTLED_SECONDS:
        if (now := _spooled(spool)) != last:
            last, at = now, time.perf_counter()
        if time.perf_counter() > until:
            raise ContestError(f"the spool has {last} bytes of {size}")
        time.sleep(_POLL_SECONDS)
    return at


def _spooled(spool: Path) -> int:
    size = 0
    for path in spool.rglob("*.bundles"):
        with suppress(FileNotFoundError):  # renamed; the next call finds it
            size += path.stat().st_size
    return size
