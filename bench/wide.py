"""Command `make bench-long`; see --help."""

import argparse
import json
import os
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from confluent_kafka import KafkaException
from rich.console import Console

from bench.measure.lags import MissingError
from bench.measure.process_cost import ContestError
from bench.report.results import RESULTS, Run, machine, table
from bench.scenarios import apart, growth, page, width
from bench.scenarios.many import Load, WatchedSite
from bench.scenarios.site import BROKER_PROPERTIES
from bench.scenarios.width import Found
from testbed.kafka.broker import Broker

_DESCRIPTION = """\
Measure how the recorder scales, and how its cost grows: many streams at once,
archivers that share them, one stream's problems beside the others, large
files, many files. Prints a line for each run and a table, and writes all
measurements to bench/results/wide-TIME-MACHINE.json, from which
`python -m bench.plots` draws plots.

Sender, ingest, archivers and broker all run on this machine, so its cores are
the limit."""

PARTS = {
    "streams": "many streams, one ingest, one archiver: lag, memory, CPU",
    "doubling": "number of streams doubled until frames are late or the machine is full",
    "group": "2 and 4 archivers share the streams and one is killed; the files are compared with those of a replay",
    "isolation": "one stream's large file is finished, verified, rebuilt, beside 10 live streams",
    "takeover": "a large file is taken over from a frozen archiver, and, damaged, from a dead one",
    "backlog": "archiver restart with one stream far behind, beside 10 live streams",
    "by-streams": "cost against the number of streams",
    "by-frame-size": "cost against the size of frames, at 2 MB/s",
    "by-file-length": "restart and finishing against the size of the open file",
    "page": "archiver web with 100 viewers, and 100,000 files: its answers, memory, CPU, and the lag beside it",
    "by-files": "100,000 files and their events: start, status, files, verify, finishing",
}
_COLUMNS = 79


def make_parser() -> argparse.ArgumentParser:
    """The command line of `python -m bench.wide`."""
    parts = "\n".join(
        textwrap.fill(f"  {name:15} {what}", _COLUMNS, subsequent_indent=" " * 18) for name, what in PARTS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m bench.wide",
        description=_DESCRIPTION,
        epilog=f"parts:\n{parts}\n\nexamples:\n"
        "  python -m bench.wide                                  all: an hour, 40 GB of disk\n"
        "  python -m bench.wide --only streams --minutes 60      one part, longer\n"
        "  python -m bench.wide --only isolation --gigabytes 2   one part, smaller",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help="run only these"
    )
    parser.add_argument(
        "--streams", type=int, metavar="N", default=40, help="number of streams in streams, group, page (default: 40)"
    )
    parser.add_argument(
        "--most-streams", type=int, metavar="N", default=1280, help="maximum in doubling (default: 1280)"
    )
    parser.add_argument("--minutes", type=float, metavar="N", default=10, help="length of streams, min (default: 10)")
    parser.add_argument(
        "--seconds", type=float, metavar="N", default=60, help="length of other runs with live streams (default: 60)"
    )
    parser.add_argument(
        "--gigabytes", type=float, metavar="N", default=10, help="size of the largest file or backlog (default: 10)"
    )
    parser.add_argument(
        "--files", type=int, metavar="N", default=100_000, help="number of files in by-files, page (default: 100000)"
    )
    parser.add_argument("--dir", type=Path, help="directory for temporary files (default: the system's)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the results. Exit code 0, or 1 if a part failed."""
    options = make_parser().parse_args(arguments)
    console = Console(highlight=False)
    about = machine()
    console.print("  ".join(f"{name}: {value}" for name, value in about.items()), soft_wrap=True)
    # Handle SIGTERM as Ctrl-C, so that the temporary directory, which may have gigabytes, is deleted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found: list[Found] = []
    begun = time.monotonic()
    code = 0
    try:
        for part in options.only:
            try:
                for one in _part(part, options):
                    found.append(one)
                    elapsed = f"{time.monotonic() - begun:6.0f} s"
                    console.print(f"{elapsed}  {_shown(one.run)}", soft_wrap=True, markup=False)
            except (ContestError, MissingError, OSError, KafkaException) as error:
                # Continue: the next parts are independent, and the measurements so far took minutes.
                console.print(f"{part}: error: {error}", style="red", markup=False)
                code = 1
    except KeyboardInterrupt:
        console.print("interrupted; the results so far:")
        code = 130
    if found:
        lines = [one for module in (width, apart, growth) for one in module.lines([each.run for each in found])]
        shown = table(lines)
        shown.title = None
        (console if console.is_terminal else Console(width=160, highlight=False)).print(shown)
        settings = {name: str(value) for name, value in vars(options).items() if value is not None}
        when = str(about["time"])[:19].replace(":", "").replace("T", "-")
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"wide-{when}-{about['machine']}.json"
        runs = [{**asdict(one.run), "curves": one.curves} for one in found]
        content = {**about, "settings": settings, "lines": [asdict(one) for one in lines], "runs": runs}
        path.write_text(json.dumps(content) + "\n")
        console.print(f"written to {os.path.relpath(path)}")
    return code


def _part(part: str, options: argparse.Namespace) -> Iterator[Found]:
    """Yield a part's runs. Each part has its own broker, so that one part's data doesn't slow down the next."""
    load = Load(options.streams, width.SIZE, width.RATE)
    gigabytes, seconds = options.gigabytes, options.seconds
    parts: dict[str, Callable[[WatchedSite], Iterator[Found]]] = {
        "streams": lambda site: iter([width.steady(site, load, 60 * options.minutes, "streams", "s-")]),
        "doubling": lambda site: width.doubling(site, 2 * options.streams, options.most_streams, seconds),
        "group": lambda site: (width.group(site, options.streams, count, f"g{count}-") for count in (2, 4)),
        "isolation": lambda site: apart.isolation(site, gigabytes),
        "takeover": lambda site: apart.takeover(site, gigabytes),
        "backlog": lambda site: apart.backlog(site, gigabytes),
        "by-streams": lambda site: growth.by_streams(site, seconds),
        "by-frame-size": lambda site: growth.by_frame_size(site, seconds),
        "by-file-length": lambda site: growth.by_file_length(site, gigabytes),
        "page": lambda site: page.page(site, load, options.files, seconds),
        "by-files": lambda site: growth.by_files(site, options.files),
    }
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=options.dir) as directory,
        Broker(Path(directory) / "kafka", properties=BROKER_PROPERTIES) as broker,
    ):
        yield from parts[part](WatchedSite(broker, Path(directory), 0))


def _shown(run: Run) -> str:
    figures = {name: value for name, value in run.more.items() if value or name.startswith("lag")}
    more = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    used = "".join(
        f"; {who} {one.anonymous_bytes / 1e6:.0f} MB, {one.cpu_seconds:.1f} CPU s" for who, one in run.used.items()
    )
    return f"{run.part} {run.frames} {run.who}: {run.seconds:.1f} s; {more}{used}"


if __name__ == "__main__":
    sys.exit(main())
