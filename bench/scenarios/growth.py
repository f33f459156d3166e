"""Growth of cost with the number of streams, the size of frames, the size of a file, the number of files."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.load.frames import frames, start_frame
from bench.load.many_files import STREAMS, OldFiles
from bench.measure.lags import between, by_second, quantiles
from bench.measure.process_cost import ContestError, Measured, Used
from bench.report.results import Figure, Line, Run, line, most
from bench.scenarios.apart import PATIENT_INGEST, send
from bench.scenarios.many import Load, Many, WatchedSite
from bench.scenarios.site import Growing, environment
from bench.scenarios.width import RATE, SIZE, Found, steady

COUNTS = (1, 5, 10, 20, 40, 80)
SIZES = (2_000, 20_000, 200_000, 2_000_000, 20_000_000)
_BYTES_PER_SECOND = 2e6
_LENGTHS = (0.01, 0.1, 1.0)
"""Fractions of the requested maximum size."""
_FILES = (0.001, 0.01, 0.1, 1.0)
_FRAMES = "2MB"
_LIVE = 5
_GAP_SECONDS = 10_000.0  # a file is finished only when its sender disconnects
_SETTLED_SECONDS = 5.0
_TIMEOUT_SECONDS = 300.0
_POLL_SECONDS = 0.005


def by_streams(site: WatchedSite, seconds: float) -> Iterator[Found]:
    """Run growing numbers of streams of the same frames."""
    for count in COUNTS:
        yield steady(site, Load(count, SIZE, RATE), seconds, "by streams", f"n{count}-")


def by_frame_size(site: WatchedSite, seconds: float) -> Iterator[Found]:
    """Run one stream with the same data rate in frames of growing size."""
    for size in SIZES:
        load = Load(1, size, _BYTES_PER_SECOND / size)
        yield steady(site, load, max(seconds, 4 / load.rate), "by frame size", f"f{size}-")


def by_file_length(site: WatchedSite, gigabytes: float) -> Iterator[Found]:
    """Measure an archiver's restart and the finishing of its file, with open files of growing size."""
    sent = frames(_FRAMES)
    for part in _LENGTHS:
        stream, data = site.stream(), site.new_path("data")
        command = [*site.archiver_command(stream, data), "--time-per-file", "1000000", "--gap", "100000"]
        with ExitStack() as stack:
            sender, port = stack.enter_context(site.sender(sent, start_frame()))
            ingest = [*site.ingest_command(stream, port), *PATIENT_INGEST]
            stack.enter_context(Measured(ingest, env=environment()))
            archiver = stack.enter_context(Measured(command, env=environment()))
            size = send(sender, sent, round(part * gigabytes * 1e9))
            file = Growing(data, archiver)
            file.await_size(size)
            # Without a commit of this file it would begin another one, or write part of this one again.
            site.await_committed(stream, data.name)
            archiver.end(signal.SIGKILL)
            there = site.records(stream)
            sender.send("1")
            site.await_records(stream, there + sent.records(1))
            os.sync()
            begun = time.monotonic()
            archiver = stack.enter_context(Measured(command, env=environment()))
            file.await_size(size + 1)
            restarted = time.monotonic() - begun
            begun = time.monotonic()
            sender.end(signal.SIGKILL)
            _await_finished(data)
            more = {"GB": size / 1e9, "restart s": restarted, "finish s": time.monotonic() - begun}
            used = {"archiver": archiver.used()}
            archiver.end()
        file.close()
        shutil.rmtree(data)
        site.forget(stream)
        yield Found(Run("by file length", "ours", f"{size / 1e9:.3g} GB", size, restarted, used, more))


