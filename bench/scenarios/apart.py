"""Isolation: the lag of live streams while another stream has a large file, a backlog, or a frozen archiver."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from bench.load.frames import Frames, frames, start_frame
from bench.measure.lags import between, by_second, quantiles
from bench.measure.process_cost import ContestError, Measured
from bench.report.results import Figure, Line, Run, line, most
from bench.scenarios.many import Load, Many, WatchedSite
from bench.scenarios.site import environment
from bench.scenarios.width import RATE, SIZE, Found
from g3stream.contract.topics import frames_topic

LIVE = 10
_FRAMES = "2MB"
_TIMEOUT_SECONDS = 600.0
_PIECE_BYTES = 100_000_000
_POLL_SECONDS = 0.05
_SESSION_SECONDS = 10.0
"""Kafka reassigns a dead archiver's streams after this time; see archiver/kafka/group_consumer.py."""
_GAP_SECONDS = 10_000.0
"""The large file stays open until its sender disconnects."""
PATIENT_INGEST = ("--timeout", "10000")
_BACKLOGS = (0.1, 0.3, 1.0)
"""Fractions of the requested maximum."""


@dataclass(frozen=True, slots=True)
class _Phase:
    """What was done to the large file, and when."""

    what: str
    begin: float
    end: float
    bytes: int
    streams: frozenset[str] | None = None
    """The streams whose lag counts; None for all live ones."""


