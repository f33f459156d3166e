"""Plots of what bench.wide has measured, for docs/understand/performance.md. `python -m bench.plots`"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.report.results import RESULTS
from bench.scenarios.many import shown_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Run = Mapping[str, Any]
"""A run as in the file."""

_EPILOG = """\
Needs matplotlib: pip install '.[bench]'. Of a part that was measured
several times, the last measurement is drawn."""
PICTURES = Path(__file__).parents[1] / "docs" / "understand" / "performance"
_OURS = {"ingest": "C0", "archiver": "C1", "broker": "C2"}
_MAIN, _SMALL = (6.4, 3.2), (9.0, 3.2)


def latest(results: Path) -> dict[str, list[Run]]:
    """Return the runs of each part, from the last file that has it."""
    found: dict[str, list[Run]] = {}
    for path in sorted(results.glob("wide-*.json")):
        runs = json.loads(path.read_text())["runs"]
        for part in dict.fromkeys(run["part"] for run in runs):
            found[part] = [run for run in runs if run["part"] == part]
    return found


def steady(runs: Sequence[Run]) -> Figure:
    """Plot lag and memory of many streams over minutes."""
    figure, (lag, memory) = _axes(2)
    (run,) = runs[-1:]
    seconds, lags = zip(*run["curves"]["lag, s"], strict=True)
    lag.plot([second / 60 for second in seconds], [1000 * one for one in lags], color="C3", linewidth=0.7)
    lag.axhline(1000, color="grey", linestyle=":")
    _label(lag, "minutes", "receipt → readable, ms\n(maximum in each second)", f"{run['frames']}", log_y=True)
    for who, color in _OURS.items():
        times, megabytes = zip(*run["curves"][f"{who}, MB"], strict=True)
        memory.plot([time / 60 for time in times], megabytes, color=color, label=who)
    _label(memory, "minutes", "anonymous memory, MB", "memory")
    memory.set_ylim(bottom=0)
    memory.legend()
    return figure


def by_streams(runs: Sequence[Run]) -> Figure:
    """Plot CPU, memory and lag against the number of streams."""
    figure, (cpu, memory, lag) = _axes(3)
    counts = [run["more"]["streams"] for run in runs]
    for who, color in _OURS.items():
        cpu.plot(counts, [run["more"][f"{who} cores"] for run in runs], "o-", color=color, label=who)
        memory.plot(counts, [run["used"][who]["anonymous_bytes"] / 1e6 for run in runs], "o-", color=color, label=who)
    for name, style in (("p50", "o-"), ("p99", "s--"), ("max", "^:")):
        lag.plot(counts, [1000 * run["more"][f"lag {name} s"] for run in runs], style, color="C3", label=name)
    lag.axhline(1000, color="grey", linestyle=":")
    _label(cpu, "streams, 200 kB/s each", "CPU, cores", "CPU")
    _label(memory, "streams", "anonymous memory, MB", "memory")
    _label(lag, "streams", "receipt → readable, ms", "lag", log_y=True)
    for axes in (cpu, lag):
        axes.legend()
    return figure


def by_frame_size(runs: Sequence[Run]) -> Figure:
    """Plot CPU per gigabyte and memory against the size of frames."""
    figure, (cpu, memory) = _axes(2)
    sizes = [run["more"]["frame bytes"] for run in runs]
    for who, color in _OURS.items():
        costs = [run["used"][who]["cpu_seconds"] / (run["bytes"] / 1e9) for run in runs]
        cpu.plot(sizes, costs, "o-", color=color, label=who)
        megabytes = [run["used"][who]["anonymous_bytes"] / 1e6 for run in runs]
        memory.plot(sizes, megabytes, "o-", color=color, label=who)
    for axes, what, title in ((cpu, "CPU, s/GB", "CPU at 2 MB/s"), (memory, "anonymous memory, MB", "memory")):
        _label(axes, "frame size", what, title, log_x=True, log_y=axes is cpu)
        axes.set_xticks(sizes, [shown_size(size) for size in sizes])
    cpu.legend()
    return figure


def by_length(runs: Sequence[Run]) -> Figure:
    """Plot the durations of a restart and of finishing against the size of the open file."""
    figure, (axes,) = _axes(1)
    lengths = [run["more"]["GB"] for run in runs]
    axes.plot(lengths, [run["more"]["restart s"] for run in runs], "o-", label="restart, to the first new record")
    axes.plot(lengths, [run["more"]["finish s"] for run in runs], "s-", label="finishing, after that restart")
    _label(axes, "open file, GB", "s", "restart with files of growing size", log_x=True, log_y=True)
    axes.legend()
    return figure


def by_files(runs: Sequence[Run]) -> Figure:
    """Plot what takes longer with many finished files."""
    figure, (axes,) = _axes(1)
    counts = [run["more"]["files"] for run in runs]
    for name, label in (
        ("verify s", "archiver verify"),
        ("files s", "archiver files"),
        ("status s", "archiver status"),
        ("start until near s", "archiver restarted, until caught up"),
        ("finish s", "finishing a file"),
        ("live lag max s", "maximum lag of live streams when a new one appears"),
    ):
        axes.plot(counts, [run["more"][name] for run in runs], "o-", label=label)
    axes.set_xscale("symlog", linthresh=100)
    _label(axes, "finished files, and events on g3.files", "s", "many files", log_y=True)
    axes.legend(fontsize=7)
    return figure


def group(runs: Sequence[Run]) -> Figure:
    """Plot the lag around the kill of an archiver."""
    figure, (axes,) = _axes(1)
    for run in runs:
        seconds, lags = zip(*run["curves"]["lag, s"], strict=True)
        axes.plot(seconds, lags, label=run["who"])
    axes.axhline(1, color="grey", linestyle=":")
    _label(axes, "a frame's receipt, s after kill -9 of one archiver", "receipt → readable, s", runs[0]["frames"])
    axes.legend()
    return figure


def apart(runs: Sequence[Run]) -> Figure:
    """Plot the maximum lag of live streams during work on another stream's large file."""
    figure, (axes,) = _axes(1)
    names = [f"{run['who']} ({run['seconds']:.0f} s)" for run in runs][::-1]
    axes.barh(names, [run["more"]["lag max s"] for run in runs][::-1], color="C3")
    axes.axvline(1, color="grey", linestyle=":")
    size = runs[0]["frames"]
    axes.set_xscale("log")
    _label(axes, "maximum lag of live streams, s", "", f"work on a file of {size} beside 10 live streams")
    axes.tick_params(axis="y", labelsize=7)
    return figure


