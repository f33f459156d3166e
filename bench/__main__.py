"""Command `make bench`; see --help."""

import argparse
import os
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from confluent_kafka import KafkaException
from rich.console import Console

from bench.contestants.kcat import Kcat, kcat
from bench.load.frames import SIZES, Frames, frames
from bench.measure.process_cost import ContestError
from bench.report.results import Line, Run, machine, table, write
from bench.scenarios import archiving, both, ingesting, live, memory, restart, spooling, starting
from bench.scenarios.site import BROKER_PROPERTIES, Site
from testbed.debian_packages import FetchError
from testbed.kafka.broker import Broker

PARTS = {
    "ingest": "socket → acknowledged; against a bare loop of confluent-kafka",
    "spool": "socket → spool with Kafka down; against reading and discarding, and against a G3NetworkSender",
    "archiver": "topic → durable file; against kcat and a bare loop; replay; verify",
    "both": "both at once with the broker; against both bare loops at once",
    "latency": "received → readable in the partial; against spt3g's reader, writer",
    "steady": "CPU at 2 MB/s; against the same",
    "memory": "anonymous memory in the runs above, and with 100 MB frames",
    "start": "--help, and until ready; against importing spt3g, confluent_kafka",
    "restart": "archiver restart with a large file open (several minutes)",
}
_COLUMNS = 79
_LONG = ("restart",)
_WARMING_BYTES = 300_000_000
_LEAST_STARTS = 10
_LIVE_REPETITIONS = 2  # each takes a minute and has many frames

T = TypeVar("T")

_DESCRIPTION = """\
Measure ingest and archiver against what a user would run instead, on this
machine, in one run. The contestants take turns, so that other load on the
machine affects all of them. Prints a table of medians, and writes all
measurements to bench/results/TIME-MACHINE.json.

The broker runs on the same cores. Memory is the maximum of anonymous memory;
CPU is user and system time per gigabyte (1e9 bytes), without the broker's.
Where there is a goal, the table shows whether it is met; that doesn't change
the exit code."""


def make_parser() -> argparse.ArgumentParser:
    """The command line of `python -m bench`."""
    parts = "\n".join(
        textwrap.fill(f"  {name:9} {what}", _COLUMNS, subsequent_indent=" " * 12) for name, what in PARTS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=_DESCRIPTION,
        epilog=f"parts:\n{parts}\n\nexamples:\n"
        "  python -m bench                          all but restart: about 20 minutes\n"
        "  python -m bench --only both --sizes 2MB  one part, frames of one size\n"
        "  python -m bench --long --repetitions 5   all, with more certainty",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help="run only these parts")
    parser.add_argument("--long", action="store_true", help="run the part restart too")
    parser.add_argument(
        "--sizes", nargs="+", metavar="SIZE", default=SIZES, help=f"frame sizes (default: {' '.join(SIZES)})"
    )
    parser.add_argument(
        "--megabytes", type=_positive, metavar="N", default=600, help="data per run, MB (default: 600)"
    )
    parser.add_argument(
        "--repetitions", type=_positive, metavar="N", default=3, help="repetitions of each run (default: 3)"
    )
    parser.add_argument(
        "--seconds",
        type=_positive,
        metavar="N",
        default=60,
        help="length of runs with a live stream (latency, steady), s (default: 60)",
    )
    parser.add_argument(
        "--gigabytes", type=_positive, metavar="N", default=10, help="size of the file in restart, GB (default: 10)"
    )
    return parser


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the results. Exit code 0, or 1 if a contestant failed."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        for size in options.sizes:
            frames(size)
    except ValueError as error:
        parser.error(str(error))
    parts = options.only or [part for part in PARTS if options.long or part not in _LONG]
    console = Console(highlight=False)
    console.print("  ".join(f"{name}: {value}" for name, value in machine().items()), soft_wrap=True)
    # Handle SIGTERM as Ctrl-C, so that the temporary directory, which may have gigabytes, is deleted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    runs: list[Run] = []
    found = _kcat(console) if "archiver" in parts else None
    begun = time.monotonic()
    code = 0
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        Broker(Path(directory) / "kafka", properties=BROKER_PROPERTIES) as broker,
    ):
        site = Site(broker, Path(directory), options.megabytes * 1_000_000)
        try:
            for run in _measure(site, options, parts, runs, found):
                runs.append(run)
                console.print(f"{time.monotonic() - begun:6.0f} s  {_shown(run)}", style="dim", soft_wrap=True)
        except (ContestError, OSError, KafkaException) as error:
            # The measurements so far took minutes: they are shown and stored.
            console.print(f"error: {error}", style="red", markup=False)
            code = 1
        except KeyboardInterrupt:
            console.print("interrupted; the results so far:")
            code = 130
    if not runs:
        return code
    lines = _lines(runs, parts)
    # In a file the table is as wide as necessary.
    (console if console.is_terminal else Console(width=200, highlight=False)).print(table(lines))
    settings = {name: value for name, value in vars(options).items() if value is not None}
    console.print(f"written to {os.path.relpath(write(settings, runs, lines))}")
    return code


