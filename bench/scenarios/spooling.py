"""ingest while Kafka is away, socket → spool, beside a loop that forgets what it reads, and a G3NetworkSender."""

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
_LOOK_SECONDS = 0.005
_SETTLED_SECONDS = 0.3
_PATIENCE_SECONDS = 300.0


def ours(site: Site, frames: Frames) -> Run:
    """ingest, of a Kafka that isn't there; until nothing more comes into its spool."""
    spool = site.new_path("spool")
    times = frames.times(site.total)
    total = times * len(frames.unit)
    nobody = f"127.0.0.1:{free_port()}"
    with (
        site.sender(frames, start_frame(), times) as (sender, port),
        site.ingest("bench", port, nobody, spool) as ingest,
    ):
        ingest.await_log("START")
        before = _spooled(spool)
        ingest.begin()
        begun = time.perf_counter()
        sender.tell(str(times))
        grown = _await_spooled(spool, before + total)
        used = {"ingest": ingest.used()}
    for path in spool.rglob("*.bundles"):
        path.unlink()
    return Run(PART, "ours", frames.name, total, grown - begun, used)


def discarding(site: Site, frames: Frames) -> Run:
    """The same bytes, read and forgotten."""
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
        sender.tell(str(times))
        reader.line()
        seconds = time.perf_counter() - begun
        used = {"discarding": reader.used()}
    return Run(PART, "discarding", frames.name, total, seconds, used)


def network_sender(site: Site, frames: Frames) -> Run:
    """A G3NetworkSender's frames of that size, as many as it can send, read and forgotten."""
    port = free_port()
    times = frames.times(site.total)
    total = times * len(frames.unit)
    with program("bench.load.network_sender", str(port), frames.name, str(times), "0", stdin=True) as sender:
        sender.line()
        with program("bench.contestants.discard", str(port), str(total)) as reader:
            reader.line()
            time.sleep(0.3)  # for it to be accepted, with the next frame
            sender.begin()
            begun = time.perf_counter()
            sender.tell("go")
            reader.line()
            seconds = time.perf_counter() - begun
            used = {"sender": sender.used()}
    return Run(PART, "G3NetworkSender", frames.name, total, seconds, used)


def contestants(frames: Frames) -> list[Callable[[Site, Frames], Run]]:
    """Those for frames of a size: a SMuRF's a plain G3NetworkSender can't make."""
    return [ours, discarding] if frames.name == SMURF else [ours, discarding, network_sender]


def lines(runs: Sequence[Run]) -> list[Line]:
    """Two for each size."""
    found = []
    for what, who, goal in (
        ("ingest: socket → spool, Kafka away", "discarding", 0.4),
        ("… and a G3NetworkSender sends", "G3NetworkSender", 1.0),
    ):
        for size in sizes_of(runs, PART):
            mine, others = of(runs, PART, "ours", size), of(runs, PART, who, size)
            found += line(what, mine, others, against=who, goal=least(goal))
    return found


def _await_spooled(spool: Path, size: int) -> float:
    """When the last of at least so many bytes came (time.perf_counter()). Raises ContestError."""
    last, at = 0, time.perf_counter()
    until = at + _PATIENCE_SECONDS
    # Each record's own few bytes come on top of the frames': it has all when it grows no more.
    while last < size or time.perf_counter() - at < _SETTLED_SECONDS:
        if (now := _spooled(spool)) != last:
            last, at = now, time.perf_counter()
        if time.perf_counter() > until:
            raise ContestError(f"the spool has {last} bytes of {size}")
        time.sleep(_LOOK_SECONDS)
    return at


def _spooled(spool: Path) -> int:
    size = 0
    for path in spool.rglob("*.bundles"):
        with suppress(FileNotFoundError):  # it has another name now: it is looked at again soon
            size += path.stat().st_size
    return size
