"""`make bench`: see --help."""

import argparse
import os
import signal
import sys
import tempfile
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
    "ingest": "socket → acknowledged, beside a bare confluent-kafka loop",
    "spool": "socket → spool with Kafka away, beside reading and discarding, and what a G3NetworkSender sends",
    "archiver": "topic → durable file, beside kcat and a bare loop; replay; verify",
    "both": "both at once with the broker, beside the two bare loops at once",
    "latency": "received → readable in the partial file, beside spt3g's reader and writer",
    "steady": "CPU at 2 MB/s, beside the same",
    "memory": "anonymous memory, of the runs above, and at 100 MB frames",
    "start": "--help and until ready, beside a Python that imports spt3g and confluent_kafka",
    "restart": "an archiver comes back with a large file open (several minutes)",
}
_LONG = ("restart",)
_WARMING_BYTES = 300_000_000
_LEAST_STARTS = 10
_LIVE_REPETITIONS = 2  # each is a minute, of many frames

T = TypeVar("T")

_DESCRIPTION = """\
Measure ingest and archiver beside what a user would run instead, on this machine, in one run: by turns, so that what
else happens here strikes all of them. Prints a table of medians, and writes all that was measured to
bench/results/TIME-MACHINE.json.

The broker runs beside them, on the same cores. Memory is anonymous memory, at its most; CPU is user and system time
for each gigabyte (1e9 bytes), the broker's apart. What has a goal says whether it is met; that doesn't change the
exit code."""


def make_parser() -> argparse.ArgumentParser:
    """The command line of `python -m bench`."""
    parts = "\n".join(f"  {name:9} {what}" for name, what in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=_DESCRIPTION,
        epilog=f"parts:\n{parts}\n\nexamples:\n"
        "  python -m bench                                      all but restart: about 20 minutes\n"
        "  python -m bench --only ingest archiver --sizes 2MB   two parts, frames of one size\n"
        "  python -m bench --long --repetitions 5               all, with more certainty",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help="these parts")
    parser.add_argument("--long", action="store_true", help="restart, too")
    parser.add_argument("--sizes", nargs="+", default=SIZES, help=f"of frames (default: {' '.join(SIZES)})")
    parser.add_argument("--megabytes", type=_positive, default=600, help="moved in each run (default: 600)")
    parser.add_argument("--repetitions", type=_positive, default=3, help="of each run (default: 3)")
    parser.add_argument("--seconds", type=_positive, default=60, help="of a stream at its own pace (default: 60)")
    parser.add_argument("--gigabytes", type=_positive, default=10, help="open at a restart (default: 10)")
    return parser


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and show; gives the exit code: 0, or 1 if a contestant failed."""
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
    # As Ctrl-C: what lies in the temporary directory may be gigabytes.
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
            # What was measured until now took minutes: it is shown, and kept.
            console.print(f"error: {error}", style="red", markup=False)
            code = 1
        except KeyboardInterrupt:
            console.print("interrupted: what was measured until now")
            code = 130
    if not runs:
        return code
    lines = _lines(runs, parts)
    # In a file a table is as wide as it needs to be.
    (console if console.is_terminal else Console(width=200, highlight=False)).print(table(lines))
    settings = {name: value for name, value in vars(options).items() if value is not None}
    console.print(f"written to {os.path.relpath(write(settings, runs, lines))}")
    return code


def _kcat(console: Console) -> Kcat | None:
    try:
        return kcat()
    except FetchError as why:
        console.print(f"without kcat: {why}", markup=False)
        return None


def _measure(
    site: Site, options: argparse.Namespace, parts: Sequence[str], runs: Sequence[Run], kcat: Kcat | None
) -> Iterator[Run]:
    """All runs of these parts; `runs` are those that were made before."""
    warming = site.stream()
    site.fill(warming, frames("2MB"), _WARMING_BYTES)  # the broker's code is compiled while it runs
    site.forget(warming)
    for size in options.sizes:
        for repetition in range(options.repetitions):
            yield from _throughput(site, frames(size), parts, repetition, kcat)
    loads = [
        *(live.latency_loads(options.seconds) if "latency" in parts else ()),
        *(live.steady_loads(options.seconds) if "steady" in parts else ()),
    ]
    for repetition in range(_LIVE_REPETITIONS):
        for load in dict.fromkeys(loads):  # 2 MB once a second is for both
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
                if repetition:  # the first brings the programs into the page cache
                    yield from found
    if "restart" in parts:
        yield from restart.runs(site, options.gigabytes, options.repetitions)


def _throughput(site: Site, sent: Frames, parts: Sequence[str], repetition: int, kcat: Kcat | None) -> Iterator[Run]:
    """A round of each part that is about moving much."""
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
        archive.bare()  # who comes first waits for a broker that is still busy with its own disk
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
    """Ours and the others are first by turns."""
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
