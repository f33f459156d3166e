"""A simulated SMuRF detector stream on a real spt3g `G3NetworkSender`, controlled by commands.

The sender runs in a separate process, because it accepts clients only inside its `Process`, and closing it joins C++
threads while it holds the GIL. `python -m testbed.smurf` is that process; `Simulator` starts and controls one.

    with Simulator() as simulator:                      # listens on simulator.port
        simulator.command("wait")                       # until a reader is connected
        simulator.command("start")
        sent = simulator.command("frames 100 --rate 50")  # {"session": ..., "first": 2, "last": 101, ...}
        simulator.command("end")
"""

import argparse
import json
import math
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from spt3g import core

from testbed.child_process import free_port, start_child_process
from testbed.smurf.streamer import ALIVE_SECONDS, FlowControl, Streamer
from testbed.venv import VenvError


class SimulatorError(RuntimeError):
    """The simulator doesn't start, has died, or answered with an error."""


class Simulator:
    """A simulator process, which is killed when this process ends in any way.

    port: where it listens (0: a free one).
    connect: "host:port" of an `ingest --listen` to which it connects instead.
    alive: send ALIVE each second between commands.
    realistic: send frames made by so3g, which sotodlib can read.
    Raises SimulatorError if it doesn't start.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        stream_id: str = "crate1slot2",
        connect: str | None = None,
        alive: bool = False,
        realistic: bool = False,
    ) -> None:
        self.port = int(connect.rpartition(":")[2]) if connect else port or free_port()
        command = [sys.executable, "-m", "testbed.smurf", "--stream-id", stream_id]
        command += ["--connect", connect] if connect else ["--port", str(self.port)]
        command += ["--alive"] if alive else []
        command += ["--realistic"] if realistic else []
        self._process = start_child_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self.answer()
        except BaseException:
            self._process.kill()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def command(self, line: str, timeout: float = 60.0) -> dict[str, Any]:
        """Run a command and return its answer. Raises SimulatorError.

        The answer has `session`, `first`, `last` (frame_num) and `frames` (their number) of the data frames
        (Observation, Wiring, Scan) that the command sent; None, None, None and 0 if it sent none. With `realistic` it
        also has `samples` (per channel). timeout: s, after which the process is killed.
        """
        self.send(line)
        return self.answer(timeout)

    def send(self, line: str) -> None:
        """Send a command without waiting; call `answer` once for each."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SimulatorError(f"the simulator died before {line!r}") from None

    def answer(self, timeout: float = 60.0) -> dict[str, Any]:
        """Return the answer to the oldest unanswered command. Raises SimulatorError, also after `timeout` s."""
        assert self._process.stdout is not None
        killer = threading.Timer(timeout, self._process.kill)
        killer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            killer.cancel()
        if not line:
            raise SimulatorError(f"the simulator gave no answer (exit code {self._process.wait()})")
        content: dict[str, Any] = json.loads(line)
        if "error" in content:
            raise SimulatorError(content["error"])
        return content

    def close(self) -> None:
        """End it, after its queue has been sent if the reader takes that within 3 s. Works after a crash too."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is None:
            try:
                self._process.communicate(b"quit\n", timeout=3.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error:
            self._process.kill()  # don't wait until its queue is sent
        self.close()


class _CommandError(Exception):
    """A line isn't a command."""


class _CommandParser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:  # argparse would end the process
        raise _CommandError(message)


def _commands() -> argparse.ArgumentParser:
    parser = _CommandParser(prog="", add_help=False)
    add = parser.add_subparsers(dest="command", required=True, parser_class=_CommandParser).add_parser
    wait = add("wait", add_help=False)
    wait.add_argument("seconds", type=float, nargs="?", default=30.0)
    frames = add("frames", add_help=False)
    frames.add_argument("count", type=int)
    frames.add_argument("--rate", type=float, default=0.0)
    frames.add_argument("--bytes", type=int, default=20_000)
    alive = add("alive", add_help=False)
    alive.add_argument("count", type=int, nargs="?", default=1)
    silence = add("silence", add_help=False)
    silence.add_argument("seconds", type=float)
    observation = add("observation", add_help=False)
    observation.add_argument("placement", nargs="?", default="start")
    for name in ("start", "end"):
        add(name, add_help=False).add_argument("--bare", action="store_true")
    wiring = add("wiring", add_help=False)
    wiring.add_argument("--change", action="store_true")
    for name in ("cleanse", "pipelineinfo", "drop", "quit"):
        add(name, add_help=False)
    return parser


