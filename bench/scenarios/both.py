"""ingest and archiver at once, socket → durable file, with the broker on the same cores; against two bare loops."""

import json
import time
from collections.abc import Sequence

from bench.load.frames import Frames, start_frame
from bench.measure.process_cost import Used
from bench.report.results import BROKER, Line, Run, least, line, of, sizes_of
from bench.scenarios.site import Growing, Site, program, settle
from g3stream.contract.topics import frames_topic

PART = "both"


def ours(site: Site, frames: Frames, at_least: int = 0) -> Run:
    """Run both until all bytes are durable in the partial, which is open before the measurement begins.

    at_least: minimum number of frames, if the site's total is less.
    """
    stream, data = site.stream(), site.new_path("data")
    times = max(frames.times(site.total), at_least)
    with (
        site.sender(frames, start_frame() + frames.unit, times) as (sender, port),
        site.ingest(stream, port) as ingest,
        # A busy machine mustn't end the acquisition.
        site.archiver(stream, data, "--gap", "100") as archiver,
    ):
        file = Growing(data, archiver)
        before = site.broker_cpu()
        ingest.begin()
        archiver.begin()
        begun = time.perf_counter()
        sender.send(str(times))
        file.await_size((times + 1) * len(frames.unit))
        file.sync()
        seconds = time.perf_counter() - begun
        used = {"ingest": ingest.used(), "archiver": archiver.used(), BROKER: site.broker_used(before)}
        archiver.end()
    file.path.unlink()
    file.close()
    site.forget(stream)
    return Run(PART, "ours", frames.name, times * len(frames.unit), seconds, used)


def bare(site: Site, frames: Frames) -> Run:
    """Run both bare loops until the slower one, the archiver's, has synced the last byte."""
    stream, path = site.stream(), site.new_path("bare")
    times = frames.times(site.total)
    total = times * len(frames.unit)
    settle()
    topic, lengths = frames_topic(stream), ",".join(map(str, frames.lengths))
    with (
        site.sender(frames, b"", times) as (sender, port),
        program("bench.contestants.bare", "ingest", site.servers, topic, str(port), lengths, str(times)) as producing,
        program("bench.contestants.bare", "archiver", site.servers, topic, str(total), str(path)) as consuming,
    ):
        producing.line()
        consuming.line()
        before = site.broker_cpu()
        producing.begin()
        begun = time.perf_counter()
        sender.send(str(times))
        measured = json.loads(consuming.line())
        producing.line()
        seconds = time.perf_counter() - begun
        used = {
            "bare ingest": producing.used(),
            "bare archiver": Used(consuming.used().anonymous_bytes, measured["cpu_seconds"]),
            BROKER: site.broker_used(before),
        }
    path.unlink()
    site.forget(stream)
    return Run(PART, "bare loops", frames.name, total, seconds, used)


def lines(runs: Sequence[Run]) -> list[Line]:
    """Return a line for each frame size."""
    found = []
    for size in sizes_of(runs, PART):
        found += line(
            "both at once, with the broker",
            of(runs, PART, "ours", size),
            of(runs, PART, "bare loops", size),
            against="bare loops",
            goal=least(0.85),
        )
    return found