def doubling(runs: Sequence[Run]) -> Figure:
    """Plot lag and CPU against the number of streams, which is doubled until the machine is full."""
    figure, (lag, cpu) = _axes(2)
    names = [f"{run['more']['streams']:.0f}" for run in runs]
    for name, style in (("p50", "o-"), ("p99", "s--"), ("max", "^:")):
        lag.plot(names, [run["more"][f"lag {name} s"] for run in runs], style, color="C3", label=name)
    lag.axhline(1, color="grey", linestyle=":")
    _label(lag, "streams, 200 kB/s each", "receipt → readable, s", "lag", log_y=True)
    bottom = [0.0] * len(runs)
    for who, color in {**_OURS, "sender": "C7"}.items():
        cores = [run["more"][f"{who} cores"] for run in runs]
        cpu.bar(names, cores, bottom=bottom, color=color, label=who)
        bottom = [below + one for below, one in zip(bottom, cores, strict=True)]
    _label(cpu, "streams, 200 kB/s each", "CPU, cores", "CPU, all on one machine with 2 cores")
    lag.legend()
    cpu.legend()
    return figure


_PICTURES: Mapping[str, tuple[str, Callable[[Sequence[Run]], Figure]]] = {
    "streams": ("streams.png", steady),
    "by streams": ("by-streams.png", by_streams),
    "doubling": ("doubling.png", doubling),
    "by frame size": ("by-frame-size.png", by_frame_size),
    "by file length": ("by-file-length.png", by_length),
    "by files": ("by-files.png", by_files),
    "group": ("group.png", group),
    "isolation": ("isolation.png", apart),
    "takeover": ("takeover.png", apart),
}


def _axes(count: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_MAIN if count == 1 else _SMALL, layout="constrained")
    return figure, [figure.add_subplot(1, count, number + 1) for number in range(count)]


def _label(axes: Axes, x: str, y: str, title: str, *, log_x: bool = False, log_y: bool = False) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title)
    if log_x:
        axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")
    axes.grid(visible=True, alpha=0.3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw all parts that were measured. Exit code 0, or 1 if there is none."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.plots",
        description="Draw what `python -m bench.wide` has measured.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--results", type=Path, metavar="DIR", default=RESULTS, help="read wide-*.json here (default: bench/results)"
    )
    parser.add_argument(
        "--into",
        type=Path,
        metavar="DIR",
        default=PICTURES,
        help="write *.png here (default: docs/understand/performance)",
    )
    options = parser.parse_args(arguments)
    try:
        import matplotlib as mpl  # imported only here, so that --help works without it
    except ImportError:
        print("error: matplotlib is missing: pip install '.[bench]'", file=sys.stderr)
        return 1
    mpl.rcParams.update({"font.size": 8, "axes.titlesize": 9})
    runs = latest(options.results)
    options.into.mkdir(parents=True, exist_ok=True)
    for part, (name, draw) in _PICTURES.items():
        if part in runs:
            draw(runs[part]).savefig(options.into / name, dpi=90)
            print(options.into / name)
    return 0 if runs.keys() & _PICTURES.keys() else 1


if __name__ == "__main__":
    sys.exit(main())
