"""A night in half a minute: two simulated detectors, an `ingest` for each, one `archiver`, and Kafka between them.

All of them are real processes, and end with this one.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from rich.console import Console
from rich.live import Live
from rich.tree import Tree

from testbed.child_process import start_child_process
from testbed.demo.comparison import Sent, UnreadableError, compare, mismatched_checksums, read_frames
from testbed.demo.live_view import LiveView
from testbed.kafka.broker import Broker
from testbed.kafka.distribution import BrokerError
from testbed.smurf.simulator import Simulator, SimulatorError

_FRAMES = "--rate 10 --bytes 100000"
_SCRIPTS: Mapping[str, Sequence[str]] = {
    # Two acquisitions each: the first longer than a file may be; gaps in which only ALIVE comes; a connection
    # that the sender drops in the middle of an acquisition, and one that goes silent until ingest drops it.
    "crate1slot2": (
        *("wait", "start", f"frames 120 {_FRAMES}", "end", "alive 3"),
        *("start", f"frames 40 {_FRAMES}", "alive 6", f"frames 20 {_FRAMES}", "drop"),
        *("wait", f"frames 20 {_FRAMES}", "end"),
    ),
    "crate1slot3": (
        *("wait", "start", f"frames 70 {_FRAMES}", "alive 6", f"frames 30 {_FRAMES}", "end", "alive 2"),
        *("start", f"frames 60 {_FRAMES}", "silence 5"),
        *("wait", f"frames 20 {_FRAMES}", "end"),
    ),
}
_TIME_PER_FILE, _GAP, _TIMEOUT = "5", "3", "4"
_POLL_SECONDS = 0.1
_STOP_SECONDS = 15.0
_CATCH_UP_SECONDS = 20.0
_TAIL_LINES = 15


class DemoError(Exception):
    """Something doesn't run as it should; the message says what."""


