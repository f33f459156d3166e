"""Many streams at once: a sender, one `ingest --streams`, archivers of one group; the lag of each frame."""

import fcntl
import json
import re
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.measure.lags import Lag, lags
from bench.measure.process_cost import ContestError, Measured
from bench.scenarios.site import Site, environment, program, settle
from testbed.child_process import free_port

_TIMEOUT_SECONDS = 180.0
_POLL_SECONDS = 0.25
_STILL_SECONDS = 3.0
RETAINED: Mapping[str, int] = {"retention.bytes": 48 << 20, "segment.bytes": 16 << 20}
"""Retention of topics that are read only once, so that a long run fits on the disk."""


@dataclass(frozen=True, slots=True)
class Load:
    """Streams of frames of the same size."""

    streams: int
    """Their number."""
    size: int
    """Data per frame, bytes."""
    rate: float
    """Frames per second of each stream."""

    @property
    def name(self) -> str:
        """The name that is shown."""
        return f"{self.streams} × {self.rate:g}/s of {shown_size(self.size)}"

    @property
    def bytes_per_second(self) -> float:
        """Data rate of all streams."""
        return self.streams * self.size * self.rate


def shown_size(count: float) -> str:
    """Return "20 kB" for 20000."""
    for unit, value in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= value:
            return f"{count / value:g} {unit}"
    return f"{count:g} B"


class WatchedSite(Site):
    """A site whose broker's process can be sampled over time."""

    @property
    def broker_pid(self) -> int:
        """The broker's process id."""
        assert self._broker.pid
        return self._broker.pid