def _kcat(console: Console) -> Kcat | None:
    try:
        return kcat()
    except FetchError as error:
        console.print(f"without kcat: {error}", markup=False)
        return None


def _measure(
    site: Site, options: argparse.Namespace, parts: Sequence[str], runs: Sequence[Run], kcat: Kcat | None
) -> Iterator[Run]:
    """Yield all runs of these parts. `runs`: those made so far."""
    warming = site.stream()
    site.fill(warming, frames("2MB"), _WARMING_BYTES)  # warm up: the broker's code is compiled meanwhile
    site.forget(warming)
    for size in options.sizes:
        for repetition in range(options.repetitions):
            yield from _throughput(site, frames(size), parts, repetition, kcat)
    loads = [
        *(live.latency_loads(options.seconds) if "latency" in parts else ()),
        *(live.steady_loads(options.seconds) if "steady" in parts else ()),
    ]
    for repetition in range(_LIVE_REPETITIONS):
        for load in dict.fromkeys(loads):  # both parts have 2 MB once a second: measured once
            for contestant in _by_turns(live.CONTESTANTS, repetition):
                yield contestant(site, load)
    if "memory" in parts:
        for size in memory.missing(runs):
            yield memory.ours(site, size)
    if "start" in parts:
        start = starting.Starting(site)
        for repetition in range(1 + max(_LEAST_STARTS, options.repetitions)):
            for measure in _by_turns(start.contestants(), repetition):
                found = measure()
                if repetition:  # the first one only loads the programs into the page cache
                    yield from found
    if "restart" in parts:
        yield from restart.runs(site, options.gigabytes, options.repetitions)


def _throughput(site: Site, sent: Frames, parts: Sequence[str], repetition: int, kcat: Kcat | None) -> Iterator[Run]:
    """Yield one repetition of each part that measures throughput."""
    stream = None
    if "ingest" in parts:
        for who in _by_turns(("ours", "bare"), repetition):
            if who == "ours":
                run, stream = ingesting.ours(site, sent)
                yield run
            else:
                yield ingesting.bare(site, sent)
    if "archiver" in parts:
        if stream is None:
            stream = site.stream()
            site.fill(stream, sent)
        archive = archiving.Archiving(site, sent, stream, kcat)
        archive.bare()  # not measured: the first contestant waits for a broker still busy with its disk
        for archiver in _by_turns(archive.contestants(), repetition):
            yield from archiver()
    if stream:
        site.forget(stream)
    if "spool" in parts:
        for contestant in _by_turns(spooling.contestants(sent), repetition):
            yield contestant(site, sent)
    if "both" in parts:
        for contestant in _by_turns((both.ours, both.bare), repetition):
            yield contestant(site, sent)


def _by_turns(contestants: Iterable[T], repetition: int) -> list[T]:
    """Return the contestants in order, or in reverse order in every second repetition."""
    found = list(contestants)
    return found[::-1] if repetition % 2 else found


def _lines(runs: Sequence[Run], parts: Sequence[str]) -> list[Line]:
    of_parts: dict[str, Callable[[Sequence[Run]], list[Line]]] = {
        "ingest": ingesting.lines,
        "spool": spooling.lines,
        "archiver": archiving.lines,
        "both": both.lines,
        "latency": live.latency_lines,
        "steady": live.steady_lines,
        "memory": memory.lines,
        "start": starting.lines,
        "restart": restart.lines,
    }
    return [line for part, lines in of_parts.items() if part in parts for line in lines(runs)]


def _shown(run: Run) -> str:
    speed = f"{run.bytes / run.seconds / 1e6:.1f} MB/s, " if run.bytes else ""
    more = "".join(f", {name} {value:.1f} ms" for name, value in run.more.items())
    used = "".join(
        f"; {who} {used.anonymous_bytes / 1e6:.0f} MB, {used.cpu_seconds:.2f} CPU s" for who, used in run.used.items()
    )
    return f"{run.part} {run.frames} {run.who}: {speed}{run.seconds:.3f} s{more}{used}"


if __name__ == "__main__":
    sys.exit(main())