class Program:
    """One of our commands, as a process of its own that writes its log to a file; killed if left running."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as file:
            self._process = start_child_process(
                [sys.executable, "-m", *arguments], stdout=file, stderr=subprocess.STDOUT, env=_environment()
            )

    def check(self) -> None:
        """Raise DemoError if it has ended."""
        if (code := self._process.poll()) is not None:
            raise DemoError(f"{self.name} ended by itself, exit code {code}")

    def stop(self) -> None:
        """Stop it as an operator would, with SIGTERM. Raises DemoError if it doesn't end, or not with 0."""
        self.check()
        self._process.terminate()
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise DemoError(f"{self.name} doesn't end in {_STOP_SECONDS:g} s after SIGTERM") from None
        if code:
            raise DemoError(f"{self.name} ended with exit code {code}")

    def kill(self) -> None:
        """kill -9, if it still runs."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class DemoSession:
    """One run. directory: its own, empty; the files are recorded below `recorded/`, the logs lie in `logs/`."""

    def __init__(self, directory: Path, say: Console) -> None:
        self._directory = directory
        self._recorded, self._replayed = directory / "recorded", directory / "replayed"
        self._logs = directory / "logs"
        self._logs.mkdir()
        self._print_line = say
        self._started_at = time.monotonic()

    def run(self) -> bool:
        """Record the night and prove it; gives whether what was sent is what was recorded. Raises DemoError."""
        try:
            with ExitStack() as stack:
                broker = Broker(self._directory / "kafka")
                stack.callback(broker.kill)
                self._line("starting Kafka")
                broker.start()
                self._line(f"Kafka listens on {broker.bootstrap_servers}")
                self._line(f"recording to {self._recorded}/, logs in {self._logs}/")
                watch = LiveView(broker.bootstrap_servers, tuple(_SCRIPTS), self._recorded)
                stack.callback(watch.close)
                sent = self._record(broker.bootstrap_servers, watch)
                self._line("everything is stopped; rebuilding the files from the topics, as after a lost disk")
                self._replay(broker.bootstrap_servers)
                broker.stop()
            agree = self._compare_with_sent(sent, watch)
        except (BrokerError, SimulatorError, UnreadableError, KafkaException) as error:
            raise DemoError(str(error)) from error
        if agree:
            for scratch in ("kafka", "spool"):
                shutil.rmtree(self._directory / scratch)
        return agree

    def logs(self) -> Iterator[tuple[Path, str]]:
        """Every log there is, and its last lines."""
        for log in sorted(self._logs.glob("*.log")):
            yield log, "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])

    def _record(self, servers: str, watch: LiveView) -> Mapping[str, Sent]:
        with ExitStack() as stack:
            live = None
            if self._print_line.is_terminal:
                live = stack.enter_context(Live(watch.table(), console=self._print_line))
            pool = stack.enter_context(ThreadPoolExecutor(len(_SCRIPTS)))
            simulators = {stream: stack.enter_context(Simulator(stream_id=stream, alive=True)) for stream in _SCRIPTS}
            ingests = [
                stack.enter_context(self._ingest(stream, simulator.port, servers))
                for stream, simulator in simulators.items()
            ]
            archiver = stack.enter_context(self._archiver(servers))
            killed = False

            def look() -> None:
                for line in watch.poll(_POLL_SECONDS):
                    self._line(line)
                if live:
                    live.update(watch.table())

            plays = {
                stream: pool.submit(_run_script, simulators[stream], script) for stream, script in _SCRIPTS.items()
            }
            while not all(play.done() for play in plays.values()):
                look()
                if not killed and all(watch.files(stream) for stream in _SCRIPTS):
                    self._line("kill -9 to the archiver, in the midst of a file of each stream; starting it again")
                    killed = True
                    archiver.kill()
                    archiver = stack.enter_context(self._archiver(servers))
                for program in (*ingests, archiver):
                    program.check()
                _raise_failures(plays.values())
            for simulator in simulators.values():
                simulator.close()
            for ingest in ingests:
                ingest.stop()
            deadline = time.monotonic() + _CATCH_UP_SECONDS
            while not watch.is_at_end() and time.monotonic() < deadline:
                look()
                archiver.check()
            archiver.stop()
            return {stream: play.result() for stream, play in plays.items()}

    def _ingest(self, stream: str, port: int, servers: str) -> Program:
        name = f"ingest-{stream}"
        spool = str(self._directory / "spool")
        return Program(
            name,
            [
                *("ingest", "--stream", stream, "--port", str(port), "--timeout", _TIMEOUT),
                *("--spool-dir", spool, "--spool-size", "1GiB", "--bootstrap-servers", servers),
            ],
            self._logs / f"{name}.log",
        )

    def _archiver(self, servers: str) -> Program:
        return Program(
            "archiver",
            [
                *("archiver", "--data-dir", str(self._recorded), "--time-per-file", _TIME_PER_FILE),
                *("--gap", _GAP, "--bootstrap-servers", servers),
            ],
            self._logs / "archiver.log",
        )

    def _compare_with_sent(self, sent: Mapping[str, Sent], watch: LiveView) -> bool:
        """Show the files, and compare what spt3g reads in them with what was sent."""
        files = sorted(self._recorded.glob("*/*/*.g3"))
        self._show_tree(files, watch)
        agree = bool(files)
        frames = recorded = 0
        for stream, theirs in sent.items():
            verdict = compare(theirs, read_frames(path for path in files if path.parent.name == stream))
            frames += verdict.sent
            recorded += verdict.recorded
            self._print(
                f"{stream}: {verdict.sent} frames sent, {verdict.recorded} recorded "
                f"(and {verdict.repeated} Observation and Wiring frames again: at files' heads, after a reconnect)"
            )
            for complaint in verdict.differences():
                self._print(f"{stream}: {complaint}")
            agree = agree and verdict.agrees
        damaged = [
            f"{path.name}/{name}" for path in {file.parent for file in files} for name in mismatched_checksums(path)
        ]
        self._print(
            f"these don't match SHA256SUMS: {', '.join(damaged)}" if damaged else "every file matches SHA256SUMS"
        )
        agree = agree and not damaged
        agree = self._compare_with_replay() and agree
        self._print(f"{frames} frames sent, {recorded} recorded: {'they agree' if agree else 'THEY DO NOT AGREE'}")
        if agree:
            self._print(_describe_event(files[0]))
        return agree

    def _replay(self, servers: str) -> None:
        """Rebuild the files from the topics, into a directory of their own. Raises DemoError."""
        command = ["archiver", "replay", "--data-dir", str(self._replayed), "--bootstrap-servers", servers]
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, env=_environment())
        for line in done.stdout.splitlines():
            self._line(f"replay: {line}")
        if done.returncode:
            raise DemoError(f"replay ended with exit code {done.returncode}: {done.stderr.strip()}")

    def _compare_with_replay(self) -> bool:
        command = ["diff", "-r", "-x", ".archiver", str(self._recorded), str(self._replayed)]
        differences = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}
        ).stdout
        self._print(f"{' '.join(command)}\n{differences}".rstrip())
        self._print("replay: THE FILES DIFFER" if differences else "no difference: the replay gave the same files")
        return not differences

    def _show_tree(self, files: Sequence[Path], watch: LiveView) -> None:
        finished = {file.path: file for stream in _SCRIPTS for file in watch.files(stream)}
        tree = Tree(f"{self._recorded}/")
        branches = {self._recorded: tree}
        for path in files:
            for directory in (path.parent.parent, path.parent):
                if directory not in branches:
                    branches[directory] = branches[directory.parent].add(f"{directory.name}/")
            told = finished.get(str(path.relative_to(self._recorded)))
            what = f"{told.frames:4} frames, closed by {told.why}" if told else "NOT TOLD on g3.files"
            branches[path.parent].add(f"{path.name} {path.stat().st_size / 1e6:5.1f} MB {what}")
        self._print_line.print(tree)

    def _line(self, text: str) -> None:
        self._print(f"{time.monotonic() - self._started_at:5.1f} s  {text}")

    def _print(self, text: str) -> None:
        # Names and what the network says aren't markup.
        self._print_line.print(text, markup=False, soft_wrap=True)


def _environment() -> dict[str, str]:
    """A flag that isn't given mustn't come from the user's environment."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("INGEST_", "ARCHIVER_"))}


def _run_script(simulator: Simulator, script: Sequence[str]) -> Sent:
    return Sent.from_answers([simulator.command(line) for line in script])


def _raise_failures(plays: Iterable[Future[Sent]]) -> None:
    for play in plays:
        if play.done():
            play.result()


def _describe_event(file: Path) -> str:
    python = Path(sys.executable)
    python = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    read = f"from spt3g import core; [print(f.type, f.get('frame_num')) for f in core.G3File('{file}')]"
    return f"""
Look at a file with spt3g:
  {python.parent}/spt3g-dump {file}
  {python} -c "{read}"

Run the pieces by hand, each in a terminal of its own:
  {python} -m testbed.kafka --data-dir .kafka
  {python} -m testbed.smurf --port 50000 --stream-id crate1slot2 --loop
  {python.parent}/ingest --stream crate1slot2 --port 50000
  {python.parent}/archiver --data-dir data --time-per-file 60
"""