def _run_command(streamer: Streamer, order: argparse.Namespace) -> dict[str, Any]:
    """Run a command. Returns further fields for its answer."""
    match order.command:
        case "wait":
            streamer.wait(order.seconds)
        case "start":
            streamer.start()
            if not order.bare:
                streamer.observation("start")
                streamer.wiring()
        case "frames":
            streamer.scans(order.count, order.rate, order.bytes)
        case "observation":
            streamer.observation(order.placement)
        case "wiring":
            streamer.wiring(dump=not order.change)
        case "end":
            if not order.bare:
                streamer.observation("end")
            streamer.end()
        case "cleanse":
            streamer.flow(FlowControl.CLEANSE, core.G3FrameType.Observation)
            streamer.flow(FlowControl.CLEANSE, core.G3FrameType.Wiring)
        case "alive":
            for number in range(order.count):
                if number:
                    time.sleep(ALIVE_SECONDS)
                streamer.flow(FlowControl.ALIVE)
        case "silence":
            time.sleep(order.seconds)
        case "pipelineinfo":
            streamer.pipelineinfo()
        case "drop":
            drained = streamer.close()
            if streamer.host == "*":
                streamer.open()
            return {"drained": drained}
        case "quit":
            return {"drained": streamer.close()}
    return {}


def _run_commands_from_stdin(streamer: Streamer, alive: bool) -> None:
    """Run and answer each command on stdin until `quit` or the end of stdin."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put("quit")

    threading.Thread(target=read, daemon=True).start()
    parser = _commands()
    while True:
        try:
            line = lines.get(timeout=ALIVE_SECONDS if alive else None)
        except queue.Empty:
            streamer.flow(FlowControl.ALIVE)
            continue
        try:
            words = shlex.split(line, comments=True)
            if not words:
                continue
            order = parser.parse_args(words)
            extra = _run_command(streamer, order)
        except (_CommandError, ValueError, RuntimeError, TimeoutError) as error:
            _answer({"error": f"{line.strip()}: {error}", **streamer.take_sent()})
            continue
        _answer({"command": order.command, **streamer.take_sent(), **extra})
        if order.command == "quit":
            return


def _answer(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


def _loop(streamer: Streamer, seconds: float, rate: float, size: int, pause: float) -> None:
    """Stream sessions endlessly: START, frames for some seconds, END, and ALIVE in the pause."""
    while True:
        if not streamer.connected():
            streamer.wait(math.inf)
        streamer.start()
        streamer.observation("start")
        streamer.wiring()
        streamer.scans(max(1, round(seconds * rate)), rate, size)
        streamer.observation("end")
        streamer.end()
        sent = streamer.take_sent()
        print(f"session {sent['session']}: frames {sent['first']} to {sent['last']}", flush=True)
        streamer.flow(FlowControl.CLEANSE, core.G3FrameType.Observation)
        streamer.flow(FlowControl.CLEANSE, core.G3FrameType.Wiring)
        for _ in range(math.ceil(pause / ALIVE_SECONDS)):
            streamer.flow(FlowControl.ALIVE)
            time.sleep(ALIVE_SECONDS)


_COMMANDS = """\
commands, one per line on stdin; each is answered by a line of JSON:
  wait [SECONDS]        send ALIVE until a reader is connected (at most 30 s by
                        default)
  start [--bare]        START, then Observation and Wiring (--bare: START alone)
  frames N [--rate HZ] [--bytes B]
                        N Scan frames with B bytes of data each (default:
                        20000 bytes, as fast as possible)
  observation [start|end], wiring [--change], pipelineinfo
                        one such frame (--change: part of the status only)
  end [--bare]          Observation and END (--bare: END alone)
  cleanse               CLEANSE: Observation, Wiring with sostream_flowcontrol 3
  alive [N]             N ALIVE frames, one a second
  silence SECONDS       send nothing at all
  drop                  close the connection when all is sent, and listen again
                        (with --connect: `wait` connects again)
  quit                  as the end of stdin: send what is queued, then exit

