"""Restart of an archiver with a large file open, after kill -9 and SIGTERM: until it writes a new record.

An archiver records the file once; the topic retains only the last part of it. The new record is in Kafka when the
archiver is started.
"""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.load.frames import Frames, frames, start_frame
from bench.measure.process_cost import Measured
from bench.report.results import Line, Run, line, most, of
from bench.scenarios.site import Growing, Site, environment, settle

PART = "restart"
_FRAMES = "2MB"
_RETAINED = {"segment.bytes": str(64 << 20), "retention.bytes": str(1 << 30)}
_PIECE_BYTES = 400_000_000  # less than is retained: retention must not overtake the archiver
_STOPS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM}


def runs(site: Site, gigabytes: int, repetitions: int) -> Iterator[Run]:
    """Yield `repetitions` runs for each way to stop it, alternating."""
    sent = frames(_FRAMES)
    stream, data = site.stream(_RETAINED), site.new_path("data")
    command = [*site.archiver_command(stream, data), "--time-per-file", "1000000", "--gap", "100000"]
    with ExitStack() as stack:
        sender, port = stack.enter_context(site.sender(sent, start_frame()))
        stack.enter_context(site.ingest(stream, port))
        archiver = stack.enter_context(Measured(command, env=environment()))
        file = _grow(sender, sent, archiver, data, gigabytes * 1_000_000_000)
        for number in range(2 * repetitions):
            who, stop = list(_STOPS.items())[number % 2]
            site.await_committed(stream, data.name)
            archiver.end(stop)
            size, there = file.size, site.records(stream)
            sender.send("1")
            site.await_records(stream, there + sent.records(1))
            settle()
            begun = time.perf_counter()
            archiver = stack.enter_context(Measured(command, env=environment()))
            file.await_size(size + 1)
            seconds = time.perf_counter() - begun
            yield Run(PART, who, f"{gigabytes} GB open", 0, seconds, {"archiver": archiver.used()})
    file.path.unlink()
    file.close()
    site.forget(stream)


def _grow(sender: Measured, sent: Frames, archiver: Measured, data: Path, total: int) -> Growing:
    """Return the archiver's file when it has `total` bytes."""
    sender.send("1")
    file = Growing(data, archiver)
    size = len(sent.unit)
    while size < total:
        times = sent.times(min(_PIECE_BYTES, total - size))
        sender.send(str(times))
        size += times * len(sent.unit)
        file.await_size(size)
    return file


def lines(runs: Sequence[Run]) -> list[Line]:
    """Return a line for each way to stop it."""
    found = []
    for who in _STOPS:
        for size in dict.fromkeys(run.frames for run in runs if run.part == PART):
            mine = of(runs, PART, who, size)
            found += line(f"restart after {who}: first record", mine, figure=_seconds, unit="s", goal=most(1.5))
    return found


def _seconds(run: Run) -> float:
    return run.seconds
