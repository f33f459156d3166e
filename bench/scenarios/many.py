"""Many streams at once: a sender, one `ingest --streams`, archivers of one group; how late frames are readable."""

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
from types import TracebackType
from typing import Self

from bench.measure.lags import Lag, lags
from bench.measure.process_cost import ContestError, Measured
from bench.scenarios.site import Site, environment, program, settle
from testbed.child_process import free_port

_PATIENCE_SECONDS = 180.0
_LOOK_SECONDS = 0.25
_STILL_SECONDS = 3.0
RETAINED: Mapping[str, int] = {"retention.bytes": 48 << 20, "segment.bytes": 16 << 20}
"""Of topics that nobody reads again, so that a long run fits on the disk."""


@dataclass(frozen=True, slots=True)
class Load:
    """So many streams, each of frames with so many bytes of data, so many of them a second."""

    streams: int
    size: int
    rate: float

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.streams} × {self.rate:g}/s of {shown_size(self.size)}"

    @property
    def bytes_per_second(self) -> float:
        """Of all of them."""
        return self.streams * self.size * self.rate


def shown_size(count: float) -> str:
    """20000 is 20 kB."""
    for unit, value in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= value:
            return f"{count / value:g} {unit}"
    return f"{count:g} B"


class WatchedSite(Site):
    """A site whose broker's process can be looked at over time."""

    @property
    def broker_pid(self) -> int:
        """The broker's process."""
        assert self._broker.pid
        return self._broker.pid


class Many:
    """A context manager: what sends, and what takes it, with the archivers that `archiver` starts.

    prefix: of the streams' names. topic_config: of their topics. gap: s, of the archivers. When it is entered, each
    stream has its reader, and frames come.
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
        self._gap = max(gap, 5 / load.rate)  # slow streams aren't to be cut into a file for each frame
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        told = self.site.new_path("streams.toml")
        told.write_text(tables)
        command = [sys.executable, "-m", "ingest", "--streams", str(told), "--address", "127.0.0.1"]
        command += ["--spool-dir", str(self.site.new_path("spool")), "--spool-size", "1GiB"]
        command += ["--bootstrap-servers", self.site.servers, "--timeout", str(max(5, 3 / load.rate))]
        for key, value in self._topic_config.items():
            command += ["--topic-config", f"{key}={value}"]
        self.ingest = stack.enter_context(Measured(command, env=environment()))
        if (said := self.sender.line()) != "connected":
            raise ContestError(f"the sender said {said!r}")

    def archiver(self, name: str) -> Measured:
        """Start an archiver of this group, by that instance id; it serves its metrics."""
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
        """The command line of the archiver, or of one of its commands, for all that is here."""
        archive = ["--data-dir", str(self.data), "--group", self.data.name, "--bootstrap-servers", self.site.servers]
        return [sys.executable, "-m", "archiver", *([command] if command else []), *archive]

    def await_alive(self) -> None:
        """Return when each stream has bytes in a file. Raises ContestError."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            self.watcher.tell("?")
            alive = int(self.watcher.line().split()[1])
            if alive == len(self.streams):
                return
            self._see_to_life()
            if time.monotonic() > until:
                raise ContestError(f"only {alive} of {len(self.streams)} streams are recorded")
            time.sleep(_LOOK_SECONDS)

    def await_near(self, seconds: float = 0.5) -> None:
        """Return when of each stream a record was taken that was received so long ago at most, but for the time
        between two frames; five times in a row. Raises ContestError.

        Not by the metric of the lag: an archiver whose loop is held up hears of no new records.
        """
        until = time.monotonic() + _PATIENCE_SECONDS
        near = 0
        while near < 5:
            taken = self.metric("last_record_timestamp_seconds")
            oldest = min((taken.get(stream, 0.0) for stream in self.streams), default=0.0)
            near = near + 1 if time.time() - oldest <= 1 / self.load.rate + seconds else 0
            self._see_to_life()
            if time.monotonic() > until:
                raise ContestError(f"the archivers are still more than {seconds} s late")
            time.sleep(_LOOK_SECONDS)

    def metric(self, name: str) -> dict[str, float]:
        """A metric of each stream, as the archiver that has it tells now; of those that answer."""
        return {stream: value for of in self.metric_of_each(name).values() for stream, value in of.items()}

    def metric_of_each(self, name: str) -> dict[str, dict[str, float]]:
        """The same, by archiver."""
        found: dict[str, dict[str, float]] = {}
        for who, port in self.ports.items():
            if self.archivers[who].running:
                with suppress(OSError):  # it isn't up yet, or was killed just now
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                        text = answer.read().decode()
                    told = re.findall(rf'^g3_archiver_{name}{{stream="([^"]+)"}} (\S+)$', text, re.MULTILINE)
                    found[who] = {stream: float(value) for stream, value in told}
        return found

    def finish(self) -> list[Lag]:
        """Send END; return when all files are finished, with the lag of each frame.

        Nothing is sent after this; whoever runs goes on running. Raises ContestError, MissingError.
        """
        self.sender.tell("end")
        if (said := self.sender.line()) != "ended":
            raise ContestError(f"the sender said {said!r}")
        until = time.monotonic() + _PATIENCE_SECONDS
        still, before = time.monotonic(), -1
        while time.monotonic() - still < _STILL_SECONDS:
            left = len(self.partials())
            if left or left != before:
                still, before = time.monotonic(), left
            self._see_to_life()
            if time.monotonic() > until:
                raise ContestError(f"{left} files aren't finished")
            time.sleep(_LOOK_SECONDS)
        return lags(json.loads(self.sender.last_line()), json.loads(self.watcher.last_line()))

    def partials(self) -> list[Path]:
        """The files of these streams that are open now; not what a dead archiver has left, of which others go on in
        copies."""
        found = self.data.glob(f".archiver/{self._prefix}*/*_[0-9]*")
        return [path for path in found if path.is_file() and _is_held(path)]

    def files(self) -> dict[str, Path]:
        """The finished ones, by their paths below the data directory."""
        return {str(path.relative_to(self.data)): path for path in self.data.glob("*/*/*.g3")}

    def forget(self) -> None:
        """Delete the topics."""
        for stream in self.streams:
            self.site.forget(stream)

    def _see_to_life(self) -> None:
        for name, process in self.processes().items():
            if not process.running:
                process.wait()  # says why, if it failed
                raise ContestError(f"{name} ended by itself")

    def processes(self, without: Sequence[str] = ()) -> dict[str, Measured]:
        """Those of ours by name, the sender among them."""
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
