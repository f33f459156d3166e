"""Random faults for a given time; then check that everything is recorded once, byte for byte.

    make soak SOAK=30m

Two senders, an ingest for each, two archivers that share the streams, and a
broker, all real processes. Each sender keeps what it has sent. At the end an
undisturbed archiver records the same topics again: names and SHA-256 of all
files must be the same, and the frames in them those that were sent.

The broker has a latency of 5 ms, and each spool begins with more starts of
ingest than an archiver remembers.
"""

import argparse
import hashlib
import os
import random
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from rich.console import Console
from rich.table import Table

from g3stream.contract.headers import Kind
from g3stream.contract.producer_epoch import RANDOM_BITS, new_epoch
from g3stream.contract.topics import frames_topic
from g3stream.service.arguments import seconds as seconds_flag
from ingest.receive.record_builder import RecordBuilder
from ingest.spool.spool import Spool
from testbed.child_process import free_port
from testbed.frames import decode_frames
from testbed.kafka.broker import Broker
from tests.support.injection.proxy import Proxy
from tests.support.processes import (
    OUT_OF_ORDER,
    SECONDS,
    Program,
    RawSender,
    Recorder,
    committed,
    eventually,
    flow,
    scan,
)

_PATIENCE_SECONDS = 120.0
_SESSION_SECONDS = 6.0
_FENCED = "another archiver with the instance id .* has taken over"
_SETTINGS = ("--time-per-file", "3", "--gap", "2")


@dataclass
class Connection:
    """What a sender has sent on one connection."""

    sent: list[bytes] = field(default_factory=list)
    """Digests of the frames, in order."""
    cut: bool = True
    """Whether the connection may have ended before all was read."""