class _Large:
    """A stream with a large file, beside the live ones. Its topic retains all records until `forget_records`."""

    def __init__(self, many: Many, stack: ExitStack) -> None:
        self.many = many
        self.stream = many.site.stream()
        self.size = 0
        self._stack = stack
        self._sent: Frames = frames(_FRAMES)
        self._spool = many.site.new_path("spool")
        self._inside = ExitStack()
        self._finished = 0

    def connect(self) -> None:
        """Start and connect a sender, and send a first frame."""
        self.size = 0
        self._inside = self._stack.enter_context(ExitStack())
        self._sender, port = self._inside.enter_context(self.many.site.sender(self._sent, start_frame()))
        command = [*self.many.site.ingest_command(self.stream, port, spool=self._spool), *PATIENT_INGEST]
        self._ingest = self._inside.enter_context(Measured(command, env=environment()))
        self.send(1)

    def disconnect(self) -> None:
        """Kill the sender, which ends the acquisition and so the file."""
        self._sender.end(signal.SIGKILL)
        self._finished += 1

    def send(self, count: int) -> None:
        """Send at least `count` more bytes."""
        self.size += send(self._sender, self._sent, count)

    def await_written(self) -> None:
        """Wait until the open file has all that was sent."""
        self._await(lambda: self.open_bytes() >= self.size, "isn't written")

    def await_finished(self) -> Path:
        """Wait until the file is finished, with all that was sent, and stop its ingest. Returns the file."""
        self._await(lambda: len(self.finished()) >= self._finished and not self._partials(), "isn't finished")
        path = self.finished()[-1]
        if path.stat().st_size != self.size:
            raise ContestError(f"{path} has {path.stat().st_size} bytes, not {self.size}")
        self._ingest.end()
        self._inside.close()
        return path

    def finished(self) -> list[Path]:
        """Return its finished files, including those emptied since."""
        return sorted(path for path in self.many.data.glob("*/bench/*.g3") if path.is_file())

    def open_bytes(self) -> int:
        """Return the size of the open file."""
        return max((path.stat().st_size for path in self._partials()), default=0)

    def partial(self) -> Path:
        """Return the open file. Raises ContestError."""
        found = self._partials()
        if len(found) != 1:
            raise ContestError(f"{self.stream} has {len(found)} open files")
        return found[0]

    def forget_records(self) -> None:
        """Delete the topic's records; the disk has only space for one such file and its records."""
        admin = AdminClient({"bootstrap.servers": self.many.site.servers})
        end = TopicPartition(frames_topic(self.stream), 0, self.many.site.records(self.stream))
        for done in admin.delete_records([end]).values():
            done.result()

    def _partials(self) -> list[Path]:
        return [path for path in self.many.data.glob(f".archiver/{self.stream}/*_[0-9]*") if path.is_file()]

    def _await(self, met: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + _TIMEOUT_SECONDS
        while not met():
            if time.monotonic() > until:
                raise ContestError(f"{self.stream}'s file {what}: {self.open_bytes()} of {self.size} bytes")
            time.sleep(_POLL_SECONDS)


def send(sender: Measured, sent: Frames, total: int) -> int:
    """Make a sender send `total` bytes, in pieces, as it keeps a piece in memory. Returns how many it will be."""
    times = sent.times(total)
    piece = sent.times(_PIECE_BYTES)
    for at in range(0, times, piece):
        sender.send(str(min(piece, times - at)))
    return times * len(sent.unit)


def isolation(site: WatchedSite, gigabytes: float) -> Iterator[Found]:
    """Measure the lag during everything that may happen to a large file of one archiver."""
    return _beside(site, gigabytes, "isolation", _one_archiver)


def takeover(site: WatchedSite, gigabytes: float) -> Iterator[Found]:
    """Measure the lag while a large file goes from one archiver to another."""
    return _beside(site, gigabytes, "takeover", _several_archivers)


def _beside(
    site: WatchedSite, gigabytes: float, part: str, happening: Callable[[Many, _Large, int], Iterator[_Phase]]
) -> Iterator[Found]:
    """Run live streams and what happens beside them. Yields their lag in each phase."""
    phases: list[_Phase] = []
    failed: ContestError | None = None
    with ExitStack() as stack:
        many = stack.enter_context(Many(site, Load(LIVE, SIZE, RATE), "live-", gap=_GAP_SECONDS))
        many.archiver("one")
        many.await_alive()
        live = frozenset(many.streams)
        try:
            for phase in happening(many, _Large(many, stack), round(gigabytes * 1e9)):
                phases.append(phase)
                print(f"{phase.end - phase.begin:6.0f} s  {phase.what}", file=sys.stderr, flush=True)
        except ContestError as error:
            failed = error  # the phases before it have been measured
        found = many.finish()
    for phase in phases:
        meant = [lag for lag in between(found, phase.begin, phase.end) if lag.stream in (phase.streams or live)]
        more = {f"lag {name} s": value for name, value in quantiles(meant).items()}
        more |= {"MB/s": phase.bytes / 1e6 / (phase.end - phase.begin), "GB": phase.bytes / 1e9}
        run = Run(part, phase.what, f"{gigabytes:g} GB", phase.bytes, phase.end - phase.begin, {}, more)
        yield Found(run, {"lag, s": [(float(x), y) for x, y in by_second(meant, phase.begin)]})
    if failed:
        raise failed


def _one_archiver(many: Many, large: _Large, total: int) -> Iterator[_Phase]:
    yield _grown(large, total)
    _restart(many, signal.SIGTERM)
    begin = time.time()
    large.disconnect()
    path = large.await_finished()
    yield _Phase("its SHA-256 computed again, and finished", begin, time.time(), large.size)
    begin = time.time()
    verified = subprocess.run(many.archive_command("verify"), env=environment(), capture_output=True, check=False)
    yield _Phase("verified", begin, time.time(), large.size)
    if verified.returncode:
        raise ContestError(f"verify: {verified.stdout.decode()[-2000:]}")
    _empty(path, large)

    _grown(large, total)
    many.archivers["one"].end(signal.SIGKILL)
    _damage(large.partial())
    _restart(many, None)
    begin = time.time()
    large.disconnect()
    path = large.await_finished()
    yield _Phase("damaged: rebuilt from the topic, and finished", begin, time.time(), large.size)
    _empty(path, large)


def _grown(large: _Large, total: int) -> _Phase:
    large.connect()
    begin = time.time()
    large.send(total)
    large.await_written()
    phase = _Phase("grows as fast as it can", begin, time.time(), large.size)
    large.many.await_near()
    return phase


def _empty(path: Path, large: _Large) -> None:
    """Empty a file that has been examined, to free disk space."""
    path.write_bytes(b"")
    large.forget_records()


def _damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 0xFF]))


def _restart(many: Many, stop: signal.Signals | None) -> None:
    """Restart the archiver and wait until it has caught up."""
    if stop:
        many.archivers["one"].end(stop)
    many.archiver("one")
    many.await_near()


def _several_archivers(many: Many, large: _Large, total: int) -> Iterator[_Phase]:
    """First the archiver that has the file open is frozen. Then the file is truncated, its records are gone, and its
    archiver is killed. Measured is the lag of the live streams of the archiver that takes over."""
    _grown(large, total)
    large.forget_records()
    many.archiver("two")
    owners = _owners(many, large.stream, 2)
    first, second = owners
    theirs = frozenset(stream for stream in owners[second] if stream != large.stream)
    begin = time.time()
    frozen = many.archivers[first]
    _signal(frozen, signal.SIGSTOP)
    del many.ports[first]  # it doesn't answer
    size = large.open_bytes()
    _await_taken(many, second, large.stream)
    many.await_near()
    yield _Phase("taken over from a frozen archiver, in a copy", begin, time.time(), size, theirs)
    frozen.end(signal.SIGKILL)
    del many.archivers[first]
    for path in many.data.glob(f".archiver/{large.stream}/*_[0-9]*"):
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 1_000_000)
    many.archiver("three")
    owners = _owners(many, large.stream, 2)
    begin = time.time()
    holder, other = owners
    theirs = frozenset(stream for stream in owners[other] if stream != large.stream)
    many.archivers[holder].end(signal.SIGKILL)
    del many.ports[holder], many.archivers[holder]
    _await_taken(many, other, large.stream)
    many.await_near()
    yield _Phase("truncated, and its records gone: salvaged", begin, time.time(), size, theirs)


