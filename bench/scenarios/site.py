"""The site of all contestants: one broker, a directory, and topics that are made and deleted."""

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported without saying so

from bench.load.frames import Frames, start_frame
from bench.measure.process_cost import ContestError, Measured, Used, cpu_seconds
from bench.report.results import BROKER
from g3stream.contract.topics import FRAMES_TOPIC_CONFIG, frames_topic
from testbed.kafka.broker import Broker

BROKER_PROPERTIES: Mapping[str, str] = {
    "log.segment.delete.delay.ms": "1000",  # by default deleted topics stay on the disk for a minute
    "log.retention.check.interval.ms": "1000",
}
_TIMEOUT_SECONDS = 300.0
_POLL_SECONDS = 0.005
_STILL_SECONDS = 2.0


class Site:
    """One broker, and a directory for the contestants' files. total: bytes to move in each run."""

    def __init__(self, broker: Broker, directory: Path, total: int) -> None:
        self.servers = broker.bootstrap_servers
        self.total = total
        self._broker = broker
        self._directory = directory
        self._admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        self._watch = Consumer({"bootstrap.servers": self.servers, "group.id": "watch", "log_level": 0})

    def stream(self, config: Mapping[str, str] | None = None) -> str:
        """Make a new stream's topic. Returns the stream's name."""
        stream = f"bench-{secrets.token_hex(4)}"
        topic = frames_topic(stream)
        new = NewTopic(topic, 1, 1, config={**FRAMES_TOPIC_CONFIG, **(config or {})})
        self._admin.create_topics([new])[topic].result()
        until = time.monotonic() + _TIMEOUT_SECONDS
        while True:
            try:
                # Some parts of the broker may not know it yet; list_topics refreshes the client's metadata.
                self._watch.list_topics(topic, timeout=10)
                self.records(stream)
                return stream
            except KafkaException:
                if time.monotonic() > until:
                    raise
                time.sleep(_POLL_SECONDS)

    def forget(self, stream: str) -> None:
        """Delete a stream's topic."""
        self._admin.delete_topics([frames_topic(stream)])[frames_topic(stream)].result()

    def new_path(self, name: str) -> Path:
        """Return a path that isn't in use."""
        return self._directory / f"{name}-{secrets.token_hex(4)}"

    def records(self, stream: str) -> int:
        """Return the number of messages of a stream: its end offset, so that no consumer takes CPU."""
        end: int = self._watch.get_watermark_offsets(TopicPartition(frames_topic(stream), 0), 10)[1]
        return end

    def await_records(self, stream: str, count: int) -> None:
        """Wait until the stream has `count` messages. Raises ContestError."""
        until = time.monotonic() + _TIMEOUT_SECONDS
        while (found := self.records(stream)) < count:
            if time.monotonic() > until:
                raise ContestError(f"only {found} of {count} records were published")
            time.sleep(_POLL_SECONDS)

    def await_committed(self, stream: str, group: str) -> None:
        """Wait until the group has committed all of the stream. Raises ContestError."""
        until = time.monotonic() + _TIMEOUT_SECONDS
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": group, "log_level": 0})
        with contextlib.closing(consumer):
            while True:
                (found,) = consumer.committed([TopicPartition(frames_topic(stream), 0)], 10)
                if found.offset == (there := self.records(stream)):
                    return
                if time.monotonic() > until:
                    raise ContestError(f"{found.offset} is committed, not {there}")
                time.sleep(_POLL_SECONDS)

    def broker_cpu(self) -> float:
        """Return the broker's CPU seconds."""
        assert self._broker.pid
        return cpu_seconds(self._broker.pid)

    def broker_used(self, cpu_before: float) -> Used:
        """Return what the broker has used since `broker_cpu` was `cpu_before`; its memory is the present one."""
        status = Path(f"/proc/{self._broker.pid}/status").read_text()
        anonymous = int(status.partition("RssAnon:")[2].split()[0]) * 1024
        return Used(anonymous, self.broker_cpu() - cpu_before)

    def ingest(self, stream: str, port: int, servers: str | None = None, spool: Path | None = None) -> Measured:
        """Start ingest. servers: of a Kafka other than the site's. spool: its directory, if it matters."""
        settle()
        return Measured(self.ingest_command(stream, port, servers, spool), env=environment())

    def archiver(self, stream: str, data: Path, *arguments: str) -> Measured:
        """Start the archiver, with a consumer group named as the data directory."""
        settle()
        return Measured([*self.archiver_command(stream, data), *arguments], env=environment())

    def ingest_command(
        self, stream: str, port: int, servers: str | None = None, spool: Path | None = None
    ) -> list[str]:
        """Return ingest's command line."""
        source = ["--stream", stream, "--address", "127.0.0.1", "--port", str(port)]
        spool_dir = ["--spool-dir", str(spool or self.new_path("spool"))]
        return [sys.executable, "-m", "ingest", *source, *spool_dir, "--bootstrap-servers", servers or self.servers]

    def archiver_command(self, stream: str, data: Path, name: str | None = None) -> list[str]:
        """Return the archiver's command line. name: one of its commands (verify, replay)."""
        archive = ["--data-dir", str(data), "--group", data.name, "--bootstrap-servers", self.servers]
        return [sys.executable, "-m", "archiver", *([name] if name else []), *archive, "--stream", stream]

    @contextmanager
    def sender(self, frames: Frames, first: bytes, times: int = 0) -> Iterator[tuple[Measured, int]]:
        """Start a process that sends `first` to its client, and the frames N times on the line N. Yields its port.

        times: the expected N, for which the frames are prepared.
        """
        path = self.new_path("frames")
        path.write_bytes(frames.unit)
        start = self.new_path("first")
        start.write_bytes(first)
        try:
            with program("bench.load.sender", str(path), str(start), str(times), stdin=True) as sender:
                yield sender, int(sender.line())
        finally:
            path.unlink()
            start.unlink()

    def fill(self, stream: str, frames: Frames, total: int | None = None) -> tuple[float, dict[str, Used]]:
        """Run ingest, socket → acknowledged, with `total` bytes. Returns the seconds and what was used."""
        times = frames.times(total or self.total)
        with (
            self.sender(frames, start_frame(), times) as (sender, port),
            self.ingest(stream, port) as ingest,
        ):
            self.await_records(stream, _FACTS)
            there = self.records(stream)  # may include a record of the kind `quiet`
            before = self.broker_cpu()
            ingest.begin()
            begun = time.perf_counter()
            sender.send(str(times))
            self.await_records(stream, there + frames.records(times))
            seconds = time.perf_counter() - begun
            used = {"ingest": ingest.used(), BROKER: self.broker_used(before)}
            ingest.end()
        return seconds, used


