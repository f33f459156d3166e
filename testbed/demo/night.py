"""A night in half a minute: two simulated detectors, an `ingest` for each, one `archiver`, and Kafka between them.

All of them are real processes, which are killed when this one ends.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaException
from rich.console import Console
from rich.live import Live
from rich.tree import Tree

from testbed.child_process import start_child_process
from testbed.demo.comparison import Sent, UnreadableError, compare, mismatched_checksums, read_frames
from testbed.demo.live_view import LiveView
from testbed.kafka.broker import Broker
from testbed.server import ServerError
from testbed.smurf.simulator import Simulator, SimulatorError

_FRAMES = "--rate 10 --bytes 100000"
_SCRIPTS: Mapping[str, Sequence[str]] = {
    # Two acquisitions each. The first is longer than a file may be. In gaps only ALIVE is sent. One connection is
    # closed by the sender in the middle of an acquisition; on another nothing is sent until ingest closes it.
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
    """Something doesn't run as it should. The message has the reason."""


class Program:
    """A process of ingest or archiver that logs to a file; killed at the end of the `with` block."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as file:
            self._process = start_child_process(
                [sys.executable, "-m", *arguments], stdout=file, stderr=subprocess.STDOUT, env=_environment()
            )

    def check(self) -> None:
        """Check that it runs. Raises DemoError if it has ended."""
        if (code := self._process.poll()) is not None:
            raise DemoError(f"{self.name} ended by itself, exit code {code}")

    def stop(self) -> None:
        """Stop it as an operator would, with SIGTERM. Raises DemoError if it doesn't end with exit code 0."""
        self.check()
        self._process.terminate()
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise DemoError(f"{self.name} doesn't end in {_STOP_SECONDS:g} s after SIGTERM") from None
        if code:
            raise DemoError(f"{self.name} ended with exit code {code}")

    def kill(self) -> None:
        """Kill it (SIGKILL) if it still runs."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class DemoSession:
    """One run of the demo. directory: an empty one; files are recorded below `recorded/`, logs are in `logs/`."""

    def __init__(self, directory: Path, console: Console) -> None:
        self._directory = directory
        self._recorded, self._replayed = directory / "recorded", directory / "replayed"
        self._logs = directory / "logs"
        self._logs.mkdir()
        self._console = console
        self._started_at = time.monotonic()

    def run(self) -> bool:
        """Record the night and compare. Returns whether exactly what was sent is recorded. Raises DemoError."""
        try:
            with ExitStack() as stack:
                broker = Broker(self._directory / "kafka")
                stack.callback(broker.kill)
                self._line("starting Kafka")
                broker.start()
                self._line(f"Kafka listens on {broker.bootstrap_servers}")
                self._line(f"recording to {self._recorded}/, logs in {self._logs}/")
                view = LiveView(broker.bootstrap_servers, tuple(_SCRIPTS), self._recorded)
                stack.callback(view.close)
                sent = self._record(broker.bootstrap_servers, view)
                self._line("all stopped; rebuilding the files from the topics, as after a disk loss")
                self._replay(broker.bootstrap_servers)
                broker.stop()
            agree = self._compare_with_sent(sent, view)
        except (ServerError, SimulatorError, UnreadableError, KafkaException) as error:
            raise DemoError(str(error)) from error
        if agree:
            for scratch in ("kafka", "spool"):
                shutil.rmtree(self._directory / scratch)
        return agree

    def logs(self) -> Iterator[tuple[Path, str]]:
        """Yield the path of every log and its last lines."""
        for log in sorted(self._logs.glob("*.log")):
            yield log, "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])

    def _record(self, servers: str, view: LiveView) -> Mapping[str, Sent]:
        with ExitStack() as stack:
            live = None
            if self._console.is_terminal:
                live = stack.enter_context(Live(view.table(), console=self._console))
            pool = stack.enter_context(ThreadPoolExecutor(len(_SCRIPTS)))
            simulators = {stream: stack.enter_context(Simulator(stream_id=stream, alive=True)) for stream in _SCRIPTS}
            ingests = [
                stack.enter_context(self._ingest(stream, simulator.port, servers))
                for stream, simulator in simulators.items()
            ]
            archiver = stack.enter_context(self._archiver(servers))
            killed = False

            def update_view() -> None:
                for line in view.poll(_POLL_SECONDS):
                    self._line(line)
                if live:
                    live.update(view.table())

            plays = {
                stream: pool.submit(_run_script, simulators[stream], script) for stream, script in _SCRIPTS.items()
            }
            while not all(play.done() for play in plays.values()):
                update_view()
                if not killed and all(view.files(stream) for stream in _SCRIPTS):
                    self._line("kill -9 of the archiver, with a file of each stream open; restarting it")
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
            while not view.is_at_end() and time.monotonic() < deadline:
                update_view()
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

    def _compare_with_sent(self, sent: Mapping[str, Sent], view: LiveView) -> bool:
        """Show the files and compare the frames that spt3g reads in them with those sent."""
        files = sorted(self._recorded.glob("[0-9]*/*/*.g3"))
        self._show_tree(files, view)
        agree = bool(files)
        frames = recorded = 0
        for stream, sent_frames in sent.items():
            result = compare(sent_frames, read_frames(path for path in files if path.parent.name == stream))
            frames += result.sent
            recorded += result.recorded
            self._print(
                f"{stream}: {result.sent} frames sent, {result.recorded} recorded, {result.repeated} repeated (*)"
            )
            for difference in result.differences():
                self._print(f"{stream}: {difference}")
            agree = agree and result.agrees
        self._print("(*) Observation and Wiring, at the head of a next file or after a reconnect")
        damaged = [
            f"{path.name}/{name}" for path in {file.parent for file in files} for name in mismatched_checksums(path)
        ]
        self._print(
            f"files that don't match SHA256SUMS: {', '.join(damaged)}" if damaged else "every file matches SHA256SUMS"
        )
        agree = agree and not damaged
        agree = self._compare_with_replay() and agree
        self._print(f"{frames} frames sent, {recorded} recorded: {'they agree' if agree else 'THEY DO NOT AGREE'}")
        if agree:
            self._print(_describe_event(files[0]))
        return agree

    def _replay(self, servers: str) -> None:
        """Rebuild the files from the topics into another directory. Raises DemoError."""
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
        self._print("replay: THE FILES DIFFER" if differences else "no difference: the replay wrote the same files")
        return not differences

    def _show_tree(self, files: Sequence[Path], view: LiveView) -> None:
        finished = {file.path: file for stream in _SCRIPTS for file in view.files(stream)}
        tree = Tree(f"{self._recorded}/  (size, frames, and what ended each file)")
        branches = {self._recorded: tree}
        for path in files:
            for directory in (path.parent.parent, path.parent):
                if directory not in branches:
                    branches[directory] = branches[directory.parent].add(f"{directory.name}/")
            file = finished.get(str(path.relative_to(self._recorded)))
            what = f"{file.frames:4} frames, {file.closed_by}" if file else "NO EVENT on g3.files"
            branches[path.parent].add(f"{path.name} {path.stat().st_size / 1e6:5.1f} MB {what}")
        self._console.print(tree)

    def _line(self, text: str) -> None:
        self._print(f"{time.monotonic() - self._started_at:5.1f} s  {text}")

    def _print(self, text: str) -> None:
        # Names and text from the network aren't markup.
        self._console.print(text, markup=False, soft_wrap=True)


def _environment() -> dict[str, str]:
    """This process's environment, without the variables that set flags of ingest and archiver."""
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
    return f"""
Look at a file with spt3g:
  file={shlex.quote(str(file))}
  {python.parent}/spt3g-dump "$file"
  {python} -c "from spt3g.core import G3File; \\
    [print(f.type, f.get('frame_num')) for f in G3File('$file')]"

Run the parts by hand, each in its own terminal:
  {python} -m testbed.kafka --data-dir .kafka
  {python} -m testbed.smurf --port 50000 --stream-id crate1slot2 --loop
  {python.parent}/ingest --stream crate1slot2 --port 50000
  {python.parent}/archiver --data-dir data --time-per-file 60
"""