class Sender:
    """Sends numbered frames of random sizes in random acquisitions, and keeps their digests by connection."""

    def __init__(self, seed: int) -> None:
        self.connections: list[Connection] = []
        self.raw = RawSender()
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._disturb: list[Callable[[socket.socket], None]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def disturb(self, how: Callable[[socket.socket], None]) -> None:
        """Call `how` between two frames of the current connection, or of the next one."""
        self._disturb.append(how)

    def finish(self) -> None:
        """Send an END, wait until ingest has read it, and send nothing after it."""
        self._over.set()
        self._thread.join(_PATIENCE_SECONDS)
        if self._thread.is_alive():
            raise SystemExit("a sender can't send its last frame: ingest doesn't read")

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                connection = self.raw.accept()
            except TimeoutError:
                continue
            with connection:
                found = Connection()
                self.connections.append(found)
                try:
                    self._send_all(connection, found)
                except OSError:
                    continue  # ingest has ended, or the connection is broken

    def _send_all(self, connection: socket.socket, found: Connection) -> None:
        while not self._over.is_set():
            connection.sendall(flow(1))
            for _ in range(self._random.randrange(1, 400)):
                size = self._random.choices([0, 1000, 20_000, 100_000, 1_500_000], [20, 40, 80, 10, 1])[0]
                data = scan(len(found.sent), size, connection=len(self.connections) - 1)
                connection.sendall(data)
                found.sent.append(_digest(data))
                if self._disturb:
                    self._disturb.pop()(connection)
                if self._over.wait(self._random.expovariate(100)):
                    break
            connection.sendall(flow(2))
        connection.shutdown(socket.SHUT_WR)
        found.cut = bool(connection.recv(1))  # b"": ingest has read all, and has closed the connection


class Soak:
    """The running programs and their faults. A fault is a method named `fault_…`."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.faults: Counter[str] = Counter()
        self.programs: list[Program] = []
        self._random = random.Random(seed)
        port = free_port()
        self._proxy = Proxy(port, delay_ms=5)
        advertised = {"advertised.listeners": f"PLAINTEXT://{self._proxy.servers}"}
        self._broker = Broker(directory / "kafka", port, properties=advertised)
        self._broker.start()
        self._streams = ["crate1slot2", "crate1slot3"]
        self.recorder = Recorder(self._proxy.servers, "soak", directory)
        for stream in self._streams:
            self.recorder.create_topic(stream)
            fill_spool(directory / "spool" / stream)
        self.senders = {stream: Sender(seed + n) for n, stream in enumerate(self._streams)}
        config = directory / "client.properties"
        config.write_text(f"session.timeout.ms={int(_SESSION_SECONDS * 1000)}")
        self._quick = ("--kafka-config", str(config))
        self._ingests = {stream: self._ingest(stream) for stream in self._streams}
        self._archivers = {name: self._archiver(name) for name in ("a", "b")}

    def inject_faults(self, until: float) -> None:
        """Inject one fault after another until that time (time.monotonic())."""
        kinds = [name for name in dir(self) if name.startswith("fault_")]
        while time.monotonic() < until:
            name = self._random.choice(kinds)
            print(f"{time.strftime('%H:%M:%S')} {name.removeprefix('fault_')}", flush=True)
            getattr(self, name)()
            self.faults[name.removeprefix("fault_").replace("_", " ")] += 1
            time.sleep(self._random.uniform(0.2, 2))  # the next fault may come during the recovery from this one

    def drain(self) -> None:
        """Wait until all is sent, published and archived, also by an undisturbed archiver."""
        for sender in self.senders.values():
            sender.finish()
            sender.raw.__exit__(None, None, None)
        for stream in self._streams:
            eventually(partial(self._is_published, stream), "an empty spool", _PATIENCE_SECONDS)
        self._archivers["untouched"] = self._archiver("untouched", archive="untouched")
        for archive in ("untouched", "archive"):
            self._await_done(archive)

    def _restart_fenced(self) -> None:
        """Start archivers again that Kafka has fenced, though there is no other, as a site's systemd does."""
        for name, program in self._archivers.items():
            if program.times_of(_FENCED):
                self.faults["archiver fenced"] += 1
                program.kill()
                archive = "untouched" if name == "untouched" else "archive"
                self._archivers[name] = self._archiver(name, archive=archive)

    def _await_done(self, archive: str) -> None:
        """Wait until an archive is complete, as long as it makes progress: an hour's records take a while."""
        recorded, deadline = 0, time.monotonic() + _PATIENCE_SECONDS
        while not self._is_done(archive):
            now_recorded = sum(committed(self.recorder.servers, archive, *self._streams))
            if now_recorded > recorded:
                recorded, deadline = now_recorded, time.monotonic() + _PATIENCE_SECONDS
            self._restart_fenced()
            assert time.monotonic() < deadline, f"{archive}: nothing more was recorded in {_PATIENCE_SECONDS:g} s"
            time.sleep(0.2)

    def close(self) -> None:
        """Kill everything."""
        for program in (*self._ingests.values(), *self._archivers.values()):
            program.kill()
        self._broker.kill()
        self._proxy.__exit__(None, None, None)

    # Faults

    def fault_archiver_killed(self) -> None:
        name = self._any_archiver()
        self._archivers[name].kill()
        self._archivers[name] = self._archiver(name)

    def fault_archiver_killed_and_away(self) -> None:
        name = self._any_archiver()
        self._archivers[name].kill()
        time.sleep(self._random.uniform(0, _SESSION_SECONDS + 3))
        self._archivers[name] = self._archiver(name)

    def fault_archiver_stopped(self) -> None:
        name = self._any_archiver()
        _stop(self._archivers[name], "recording to")
        self._archivers[name] = self._archiver(name)

    def fault_archiver_frozen(self) -> None:
        program = self._archivers[self._any_archiver()]
        program.send(signal.SIGSTOP)
        time.sleep(self._random.uniform(0.1, _SESSION_SECONDS + 3))
        program.send(signal.SIGCONT)

    def fault_partial_damaged(self) -> None:
        for program in self._archivers.values():
            program.kill()
        partials = [p for s in self._streams for p in (self.recorder.data() / ".archiver" / s).glob("*_*")]
        for path in partials:
            how = self._random.choice(["flipped", "cut", "deleted", "longer"])
            size = path.stat().st_size
            if path.stat().st_nlink > 1:
                continue  # it is the finished file already
            if how == "deleted":
                path.unlink()
            elif how == "longer":
                os.truncate(path, size + 100)
            elif size and how == "cut":
                os.truncate(path, self._random.randrange(size))
            elif size:
                with path.open("r+b") as file:
                    at = self._random.randrange(size)
                    file.seek(at)
                    byte = file.read(1)[0]
                    file.seek(at)
                    file.write(bytes([byte ^ 1 << self._random.randrange(8)]))
        self._archivers = {name: self._archiver(name) for name in self._archivers}

    def fault_ingest_killed(self) -> None:
        stream = self._random.choice(self._streams)
        self._ingests[stream].kill()
        self._ingests[stream] = self._ingest(stream)

    def fault_ingest_stopped(self) -> None:
        stream = self._random.choice(self._streams)
        _stop(self._ingests[stream], "to Kafka at")
        self._ingests[stream] = self._ingest(stream)

    def fault_broker_killed(self) -> None:
        self._broker.kill()
        time.sleep(self._random.uniform(0, 5))
        self._broker.start()

    def fault_broker_restarted(self) -> None:
        self._broker.stop()
        self._broker.start()

    def fault_broker_frozen(self) -> None:
        pid = self._broker.pid
        assert pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self._random.uniform(0.1, 8))
        os.kill(pid, signal.SIGCONT)

    def fault_all_killed_at_once(self) -> None:
        for program in (*self._ingests.values(), *self._archivers.values()):
            program.kill()
        self._broker.kill()
        self._broker.start()
        self._ingests = {stream: self._ingest(stream) for stream in self._streams}
        self._archivers = {name: self._archiver(name) for name in self._archivers}

    def fault_connection_reset(self) -> None:
        self._disturb(lambda connection: connection.close())

    def fault_garbage_sent(self) -> None:
        garbage = self._random.randbytes(1000)
        self._disturb(lambda connection: connection.sendall(b"\x02" + garbage))

    def fault_bad_crc_sent(self) -> None:
        bad = bytearray(scan(0, 1000))
        bad[-1] ^= 1
        self._disturb(lambda connection: connection.sendall(bad))

    # Programs

    def _disturb(self, how: Callable[[socket.socket], None]) -> None:
        self.senders[self._random.choice(self._streams)].disturb(how)

    def _any_archiver(self) -> str:
        return self._random.choice(sorted(self._archivers))

    def _ingest(self, stream: str) -> Program:
        port = str(self.senders[stream].raw.port)
        spool = str(self.recorder.directory / "spool")
        return self._start(
            "ingest", "--stream", stream, "--address", "127.0.0.1", "--port", port, "--spool-dir", spool
        )

    def _archiver(self, name: str, archive: str = "archive") -> Program:
        data = str(self.recorder.data(archive))
        return self._start(
            "archiver", "--data-dir", data, "--group", archive, "--instance-id", name, *_SETTINGS, *self._quick
        )

    def _start(self, module: str, *arguments: str) -> Program:
        program = self.recorder.start(module, *arguments)
        self.programs.append(program)
        return program

    def _is_published(self, stream: str) -> bool:
        """Stop the stream's ingest. Returns whether all is published; if not, starts it again."""
        ingest = self._ingests[stream]
        _stop(ingest, "to Kafka at")
        if "everything received is published" in ingest.log:
            return True
        self._ingests[stream] = self._ingest(stream)
        time.sleep(2)  # it publishes meanwhile
        return False

    def _is_done(self, archive: str) -> bool:
        """Return whether the topics are committed to their ends, and no file is open."""
        consumer = Consumer({"bootstrap.servers": self.recorder.servers, "group.id": archive})
        try:
            partitions = [TopicPartition(frames_topic(stream), 0) for stream in self._streams]
            offsets = [found.offset for found in consumer.committed(partitions, SECONDS)]
            ends = [consumer.get_watermark_offsets(partition, SECONDS)[1] for partition in partitions]
        finally:
            consumer.close()
        partials = [p for s in self._streams for p in (self.recorder.data(archive) / ".archiver" / s).glob("*_*")]
        return offsets == ends and not partials


