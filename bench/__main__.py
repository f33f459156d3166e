"""`make bench`: throughput and memory of ingest and archiver, beside bare confluent-kafka loops.

In one run, on one machine, with the broker beside them: for each frame size, the contestants in turn, several times,
ours and the bare loop first by turns; what the archivers read has been read once before. The table shows medians, and
the spread of the ratio's parts.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported without saying so
from rich.console import Console
from rich.table import Table
from spt3g import core

from compose.kafka import Broker
from compose.kafka_jars import KAFKA_VERSION
from ingest.topic import CHUNK_BYTES, FRAMES_TOPIC_CONFIG, frames_topic

SIZES = (20_000, 200_000, 2_000_000)
_CONTESTS = {
    "ingest": ("ingest bare", "socket → acknowledged"),
    "archiver": ("archiver bare", "topic → file, synced"),
    "archiver finished": ("archiver bare", "… and SHA-256, name, event"),
    "replay": ("archiver bare", "topic → rebuilt file, to its end"),
    "verify": ("sha256sum", "archiver verify, beside sha256sum"),
}
_FACTS_BEFORE_FRAMES = 3  # lost (ingest started), connected, start


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement. seconds: from the first byte sent, or read. anonymous_bytes: the most at any time."""

    what: str
    frame_bytes: int
    total_bytes: int
    seconds: float
    anonymous_bytes: int

    @property
    def rate(self) -> float:
        """MB/s."""
        return self.total_bytes / self.seconds / 1e6