examples:
  python -m testbed.smurf --port 50000 --stream-id crate1slot3 --loop
  python -m testbed.smurf --port 50000 --realistic --loop --rate 1
  printf 'wait\\nstart\\nframes 100 --rate 10\\nend\\n' | python -m testbed.smurf
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line of `python -m testbed.smurf`."""
    parser = argparse.ArgumentParser(
        prog="python -m testbed.smurf",
        description="Simulate a SMuRF detector stream on a real G3NetworkSender, by commands on\nstdin or endlessly.",
        epilog=_COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=50000, help="port to listen on (default: 50000)")
    parser.add_argument("--connect", metavar="HOST:PORT", help="connect out instead, to an `ingest --listen`")
    parser.add_argument("--stream-id", default="crate1slot2", help="the frames' sostream_id (default: crate1slot2)")
    parser.add_argument("--alive", action="store_true", help="send ALIVE each second between commands")
    so3g = parser.add_argument_group("frames made by so3g, as SMuRF's streamer makes them")
    so3g.add_argument(
        "--realistic",
        action="store_true",
        help="send such frames, which sotodlib can read; installs so3g and sotodlib once (1.1 GB)",
    )
    so3g.add_argument("--channels", type=int, default=64, help="detectors, 1 to 4096 (default: 64)")
    so3g.add_argument("--tag", default="obs,cmb", help="stream_tag: what is observed (default: obs,cmb)")
    loop = parser.add_argument_group("without commands")
    loop.add_argument("--loop", action="store_true", help="stream sessions endlessly")
    loop.add_argument("--seconds", type=float, default=60.0, help="length of a session, s (default: 60)")
    loop.add_argument("--rate", type=float, default=10.0, help="Scan frames per second (default: 10)")
    loop.add_argument("--bytes", type=int, default=200_000, help="data in each Scan frame (default: 200000)")
    loop.add_argument("--pause", type=float, default=15.0, help="pause between sessions, s (default: 15)")
    return parser


def _streamer(host: str, port: int, options: argparse.Namespace) -> Streamer:
    """Return the streamer for these options. Raises VenvError."""
    if not options.realistic:
        return Streamer(host, port, options.stream_id)
    from testbed.smurf.realistic import RealisticStreamer  # imported only when needed

    return RealisticStreamer(host, port, options.stream_id, channels=options.channels, tag=options.tag)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a simulator. Exit code 0, or 1 if it can't listen or connect."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    host, port = "*", options.port
    if options.connect:
        host, _, text = options.connect.rpartition(":")
        if not (host and text.isdecimal()):
            parser.error(f"--connect {options.connect!r}: HOST:PORT is needed")
        port = int(text)
    if not 1 <= port <= 65535:
        parser.error(f"port {port}: 1 to 65535")
    if options.loop and options.rate <= 0:
        parser.error(f"--rate {options.rate:g}: must be positive")
    if not 1 <= options.channels <= 4096:
        parser.error(f"--channels {options.channels}: 1 to 4096")

    # Exit at once on a signal: orderly closing would never end while a reader doesn't read.
    leave: Callable[[int, object], None] = lambda _number, _frame: os._exit(0)  # noqa: E731  # no clearer as a def
    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)
    # A refused connection is expected. spt3g's errors are also raised as exceptions.
    core.set_log_level(core.G3LogLevel.LOG_FATAL)
    try:
        streamer = _streamer(host, port, options)
        if host == "*":
            streamer.open()
    except (RuntimeError, VenvError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.loop:
        print(f"streaming as {options.stream_id} on port {port} (Ctrl-C stops it)", flush=True)
        _loop(streamer, options.seconds, options.rate, options.bytes, options.pause)
    else:
        _answer({"command": "ready", "port": port, **streamer.take_sent()})
        _run_commands_from_stdin(streamer, options.alive)
    return 0


if __name__ == "__main__":
    sys.exit(main())