def _stop(program: Program, started: str) -> None:
    program.await_line(started, _PATIENCE_SECONDS)  # it handles signals from then on
    code = program.stop()
    # A broker that was killed may have forgotten that this member took the place of its killed predecessor.
    if code != 0 and not program.times_of(_FENCED):
        raise SystemExit(f"{program.name} ended with exit code {code} after SIGTERM:\n{program.log}")


def fill_spool(directory: Path, epochs: int = 40, records: int = 50) -> None:
    """Fill a spool as `epochs` starts of ingest do while Kafka is down and no frames are received."""
    now_ms = time.time_ns() // 1_000_000
    for _ in range(epochs):
        with Spool(directory, 1 << 30) as spool:
            previous = spool.previous[0] if spool.previous else None
            epoch = new_epoch(previous, now_ms, secrets.randbits(RANDOM_BITS))
            builder = RecordBuilder(epoch, spool.previous, spool.unclean_shutdown)
            spool.writer.append(
                [
                    builder.connection_record(Kind.LOST, now_ms, "ingest started"),
                    *(builder.connection_record(Kind.QUIET, now_ms) for _ in range(records)),
                ]
            )


@dataclass
class Outcome:
    """The result: counts of frames, records, files and programs."""

    sent: int = 0
    """Frames that were sent."""
    recorded: int = 0
    """Frames in the archive's files."""
    unread: int = 0
    """Frames left in the socket of a killed connection."""
    lost: int = 0
    """Other frames that aren't recorded."""
    duplicates: int = 0
    """Further copies of recorded frames."""
    never_sent: int = 0
    """Frames that are recorded, but were never sent."""
    out_of_order: int = 0
    """Records delivered out of order, each of which was fetched again."""
    files: int = 0
    """Files in the undisturbed archive."""
    tracebacks: int = 0
    """Programs that printed a traceback."""
    different: list[str] = field(default_factory=list)
    """Files that differ from those in the undisturbed archive."""

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        wrong = self.lost, self.duplicates, self.never_sent, self.out_of_order, self.different, self.tracebacks
        return not any(wrong) and self.recorded > 0