class Anonymous:
    """Samples a process's anonymous memory (its mapped files, as the spool, apart) until it ends."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.most = 0
        self._status = Path(f"/proc/{process.pid}/status")
        self._over = threading.Event()
        threading.Thread(target=self._sample, daemon=True).start()

    def stop(self) -> int:
        """The most there was, in bytes."""
        self._over.set()
        return self.most

    def _sample(self) -> None:
        while not self._over.wait(0.02):
            try:
                match = re.search(r"RssAnon:\s+(\d+) kB", self._status.read_text())
            except OSError:
                return
            if match:
                self.most = max(self.most, int(match[1]) * 1024)


class Bench:
    """One broker, and the contestants that take turns on it."""

    def __init__(self, servers: str, directory: Path, total: int) -> None:
        self._servers = servers
        self._directory = directory
        self._total = total
        self._admin = AdminClient({"bootstrap.servers": servers})
        self._count = 0

    def round(self, size: int, *, ours_first: bool) -> list[Run]:
        """Each contestant once."""
        if ours_first:
            run, stream = self.ingest(size)
            found = [run, self.bare_ingest(size)]
        else:
            bare = self.bare_ingest(size)
            run, stream = self.ingest(size)
            found = [run, bare]
        self.bare_archiver(size, stream)  # who comes first waits for a broker that is still busy with its own disk
        if ours_first:
            found += [*self.archiver(size, stream), self.bare_archiver(size, stream), self.replay(size, stream)]
        else:
            found += [self.replay(size, stream), self.bare_archiver(size, stream), *self.archiver(size, stream)]
        self._forget(stream)
        return found

    def ingest(self, size: int) -> tuple[Run, str]:
        """Ours, socket → acknowledged; gives the stream too, which then has the frames."""
        stream, frame, frames = self._new(size)
        with _sender(_start_frame(), frame, frames) as (port, go):
            process = _start(
                "ingest",
                *("--stream", stream, "--address", "127.0.0.1", "--port", str(port)),
                *("--bootstrap-servers", self._servers, "--spool-dir", str(self._directory / "spool")),
            )
            memory = Anonymous(process)
            self._await(frames_topic(stream), _FACTS_BEFORE_FRAMES)
            seconds = self._time(go, frames_topic(stream), _FACTS_BEFORE_FRAMES + frames * _chunks(len(frame)))
            most = memory.stop()
            process.terminate()
            process.wait()
        return Run("ingest", size, frames * len(frame), seconds, most), stream

    def bare_ingest(self, size: int) -> Run:
        """The bare loop, socket → acknowledged."""
        stream, frame, frames = self._new(size)
        with _sender(b"", frame, frames) as (port, go):
            process = _start(
                "bench.bare",
                *("ingest", self._servers, frames_topic(stream), str(port), str(len(frame)), str(frames)),
            )
            memory = Anonymous(process)
            seconds = self._time(go, frames_topic(stream), frames * _chunks(len(frame)))
            most = memory.stop()
            process.wait()
        self._forget(stream)
        return Run("ingest bare", size, frames * len(frame), seconds, most)

    def archiver(self, size: int, stream: str) -> list[Run]:
        """Ours, from the first record written: topic → all of them in the file, synced; and to its finished name."""
        data = self._directory / f"data-{self._count}"
        frames, frame = self._frames(size)
        process = _start(
            "archiver",
            *("--data-dir", str(data), "--stream", stream, "--group", f"bench-{self._count}"),
            *("--bootstrap-servers", self._servers),
        )
        self._count += 1
        memory = Anonymous(process)
        started = self._await_bytes(data, 1)
        written = self._await_bytes(data, frames * len(frame))
        assert process.stderr
        finished = next(_time_of(line) for line in process.stderr if " finished " in line)
        most = memory.stop()
        process.terminate()
        process.wait()
        (file,) = data.glob("*/*/*.g3")
        if file.stat().st_size != frames * len(frame):
            raise SystemExit(f"{file} has {file.stat().st_size} bytes, not {frames * len(frame)}")
        total = frames * len(frame)
        verified = self.verify(size, stream, data, file)
        file.unlink()
        return [
            *verified,
            Run("archiver", size, total, written - started, most),
            Run("archiver finished", size, total, finished - started, most),
        ]

    def verify(self, size: int, stream: str, data: Path, file: Path) -> list[Run]:
        """`archiver verify` and `sha256sum`, on one file that lies in the page cache; start included, in turns."""
        group = f"bench-{self._count - 1}"
        ours = ["--data-dir", str(data), "--stream", stream, "--group", group, "--bootstrap-servers", self._servers]
        commands = {
            "verify": [sys.executable, "-m", "archiver", "verify", *ours],
            "sha256sum": ["sha256sum", str(file)],
        }
        found = []
        subprocess.run(commands["sha256sum"], check=True, capture_output=True)  # into the page cache
        for what in sorted(commands, reverse=self._count % 2 == 0):
            started = time.perf_counter()
            process = subprocess.Popen(commands[what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            memory = Anonymous(process)
            output, _ = process.communicate()
            seconds = time.perf_counter() - started
            if process.returncode:
                raise SystemExit(f"{what}: {output}")
            found.append(Run(what, size, file.stat().st_size, seconds, memory.stop()))
        return found

    def replay(self, size: int, stream: str) -> Run:
        """`archiver replay`, from the first record written to its end: file synced, digested, named."""
        data = self._directory / f"data-{self._count}"
        self._count += 1
        frames, frame = self._frames(size)
        process = _start(
            *("archiver", "replay", "--data-dir", str(data), "--stream", stream),
            *("--bootstrap-servers", self._servers),
        )
        memory = Anonymous(process)
        started = self._await_bytes(data, 1)
        process.wait()
        seconds = time.time() - started
        (file,) = data.glob("*/*/*.g3")
        if file.stat().st_size != frames * len(frame):
            raise SystemExit(f"{file} has {file.stat().st_size} bytes, not {frames * len(frame)}")
        file.unlink()
        return Run("replay", size, frames * len(frame), seconds, memory.stop())

    def _await_bytes(self, data: Path, count: int) -> float:
        """When the one file below the directory has so many bytes, synced: by us, as the bare loop does itself."""
        while True:
            for path in data.rglob("*_[0-9]*"):
                with contextlib.suppress(FileNotFoundError):
                    if path.is_file() and path.stat().st_size >= count:
                        with path.open("rb") as file:
                            os.fdatasync(file.fileno())
                        return time.time()
            time.sleep(0.02)  # looking takes CPU from whom it looks at

    def bare_archiver(self, size: int, stream: str) -> Run:
        """The bare loop, topic → synced file."""
        frames, frame = self._frames(size)
        path = self._directory / "bare"
        process = _start(
            "bench.bare",
            *("archiver", self._servers, frames_topic(stream), str(frames * len(frame)), str(path)),
        )
        memory = Anonymous(process)
        assert process.stdout
        seconds = float(process.stdout.read())
        most = memory.stop()
        process.wait()
        path.unlink()
        return Run("archiver bare", size, frames * len(frame), seconds, most)

    def _forget(self, stream: str) -> None:
        """Delete a stream's records."""
        self._admin.delete_topics([frames_topic(stream)])[frames_topic(stream)].result()

    def _frames(self, size: int) -> tuple[int, bytes]:
        frame = _frame(size)
        return -(-self._total // len(frame)), frame

    def _new(self, size: int) -> tuple[str, bytes, int]:
        self._count += 1
        stream = f"bench-{self._count}"
        topic = NewTopic(frames_topic(stream), 1, 1, config=dict(FRAMES_TOPIC_CONFIG))
        self._admin.create_topics([topic])[frames_topic(stream)].result()
        frames, frame = self._frames(size)
        return stream, frame, frames

    def _time(self, go: Callable[[], None], topic: str, records: int) -> float:
        started = time.perf_counter()
        go()
        self._await(topic, records)
        return time.perf_counter() - started

    def _await(self, topic: str, records: int) -> None:
        """Return when the topic has that many records. Its end is asked for, so that no consumer takes CPU."""
        consumer = Consumer({"bootstrap.servers": self._servers, "group.id": "watch"})
        while consumer.get_watermark_offsets(TopicPartition(topic, 0))[1] < records:
            time.sleep(0.005)
        consumer.close()


@contextmanager
def _sender(first: bytes, frame: bytes, frames: int) -> Iterator[tuple[int, Callable[[], None]]]:
    """A process that sends ready bytes: `first` to whom connects, the frames when told to go."""
    with tempfile.NamedTemporaryFile() as content:
        content.write(frame)
        content.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.sender", content.name, str(frames), first.hex()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin
        assert process.stdout
        port = int(process.stdout.readline())

        def go() -> None:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()

        yield port, go
        process.kill()
        process.wait()


def _time_of(line: str) -> float:
    return datetime.fromisoformat(line.split()[0]).timestamp()


def _start(module: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a contestant, on a disk that has nothing left to write of those before it."""
    os.sync()
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _frame(size: int) -> bytes:
    frame = core.G3Frame(core.G3FrameType.Scan)
    frame["sostream_id"] = "bench"
    frame["session_id"] = 1
    frame["frame_num"] = 1
    frame["data"] = core.G3String("x" * size)
    data: bytes = frame._cereal_dumps()
    return data


def _start_frame() -> bytes:
    frame = core.G3Frame(getattr(core.G3FrameType, "none"))  # noqa: B009 - none is a frame type's name
    frame["sostream_flowcontrol"] = 1
    data: bytes = frame._cereal_dumps()
    return data


def _chunks(length: int) -> int:
    return -(-length // CHUNK_BYTES)


def _table(runs: list[Run]) -> Table:
    table = Table(title="medians (least to most) of interleaved runs, MB/s; anonymous memory", box=None)
    for heading in ("", "frame", "ours", "bare", "ours / bare", "ours, memory", "bare, memory"):
        table.add_column(heading, justify="right")
    for what, (beside, meaning) in _CONTESTS.items():
        for size in SIZES:
            ours = [run for run in runs if (run.what, run.frame_bytes) == (what, size)]
            bare = [run for run in runs if (run.what, run.frame_bytes) == (beside, size)]
            table.add_row(
                meaning,
                f"{size // 1000} kB",
                *(_rates(found) for found in (ours, bare)),
                f"{_median(ours) / _median(bare):.2f}",
                *(f"{max(run.anonymous_bytes for run in found) / 1e6:.0f} MB" for found in (ours, bare)),
            )
    return table


def _median(runs: list[Run]) -> float:
    return statistics.median(run.rate for run in runs)


def _rates(runs: list[Run]) -> str:
    rates = sorted(run.rate for run in runs)
    return f"{statistics.median(rates):.0f} ({rates[0]:.0f} to {rates[-1]:.0f})"


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=2000, help="moved in each run (default 2000)")
    parser.add_argument("--repetitions", type=int, default=3, help="of each run (default 3)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    console = Console()
    console.print(f"{platform.machine()}, Python {platform.python_version()}, Kafka {KAFKA_VERSION} beside it")
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as name, Broker(Path(name) / "kafka") as broker:
        bench = Bench(broker.bootstrap_servers, Path(name), options.megabytes * 1_000_000)
        for size in SIZES:
            for repetition in range(options.repetitions + 1):
                found = bench.round(size, ours_first=repetition % 2 == 0)
                if repetition:  # the first warms the broker up
                    runs += found
                    console.print(", ".join(f"{run.what} {run.rate:.0f}" for run in found), style="dim")
    console.print(_table(runs))
    if options.json:
        options.json.write_text(json.dumps([asdict(run) for run in runs], indent=1))


if __name__ == "__main__":
    main()
