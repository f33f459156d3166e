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

from confluent_kafka import KafkaException
from rich.console import Console
from rich.live import Live
from rich.tree import Tree

from testbed.demo.comparison import Sent, UnreadableError, compare, mismatched_checksums, read_frames
from testbed.demo.live_view import LiveView
from testbed.demo.page import Page, describe_night
from testbed.demo.program import DemoError, Program, environment
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
_CATCH_UP_SECONDS = 20.0
_TAIL_LINES = 15


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
                page = stack.enter_context(Page(broker.bootstrap_servers, self._logs / "web.log"))
                for line in page.await_start().splitlines():
                    self._line(line)
                stack.callback(broker.kill)
                self._line("starting Kafka")
                broker.start()
                self._line(f"Kafka listens on {broker.bootstrap_servers}")
                self._line(f"recording to {self._recorded}/, logs in {self._logs}/")
                view = LiveView(broker.bootstrap_servers, tuple(_SCRIPTS), self._recorded)
                stack.callback(view.close)
                begin_s = time.time()
                sent = self._record(broker.bootstrap_servers, view)
                end_s = time.time()
                self._line("all stopped; rebuilding the files from the topics, as after a disk loss")
                self._replay(broker.bootstrap_servers)
                self._catalog(broker.bootstrap_servers)
                broker.stop()
            agree = self._compare_with_sent(sent, view)
            if agree:
                self._print(describe_night(str(_bin() / "archiver"), str(self._recorded), begin_s, end_s))
                self._print(_describe_files(self._files()[0]))
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
        files = self._files()
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
        return agree

    def _files(self) -> Sequence[Path]:
        return sorted(self._recorded.glob("[0-9]*/*/*.g3"))

    def _replay(self, servers: str) -> None:
        """Rebuild the files from the topics into another directory. Raises DemoError."""
        command = ["archiver", "replay", "--data-dir", str(self._replayed), "--bootstrap-servers", servers]
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, env=environment())
        for line in done.stdout.splitlines():
            self._line(f"replay: {line}")
        if done.returncode:
            raise DemoError(f"replay ended with exit code {done.returncode}: {done.stderr.strip()}")

    def _catalog(self, servers: str) -> None:
        """Make the catalog, with which the page shows the night also without Kafka. Raises DemoError."""
        command = ["archiver", "catalog", "--data-dir", str(self._recorded), "--bootstrap-servers", servers]
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, env=environment())
        if done.returncode:
            raise DemoError(f"archiver catalog ended with exit code {done.returncode}: {done.stderr.strip()}")

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


def _run_script(simulator: Simulator, script: Sequence[str]) -> Sent:
    return Sent.from_answers([simulator.command(line) for line in script])


def _raise_failures(plays: Iterable[Future[Sent]]) -> None:
    for play in plays:
        if play.done():
            play.result()


def _bin() -> Path:
    """Return the directory of this Python's programs, as short as it can be given here."""
    python = Path(sys.executable)
    return (python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python).parent


def _describe_files(file: Path) -> str:
    python = _bin() / Path(sys.executable).name
    return f"""
Look at a file with spt3g:
  file={shlex.quote(str(file))}
  {python.parent}/spt3g-dump "$file"
  {python} -c "from spt3g.core import G3File; \\
    [print(f.type, f.get('frame_num')) for f in G3File('$file')]"

Run the parts by hand, each in its own terminal:
  {python} -m testbed.kafka --data-dir .kafka
  {python} -m testbed.smurf --port 50000 --loop
  {python.parent}/ingest --stream crate1slot2 --port 50000
  {python.parent}/archiver run --data-dir ./data
  {python.parent}/archiver web
"""