class Many:
    """A context manager with a sender, an ingest, a watcher, and the archivers that `archiver` starts.

    prefix: of the streams' names. topic_config: of their topics. gap: the archivers' --gap, s. When it is entered,
    each stream has its reader, and frames are sent.
    """

    def __init__(
        self,
        site: WatchedSite,
        load: Load,
        prefix: str,
        topic_config: Mapping[str, int] = RETAINED,
        gap: float = 10.0,
    ) -> None:
        self.site = site
        self.load = load
        self.data = site.new_path("data")
        self.archivers: dict[str, Measured] = {}
        self.ports: dict[str, int] = {}
        self._prefix = prefix
        self._topic_config = topic_config
        self._gap = max(gap, 5 / load.rate)  # otherwise each frame of a slow stream would be in its own file
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        settle()
        load = self.load
        arguments = (self._prefix, str(load.streams), str(load.size), str(load.rate))
        self.sender = stack.enter_context(program("bench.load.streams_sender", *arguments, stdin=True))
        ports = json.loads(self.sender.line())
        self.streams = list(ports)
        self.watcher = stack.enter_context(
            program("bench.measure.streams_watcher", str(self.data), *self.streams, stdin=True)
        )
        self.watcher.line()
        tables = "".join(f'[[stream]]\nname = "{name}"\nport = {port}\n' for name, port in ports.items())
        streams_file = self.site.new_path("streams.toml")
        streams_file.write_text(tables)
        command = [sys.executable, "-m", "ingest", "--streams", str(streams_file), "--address", "127.0.0.1"]
        command += ["--spool-dir", str(self.site.new_path("spool")), "--spool-size", "1GiB"]
        command += ["--bootstrap-servers", self.site.servers, "--timeout", str(max(5, 3 / load.rate))]
        for key, value in self._topic_config.items():
            command += ["--topic-config", f"{key}={value}"]
        self.ingest = stack.enter_context(Measured(command, env=environment()))
        if (printed := self.sender.line()) != "connected":
            raise ContestError(f"the sender printed {printed!r}, not 'connected'")

    def archiver(self, name: str) -> Measured:
        """Start an archiver of this group with that instance id, which serves its metrics."""
        self.ports[name] = free_port()
        command = [
            *self.archive_command(),
            "--instance-id",
            name,
            "--http",
            str(self.ports[name]),
            "--gap",
            str(self._gap),
        ]
        self.archivers[name] = self._stack.enter_context(Measured(command, env=environment()))
        return self.archivers[name]

    def archive_command(self, command: str | None = None) -> list[str]:
        """Return the command line of the archiver, or of one of its commands, for this archive."""
        archive = ["--data-dir", str(self.data), "--group", self.data.name, "--bootstrap-servers", self.site.servers]
        return [sys.executable, "-m", "archiver", *([command] if command else []), *archive]

    def await_alive(self) -> None:
        """Wait until each stream has bytes in a file. Raises ContestError."""
        until = time.monotonic() + _TIMEOUT_SECONDS
        while True:
            self.watcher.send("?")
            alive = int(self.watcher.line().split()[1])
            if alive == len(self.streams):
                return
            self._check_alive()
            if time.monotonic() > until:
                raise ContestError(f"only {alive} of {len(self.streams)} streams are recorded")
            time.sleep(_POLL_SECONDS)

    def await_near(self, seconds: float = 0.5) -> None:
        """Wait until the archivers have caught up. Raises ContestError.

        That is when five times in a row the newest recorded record of each stream was received at most `seconds` ago,
        plus the time between two frames. The metric of the lag doesn't show it: an archiver whose loop is blocked
        doesn't know of new records.
        """
        until = time.monotonic() + _TIMEOUT_SECONDS
        near = 0
        while near < 5:
            newest = self.metric("last_record_timestamp_seconds")
            oldest = min((newest.get(stream, 0.0) for stream in self.streams), default=0.0)
            near = near + 1 if time.time() - oldest <= 1 / self.load.rate + seconds else 0
            self._check_alive()
            if time.monotonic() > until:
                raise ContestError(f"the archivers are still more than {seconds} s late")
            time.sleep(_POLL_SECONDS)

    def metric(self, name: str) -> dict[str, float]:
        """Return a metric of each stream from the archiver that has it, of the archivers that answer."""
        return {stream: value for of in self.metric_of_each(name).values() for stream, value in of.items()}

    def metric_of_each(self, name: str) -> dict[str, dict[str, float]]:
        """Return the same, by archiver."""
        found: dict[str, dict[str, float]] = {}
        for who, port in self.ports.items():
            if self.archivers[who].running:
                with suppress(OSError):  # it isn't up yet, or has just been killed
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                        text = answer.read().decode()
                    samples = re.findall(rf'^g3_archiver_{name}{{stream="([^"]+)"}} (\S+)$', text, re.MULTILINE)
                    found[who] = {stream: float(value) for stream, value in samples}
        return found

    def finish(self) -> list[Lag]:
        """Send END and wait until all files are finished. Returns the lag of each frame.

        Nothing is sent after this; ingest and archivers keep running. Raises ContestError, MissingError.
        """
        self.sender.send("end")
        if (printed := self.sender.line()) != "ended":
            raise ContestError(f"the sender printed {printed!r}, not 'ended'")
        until = time.monotonic() + _TIMEOUT_SECONDS
        still, before = time.monotonic(), -1
        while time.monotonic() - still < _STILL_SECONDS:
            left = len(self.partials())
            if left or left != before:
                still, before = time.monotonic(), left
            self._check_alive()
            if time.monotonic() > until:
                raise ContestError(f"{left} files aren't finished")
            time.sleep(_POLL_SECONDS)
        return lags(json.loads(self.sender.last_line()), json.loads(self.watcher.last_line()))

    def partials(self) -> list[Path]:
        """Return the open files of these streams, without those that a dead archiver has left.

        (Other archivers continue such files in copies.)
        """
        found = self.data.glob(f".archiver/{self._prefix}*/*_[0-9]*")
        return [path for path in found if path.is_file() and _is_held(path)]

    def files(self) -> dict[str, Path]:
        """Return the finished files by their paths relative to the data directory."""
        return {str(path.relative_to(self.data)): path for path in self.data.glob("[0-9]*/*/*.g3")}

    def forget(self) -> None:
        """Delete the topics."""
        for stream in self.streams:
            self.site.forget(stream)

    def _check_alive(self) -> None:
        for name, process in self.processes().items():
            if not process.running:
                process.wait()  # raises an error with the reason if it failed
                raise ContestError(f"{name} ended by itself")

    def processes(self, without: Sequence[str] = ()) -> dict[str, Measured]:
        """Return sender, ingest and archivers by name."""
        return {
            "sender": self.sender,
            "ingest": self.ingest,
            **{name: process for name, process in self.archivers.items() if name not in without},
        }


def _is_held(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
