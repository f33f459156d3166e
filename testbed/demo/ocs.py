"""Command `make demo-ocs`: the OCS agents on a real crossbar router, seen through OCS's own clients.

Crossbar, Kafka, two simulated SMuRF streams and the agents are real processes, which are killed when this one ends.
The router is killed in the middle of an acquisition. At the end the recording is compared with what was sent.
"""

import argparse
import gc
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from spt3g import core

from testbed.child_process import start_child_process
from testbed.crossbar import Crossbar
from testbed.demo.page import Page
from testbed.exit_on_signal import exit_on_signal
from testbed.kafka.broker import Broker
from testbed.server import ServerError
from testbed.smurf.simulator import Simulator, SimulatorError

_SECONDS = 30.0
_STREAMS = ("crate1slot2", "crate1slot3")
_INSTANCES = ("smurf-recorder", "smurf-ingest", "smurf-archiver")
"""The first records one stream alone; the two others together record the other stream."""
# What one would type at the prompt of `ocs-client-cli shell smurf-recorder`.
_QUERIES = (
    "client.record.status()",
    "{k: client.record.status().session['data'][k] for k in ('state', 'frames', 'file', 'problems')}",
)
_STOPS = (
    "client.record.stop()",
    "client.record.wait(timeout=10)",
    "client.record.status().session['data']['last_files']",
)


class _DemoError(Exception):
    """Something doesn't run as it should. The message has the reason."""