def _owners(many: Many, stream: str, archivers: int) -> dict[str, frozenset[str]]:
    """Return the streams of each archiver, once each has some; first of the one that has that stream."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        owned = {who: frozenset(found) for who, found in many.metric_of_each("lag_records").items()}
        if len(owned) == archivers and all(owned.values()) and any(stream in found for found in owned.values()):
            many.await_near()
            return dict(sorted(owned.items(), key=lambda one: stream not in one[1]))
        time.sleep(_POLL_SECONDS)
    raise ContestError(f"{archivers} archivers don't share the streams")


def _await_taken(many: Many, who: str, stream: str) -> None:
    """Wait until that archiver has the stream and its recovery is complete."""
    until = time.monotonic() + _TIMEOUT_SECONDS
    while many.metric_of_each("taking_up_seconds").get(who, {}).get(stream) != 0:
        if time.monotonic() > until:
            raise ContestError(f"archiver {who} doesn't take over {stream}")
        time.sleep(_POLL_SECONDS)


def _signal(process: Measured, number: signal.Signals) -> None:
    os.kill(process.pid, number)


def backlog(site: WatchedSite, gigabytes: float) -> Iterator[Found]:
    """Measure the restart of an archiver with a large backlog on one stream and a small one on the others."""
    for number, part in enumerate(_BACKLOGS):
        with ExitStack() as stack:
            many = stack.enter_context(Many(site, Load(LIVE, SIZE, RATE), f"b{number}-", gap=_GAP_SECONDS))
            archiver = many.archiver("one")
            many.await_alive()
            large = _Large(many, stack)
            large.connect()
            large.await_written()
            archiver.end()
            before = site.records(large.stream)
            large.send(round(part * gigabytes * 1e9))
            records = -(-large.size // len(frames(_FRAMES).unit) - 1) * frames(_FRAMES).records(1)
            site.await_records(large.stream, before + records)
            begin = time.time()
            archiver = many.archiver("one")
            archiver.begin()
            behind = large.size - large.open_bytes()
            large.await_written()
            end = time.time()
            used = {"archiver": archiver.used()}
            found = many.finish()
            large.forget_records()
            many.forget()
            site.forget(large.stream)
        back = [lag for lag in found if lag.at >= begin or lag.at + lag.seconds >= begin]
        near = max((lag.at + lag.seconds for lag in back if lag.seconds > 2 and lag.at < end), default=begin)
        live = [lag for lag in between(found, begin, end) if lag.at > near]
        more = {
            "MB/s": behind / 1e6 / (end - begin),
            "GB": behind / 1e9,
            "live below 2 s after s": near - begin,
            "lag max from then on s": max((lag.seconds for lag in live), default=0.0),
            "lag max since the start s": max((lag.seconds for lag in between(found, begin, end)), default=0.0),
        }
        run = Run("backlog", "ours", f"{behind / 1e9:.1f} GB", behind, end - begin, used, more)
        yield Found(run, {"lag, s": [(float(x), y) for x, y in by_second(between(found, begin, end), begin)]})


def lines(runs: Sequence[Run]) -> list[Line]:
    """Return the lines for the live streams' lag."""
    found: list[Line] = []
    for run in (run for run in runs if run.part in ("isolation", "takeover")):
        goal = most(1)
        found += line(f"live streams' lag, max: {run.who}", [run], figure=_figure("lag max s"), unit="s", goal=goal)
    for run in (run for run in runs if run.part == "backlog"):
        found += line(
            "a backlog on one: live below 2 s after", [run], figure=_figure("live below 2 s after s"), unit="s"
        )
        name = "lag max from then on s"
        found += line("… their lag from then on, max", [run], figure=_figure(name), unit="s", goal=most(2))
        found += line("… caught up at", [run], figure=_figure("MB/s"), unit="MB/s")
    return found


def _figure(name: str) -> Figure:
    return lambda run: run.more[name]