_FACTS = 3  # before frames: lost (ingest started), connected, start


def program(module: str, *arguments: str, stdin: bool = False) -> Measured:
    """Start one of the benchmark's programs."""
    return Measured([sys.executable, "-m", module, *arguments], stdin=stdin, env=environment())


def environment() -> dict[str, str]:
    """This process's environment, without the variables that ingest and archiver read."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("INGEST_", "ARCHIVER_", "LOGLEVEL", "KAFKA_"))}


def settle() -> None:
    """Sync the disk, so that it has nothing left to write from previous contestants."""
    os.sync()


class Growing:
    """The one file that an archiver has open, held by a descriptor so that renaming it doesn't matter."""

    def __init__(self, data: Path, archiver: Measured) -> None:
        """Wait until it has its first bytes. Raises ContestError."""
        until = time.monotonic() + _TIMEOUT_SECONDS
        while (found := _first(data)) is None:
            if not archiver.running or time.monotonic() > until:
                raise ContestError(f"no file appears in {data}")
            time.sleep(_POLL_SECONDS)
        self.path = found
        self._file = os.open(found, os.O_RDONLY)

    @property
    def size(self) -> int:
        """Its size, bytes."""
        return os.fstat(self._file).st_size

    def await_size(self, size: int) -> None:
        """Wait until it has `size` bytes. Raises ContestError."""
        until = time.monotonic() + _TIMEOUT_SECONDS
        while self.size < size:
            if time.monotonic() > until:
                raise ContestError(f"{self.path} has {self.size} bytes, not {size}")
            time.sleep(_POLL_SECONDS)

    def await_still(self) -> None:
        """Wait until it hasn't grown for two seconds."""
        size, since = self.size, time.monotonic()
        while time.monotonic() - since < _STILL_SECONDS:
            time.sleep(_POLL_SECONDS)
            if (now := self.size) != size:
                size, since = now, time.monotonic()

    def sync(self) -> None:
        """Make it durable."""
        os.fdatasync(self._file)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._file)


def _first(data: Path) -> Path | None:
    """Find a file of frames that isn't empty, partial or finished."""
    for path in data.rglob("*_[0-9]*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and path.stat().st_size:
                return path
    return None