class _Demo:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._data = directory / "data"
        self._environment: Mapping[str, str] = {}
        self._started_at = time.monotonic()

    def run(self) -> bool:
        """Run the demo. Returns whether exactly what was sent is recorded. Raises _DemoError."""
        self._line("starting Kafka, crossbar and two simulated streams")
        with ExitStack() as stack:
            broker = stack.enter_context(Broker(self._directory / "kafka"))
            page = stack.enter_context(Page(broker.bootstrap_servers, self._directory / "web.log"))
            for line in page.await_start().splitlines():
                self._line(line)
            crossbar = stack.enter_context(Crossbar(self._directory / "crossbar"))
            senders = {name: stack.enter_context(Simulator(stream_id=name, alive=True)) for name in _STREAMS}
            site = crossbar.write_site(self._directory / "ocs", self._blocks([s.port for s in senders.values()]))
            self._environment = {
                **os.environ,
                "OCS_CONFIG_DIR": str(site.parent),
                "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            }
            print(site.read_text())
            agents = [stack.enter_context(self._agent(instance)) for instance in _INSTANCES]
            self._await(self._joined, "the agents to join")
            for sender in senders.values():
                sender.command("wait")
                sender.command("start")
                sender.command("frames 20 --rate 5")
            self._client("scan", "--details")
            self._shell(_QUERIES)
            self._line("kill -9 of crossbar, in mid-acquisition; frames are still sent")
            crossbar.kill()
            last = {name: sender.command("frames 40 --rate 20")["last"] for name, sender in senders.items()}
            self._line("starting crossbar again")
            crossbar.start()
            self._await(self._joined, "the agents to join again")
            time.sleep(1.5)  # session.data is a second old at most
            self._shell((_QUERIES[1], *_STOPS))
            self._line("SIGTERM to the agents")
            for agent in agents:
                agent.terminate()
                if code := agent.wait(_SECONDS):
                    raise _DemoError(f"an agent ended with exit code {code}")
            return all([self._compare(name, count + 1) for name, count in last.items()])

    def _compare(self, stream: str, sent: int) -> bool:
        # An archiver that is stopped leaves its file open for its next start.
        files = [*sorted(self._data.glob(f"*/{stream}/*.g3")), *(self._data / ".archiver" / stream).glob("*_*")]
        recorded = [frame["frame_num"] for file in files for frame in core.G3File(str(file))]
        agree = recorded == list(range(sent))
        verdict = "they agree" if agree else "THEY DO NOT AGREE"
        self._line(f"{stream}: {sent} frames sent, {len(recorded)} recorded: {verdict}")
        return agree

    def _blocks(self, ports: Sequence[int]) -> Sequence[Mapping[str, Any]]:
        def block(number: int, agent_class: str, stream: str, *arguments: Sequence[str]) -> Mapping[str, Any]:
            listed = [["--auto-start", True], ["--stream-id", stream], *map(list, arguments)]
            return {"agent-class": agent_class, "instance-id": _INSTANCES[number], "arguments": listed}

        address = ("--address", "127.0.0.1")
        data, spool = ("--data-dir", str(self._data)), ("--spool-dir", str(self._directory / "spool"))
        gap = ("--gap", "600")  # a busy machine pauses the frames for more than the default 10 s
        one, two = _STREAMS
        return (
            block(0, "SmurfRecorder", one, ("--time-per-file", "600"), gap, data, ("--port", str(ports[0])), address),
            block(1, "SmurfIngest", two, ("--port", str(ports[1])), address, spool),
            block(2, "SmurfArchiver", two, gap, data),
        )

    @contextmanager
    def _agent(self, instance: str) -> Iterator["subprocess.Popen[bytes]"]:
        command = ["ocs-agent-cli", "--instance-id", instance]
        self._line(f"$ {' '.join(command)}")
        with (self._directory / f"{instance}.log").open("wb") as log:
            agent = start_child_process(
                [sys.executable, "-u", "-m", "ocs.agent_cli", *command[1:]],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        try:
            yield agent
        finally:
            agent.kill()
            agent.wait()

    def _joined(self) -> bool:
        script = f"from ocs.ocs_client import OCSClient; [OCSClient(name) for name in {_INSTANCES!r}]"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=self._environment)
        return done.returncode == 0

    def _client(self, *arguments: str, typed: str = "") -> None:
        self._line(f"$ ocs-client-cli {' '.join(arguments)}")
        command = [sys.executable, "-c", "from ocs.client_cli import main; main()", *arguments]
        done = subprocess.run(
            command, input=typed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._environment
        )
        print(re.sub(r"^>>> ", "", done.stdout, flags=re.MULTILINE))
        if done.returncode:
            raise _DemoError(f"ocs-client-cli ended with exit code {done.returncode}")

    def _shell(self, lines: Sequence[str]) -> None:
        # Without a terminal the shell doesn't echo its input.
        echoed = [command for line in lines for command in (f"print('>>> ' + {line!r})", line)]
        self._client("shell", "--simple", _INSTANCES[0], typed="\n".join(echoed) + "\n")

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise _DemoError(f"waited {_SECONDS:g} s for {what}\n{self._tails()}")
            time.sleep(0.2)

    def _tails(self) -> str:
        logs = sorted(self._directory.glob("*.log"))
        return "\n".join(f"==> {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)

    def _line(self, text: str) -> None:
        print(f"{time.monotonic() - self._started_at:5.1f} s  {text}", flush=True)


def make_parser() -> argparse.ArgumentParser:
    """The command line of `python -m testbed.demo.ocs`."""
    return argparse.ArgumentParser(
        prog="python -m testbed.demo.ocs",
        description="Run the OCS agents on a real crossbar router and query them with ocs-client-cli. The first run "
        "installs crossbar (377 MB) and Kafka (40 MB) in your cache.",
        epilog="exit codes: 0 all that was sent is recorded, once; 1 it isn't, or something failed; 2 wrong usage.",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit code."""
    make_parser().parse_args(arguments)
    gc.disable()  # a Ctrl-C raised inside a garbage collection would be ignored
    exit_on_signal(with_signal_code=True, message="stopping")
    with tempfile.TemporaryDirectory(prefix="demo-ocs-") as directory:
        try:
            return 0 if _Demo(Path(directory)).run() else 1
        except (_DemoError, ServerError, SimulatorError) as error:
            print(f"\nfailed: {error}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