def judge(soak: Soak) -> Outcome:
    """Compare what was sent with what was recorded, and the archive with an undisturbed one."""
    outcome = Outcome(tracebacks=sum("Traceback" in program.log for program in soak.programs))
    outcome.out_of_order = sum(len(program.times_of(OUT_OF_ORDER)) for program in soak.programs)
    recorder = soak.recorder
    trees = [_digests(recorder.data(archive)) for archive in ("archive", "untouched")]
    outcome.files = len(trees[1])
    outcome.different = sorted(name for name, _ in trees[0].items() ^ trees[1].items())
    for stream, sender in soak.senders.items():
        files = sorted(recorder.data().glob(f"*/{stream}/*.g3"), key=_start_and_number)
        frames = [_digest(frame) for file in files for frame in decode_frames(file.read_bytes())]
        counted = Counter(frames)
        outcome.recorded += len(frames)
        outcome.duplicates += sum(count - 1 for count in counted.values())
        for connection in sender.connections:
            outcome.sent += len(connection.sent)
            there = [frame in counted for frame in connection.sent]
            whole = there.index(False) if False in there else len(there)
            # When ingest or the connection is killed, all frames after the last one that was read may be missing.
            if connection.cut and not any(there[whole:]):
                outcome.unread += len(there) - whole
            else:
                outcome.lost += there.count(False)
        sent = [frame for connection in sender.connections for frame in connection.sent]
        place = {frame: at for at, frame in enumerate(sent)}
        places = [place[frame] for frame in frames if frame in place]
        outcome.never_sent += len(frames) - len(places)
        outcome.different += [f"{stream}: the order of its frames"] if places != sorted(places) else []
    return outcome


def _digests(data: Path) -> dict[str, str]:
    return {str(f.relative_to(data)): hashlib.sha256(f.read_bytes()).hexdigest() for f in data.glob("[0-9]*/*/*.g3")}


def _digest(frame: bytes) -> bytes:
    return hashlib.sha256(frame).digest()


def _start_and_number(file: Path) -> tuple[str, int]:
    start, _, number = file.stem.rpartition("_")
    return start, int(number)


@contextmanager
def soaked(directory: Path, seed: int, seconds: float) -> Iterator[tuple[Soak, Outcome]]:
    """Run a soak test of `seconds`, and yield it with its outcome."""
    soak = Soak(directory, seed)
    try:
        soak.inject_faults(time.monotonic() + seconds)
        soak.drain()
        yield soak, judge(soak)
    finally:
        soak.close()


def main() -> int:
    """Run the soak test and print its outcome. Exit code 0 if every promise was kept, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--for", dest="seconds", type=seconds_flag, default="5m", help="duration: 90s, 30m, 8h, … (default: 5m)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=random.SystemRandom().randrange(10**6),
        help="seed that a run has printed, to repeat its faults",
    )
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:g} s", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="soak-"))
    with soaked(directory, options.seed, options.seconds) as (soak, outcome):
        table = Table(title=f"seed {options.seed}, {options.seconds:g} s")
        table.add_column("fault")
        table.add_column("times", justify="right")
        for fault, count in sorted(soak.faults.items()):
            table.add_row(fault, str(count))
        table.add_section()
        for what, value in vars(outcome).items():
            table.add_row(what.replace("_", " "), str(value if isinstance(value, int) else len(value)))
        Console().print(table)
    if outcome.good:
        return 0
    for program in soak.programs:
        (directory / f"{program.name}-{program.pid}.log").write_text(program.log)
    print(f"FAILED; logs, files and Kafka's data are in {directory}; differences: {outcome.different[:20]}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
