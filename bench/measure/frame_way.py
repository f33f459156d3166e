"""Which of the project's functions and modules a frame passes, and how many calls that takes.

`python -m bench.measure.frame_way ingest` follows frames from the socket until they are acknowledged and removed from
the spool; `… archiver` follows records from the topic until they are durable and committed. The real program runs in
this process, on a broker of its own, and receives one frame at a time; what it calls at least once for each of them
is shown in the order of the first call. Calls include each resumption of a generator.
"""

import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType

from confluent_kafka import Producer

from bench.load.frames import data_frame, serialized
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.topic_settings import ExpectedTopic, Role
from g3stream.contract.topics import frames_topic
from g3stream.kafka.topic_admin import TopicAdmin
from g3stream.service.stop_signals import StopSignals
from testbed.child_process import free_port
from testbed.kafka.broker import Broker

_STREAM = "way"
_PACKAGES = ("ingest", "archiver", "g3stream")
_ROOT = Path(__file__).parents[2]
_WARM_UP_FRAMES, _FRAMES = 3, 10
_FRAME_BYTES = 20_000
_INTERVAL_SECONDS = {"ingest": 0.8, "archiver": 1.5}
"""Longer than the program takes to acknowledge or commit a frame, shorter than the heartbeat that then comes: so each
frame passes all of its way, and nothing else does."""


class _Calls:
    """A profile function for all threads, which counts the calls of the project's functions."""

    def __init__(self) -> None:
        self.counts: Counter[CodeType] = Counter()

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            self.counts[frame.f_code] += 1

    def report(self, frames: int) -> str:
        """Describe the functions that were called at least once for each frame."""
        passed = [(code, count / frames) for code, count in self.counts.items() if count >= frames and _named(code)]
        modules = {_module(code) for code, _ in passed}
        calls = sum(count for _, count in passed)
        lines = [f"{count:6.1f}  {_module(code)}.{code.co_qualname}" for code, count in passed]
        return "\n".join([*lines, f"{len(passed)} functions of {len(modules)} modules, {calls:.0f} calls a frame"])


def _named(code: CodeType) -> bool:
    """Whether it is a function of the project; comprehensions are part of theirs."""
    return _module(code).startswith(_PACKAGES) and not code.co_name.startswith("<")


def _module(code: CodeType) -> str:
    path = Path(code.co_filename)
    return ".".join(path.relative_to(_ROOT).with_suffix("").parts) if path.is_relative_to(_ROOT) else ""


def _measure(calls: _Calls, interval_s: float, send: Callable[[int], None]) -> None:
    """Send frames, report on them, and stop the program."""
    try:
        for number in range(_WARM_UP_FRAMES + _FRAMES):
            if number == _WARM_UP_FRAMES:
                calls.counts.clear()
            send(number)
            time.sleep(interval_s)
        print(calls.report(_FRAMES), flush=True)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def _sender(port: int) -> Callable[[int], None]:
    """Return a function that sends a frame to the program, which connects to this port."""
    server = socket.create_server(("127.0.0.1", port))
    clients: list[socket.socket] = []

    def send(number: int) -> None:
        if not clients:
            clients.append(server.accept()[0])
        clients[0].sendall(serialized(data_frame(_FRAME_BYTES, number)))

    return send


def _producer(servers: str) -> Callable[[int], None]:
    """Return a function that publishes a frame to the stream's topic."""
    producer = Producer({"bootstrap.servers": servers})

    def send(number: int) -> None:
        headers = RecordHeaders(Kind.FRAME, "0" * 16, number, ord("S"), _STREAM, 1, number).to_kafka()
        producer.produce(frames_topic(_STREAM), serialized(data_frame(_FRAME_BYTES, number)), headers=[*headers])
        producer.flush()

    return send


def main() -> None:
    """Run the program named on the command line, and report on it."""
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as name, Broker(Path(name) / "kafka") as broker, StopSignals() as signals:
        servers = broker.bootstrap_servers
        flags = ["--bootstrap-servers", servers]
        if program == "ingest":
            port = free_port()
            send = _sender(port)
            flags += ["--stream", _STREAM, "--port", str(port), "--spool-dir", f"{name}/spool"]
        else:
            TopicAdmin({"bootstrap.servers": servers}).ensure(ExpectedTopic(frames_topic(_STREAM), Role.FRAMES))
            send = _producer(servers)
            flags += ["--data-dir", f"{name}/data"]
        options = import_module(f"{program}.__main__").make_parser().parse_args(flags)
        calls = _Calls()
        threading.Thread(target=_measure, args=(calls, _INTERVAL_SECONDS[program], send), daemon=True).start()
        threading.setprofile(calls)
        sys.setprofile(calls)
        run = import_module(f"{program}.service").run
        run(options, None, signals) if program == "ingest" else run(options, signals)


if __name__ == "__main__":
    main()
