"""Start time of the programs: to print --help, and until they are ready.

ingest is ready when it has connected to a waiting sender; the archiver when it has opened the file for records that
wait in Kafka, of a stream that it records for the first time. They are compared with a Python that only imports the
packages that both use. The time until ingest's first record is acknowledged is shown too. All have compiled bytecode,
as an installed package has, even if the user has disabled writing it (PYTHONDONTWRITEBYTECODE).
"""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bench.load.frames import frames
from bench.measure.process_cost import ContestError
from bench.report.results import Line, Run, line, most, of
from bench.scenarios.site import Site, environment

PART = "start"
_GOAL = most(1.3)
_IMPORTS = "import spt3g.core, confluent_kafka"


class Starting:
    """The contestants, each a start, and a stream that has a few records."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._stream = site.stream()
        site.fill(self._stream, frames("2MB"), total=4_000_000)
        self._environment = environment() | {"PYTHONPYCACHEPREFIX": str(site.new_path("bytecode"))}
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for start in self.contestants():
            start()

    def contestants(self) -> list[Callable[[], list[Run]]]:
        """Return the contestants; each returns its runs."""
        return [self.imports, self.ingest_help, self.archiver_help, self.ingest, self.archiver]

    def imports(self) -> list[Run]:
        """Start the Python with which the others are compared."""
        return [_run("imports", self._to_its_end("-c", _IMPORTS))]

    def ingest_help(self) -> list[Run]:
        """Run ingest --help to its end."""
        return [_run("ingest --help", self._to_its_end("-m", "ingest", "--help"))]

    def archiver_help(self) -> list[Run]:
        """Run archiver --help to its end."""
        return [_run("archiver --help", self._to_its_end("-m", "archiver", "--help"))]

    def ingest(self) -> list[Run]:
        """Start ingest: until it has connected, and until its first record is in Kafka."""
        stream = self._site.stream()
        with socket.create_server(("127.0.0.1", 0)) as server:
            begun = time.perf_counter()
            with self._started(self._site.ingest_command(stream, server.getsockname()[1])):
                client, _ = server.accept()
                connected = time.perf_counter() - begun
                with client:
                    self._site.await_records(stream, 1)
                    acknowledged = time.perf_counter() - begun
        self._site.forget(stream)
        return [_run("ingest, ready", connected), _run("ingest, acknowledged", acknowledged)]

    def archiver(self) -> list[Run]:
        """Start the archiver: until it has opened a file."""
        data = self._site.new_path("data")
        begun = time.perf_counter()
        with self._started(self._site.archiver_command(self._stream, data)) as process:
            assert process.stderr
            if not any(b" opened " in line for line in process.stderr):
                raise ContestError("the archiver opened no file")
            return [_run("archiver, ready", time.perf_counter() - begun)]

    def _to_its_end(self, *arguments: str) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, env=self._environment, check=True)
        return time.perf_counter() - begun

    @contextmanager
    def _started(self, command: Sequence[str]) -> "Iterator[subprocess.Popen[bytes]]":
        """Start a process without the other contestants' sampling and wrapper, which would lengthen its start."""
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=self._environment) as process:
            try:
                yield process
            finally:
                process.kill()


def lines(runs: Sequence[Run]) -> list[Line]:
    """Return a line for each program and state to reach."""
    imports = of(runs, PART, "imports", "")
    found = []
    for who, goal in (
        ("ingest --help", _GOAL),
        ("archiver --help", _GOAL),
        ("ingest, ready", _GOAL),
        ("ingest, acknowledged", None),
        ("archiver, ready", _GOAL),
    ):
        mine = of(runs, PART, who, "")
        found += line(
            f"start: {who}",
            mine,
            imports,
            figure=lambda run: run.seconds,
            unit="s",
            against="python -c import",
            goal=goal,
        )
    return found


def _run(who: str, seconds: float) -> Run:
    return Run(PART, who, "", 0, seconds)