def by_files(site: WatchedSite, count: int) -> Iterator[Found]:
    """Measure start, commands and lag with growing numbers of finished files, beside a few live streams."""
    with ExitStack() as stack:
        many = stack.enter_context(Many(site, Load(_LIVE, SIZE, RATE), "live-", gap=_GAP_SECONDS))
        archiver = many.archiver("one")
        many.await_alive()
        old = OldFiles(many.data, many.data.name)
        found: list[tuple[Run, float, float]] = []
        for part in _FILES:
            old.grow(site.servers, round(part * count) // STREAMS * STREAMS)
            many.await_near()
            archiver.end()
            begun = time.monotonic()
            archiver = many.archiver("one")
            many.await_near()
            more = {"files": float(old.count), "start until near s": time.monotonic() - begun}
            begin = time.time()
            more |= _new_stream(many)
            end = time.time()
            used = {}
            for command in ("status", "files", "verify"):
                seconds, used[command] = _command(many, command)
                more[f"{command} s"] = seconds
                more[f"{command} MB"] = used[command].anonymous_bytes / 1e6
            found.append((Run("by files", "ours", f"{old.count} files", 0, end - begin, used, more), begin, end))
        all_lags = many.finish()
    for run, begin, end in found:
        meant = between(all_lags, begin, end)
        more = {**run.more, **{f"live lag {name} s": value for name, value in quantiles(meant).items()}}
        complete = Run(run.part, run.who, run.frames, run.bytes, run.seconds, run.used, more)
        yield Found(complete, {"lag, s": [(float(x), y) for x, y in by_second(meant, begin)]})


def _new_stream(many: Many) -> dict[str, float]:
    """Measure how long a new stream takes to be recorded, and its file to be finished after its end."""
    sent = frames("200kB")
    stream = many.site.stream()
    private = many.data / ".archiver" / stream
    with ExitStack() as stack:
        sender, port = stack.enter_context(many.site.sender(sent, start_frame()))
        begun = time.monotonic()
        ingest = [*many.site.ingest_command(stream, port), *PATIENT_INGEST]
        stack.enter_context(Measured(ingest, env=environment()))
        sender.send("1")
        _await(lambda: any(path.stat().st_size for path in private.glob("*_[0-9]*")))
        recorded = time.monotonic() - begun
        time.sleep(_SETTLED_SECONDS)  # any delay that it causes shows in the other streams' lag
        begun = time.monotonic()
        sender.end(signal.SIGKILL)
        _await(lambda: not list(private.glob("*_[0-9]*")))
        finished = time.monotonic() - begun
    many.site.forget(stream)
    return {"new stream recorded after s": recorded, "finish s": finished}


def _command(many: Many, name: str) -> tuple[float, Used]:
    """Run a command of the archiver. Returns how long it took, s, and what it used."""
    command = many.archive_command(name)
    if name != "verify":  # the others query only Kafka
        at = command.index("--data-dir")
        del command[at : at + 2]
    with Path(os.devnull).open("wb") as nowhere:
        begun = time.monotonic()
        with Measured(command, stdout=nowhere, env=environment()) as process:
            # It may find faults, as this isn't a complete archive. Only the time counts.
            while process.running:
                time.sleep(_POLL_SECONDS)
            return time.monotonic() - begun, process.used()


def _await_finished(data: Path) -> None:
    _await(lambda: any(data.glob("[0-9]*/*/*.g3")) and not any(data.glob(".archiver/*/*_[0-9]*")))


def _await(met: Callable[[], bool]) -> None:
    until = time.monotonic() + _TIMEOUT_SECONDS
    while not met():
        if time.monotonic() > until:
            raise ContestError(f"no new partial or finished file in {_TIMEOUT_SECONDS:g} s")
        time.sleep(_POLL_SECONDS)


def lines(runs: Sequence[Run]) -> list[Line]:
    """Return the lines for file sizes and numbers of files; width.py has those for the other loads."""
    found: list[Line] = []
    for run in (run for run in runs if run.part == "by file length"):
        found += line(
            "open file: restart, first record", [run], figure=_figure("restart s"), unit="s", goal=most(1.5)
        )
        found += line("… finished", [run], figure=_figure("finish s"), unit="s")
    for run in (run for run in runs if run.part == "by files"):
        for name, unit in (
            ("start until near s", "s"),
            ("new stream recorded after s", "s"),
            ("live lag max s", "s"),
            ("finish s", "s"),
            ("status s", "s"),
            ("files s", "s"),
            ("verify s", "s"),
            ("status MB", "MB"),
            ("files MB", "MB"),
            ("verify MB", "MB"),
        ):
            goal = most(1) if name == "live lag max s" else None
            what = f"many files: {name.rpartition(' ')[0]}" + (", memory" if unit == "MB" else "")
            found += line(what, [run], figure=_figure(name), unit=unit, goal=goal)
    return found


def _figure(name: str) -> Figure:
    return lambda run: run.more[name]
