"""ingest, socket → acknowledged by Kafka, against a bare confluent-kafka loop."""

import time
from collections.abc import Sequence

from bench.load.frames import Frames
from bench.report.results import BROKER, Line, Run, least, line, of, sizes_of
from bench.scenarios.site import Site, program, settle
from g3stream.contract.topics import frames_topic

PART = "ingest"


def ours(site: Site, frames: Frames) -> tuple[Run, str]:
    """Run ingest. Returns the stream too, which then has the frames."""
    stream = site.stream()
    seconds, used = site.fill(stream, frames)
    return Run(PART, "ours", frames.name, _bytes(site, frames), seconds, used), stream


def bare(site: Site, frames: Frames) -> Run:
    """Run the bare loop."""
    stream = site.stream()
    times = frames.times(site.total)
    settle()
    lengths = ",".join(map(str, frames.lengths))
    with (
        site.sender(frames, b"", times) as (sender, port),
        program(
            "bench.contestants.bare", "ingest", site.servers, frames_topic(stream), str(port), lengths, str(times)
        ) as loop,
    ):
        loop.line()
        there = site.records(stream)
        before = site.broker_cpu()
        loop.begin()
        begun = time.perf_counter()
        sender.send(str(times))
        site.await_records(stream, there + frames.records(times))
        seconds = time.perf_counter() - begun
        used = {"bare": loop.used(), BROKER: site.broker_used(before)}
    site.forget(stream)
    return Run(PART, "bare", frames.name, _bytes(site, frames), seconds, used)


def lines(runs: Sequence[Run]) -> list[Line]:
    """Return a line for each frame size."""
    found = []
    for size in sizes_of(runs, PART):
        found += line(
            "ingest: socket → acknowledged",
            of(runs, PART, "ours", size),
            of(runs, PART, "bare", size),
            against="bare loop",
            goal=least(0.75 if size == "20kB" else 0.9),
        )
    return found


def _bytes(site: Site, frames: Frames) -> int:
    return frames.times(site.total) * len(frames.unit)
