"""Where contestants meet: one broker, a directory, topics that come and go."""

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
    "log.segment.delete.delay.ms": "1000",  # the default keeps a minute's deleted topics on the disk
    "log.retention.check.interval.ms": "1000",
}
_PATIENCE_SECONDS = 300.0
_LOOK_SECONDS = 0.005
_STILL_SECONDS = 2.0


class Site:
    """One broker, and a directory for all that its contestants write. total: bytes to move in each run."""

    def __init__(self, broker: Broker, directory: Path, total: int) -> None:
        self.servers = broker.bootstrap_servers
        self.total = total
        self._broker = broker
        self._directory = directory
        self._admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        self._watch = Consumer({"bootstrap.servers": self.servers, "group.id": "watch", "log_level": 0})

    def stream(self, config: Mapping[str, str] | None = None) -> str:
        """A new stream's name; its topic is there."""
        stream = f"bench-{secrets.token_hex(4)}"
        topic = frames_topic(stream)
        new = NewTopic(topic, 1, 1, config={**FRAMES_TOPIC_CONFIG, **(config or {})})
        self._admin.create_topics([new])[topic].result()
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                # It may not be known to all parts of the broker yet; asking anew, or the client remembers that.
                self._watch.list_topics(topic, timeout=10)
                self.records(stream)
                return stream
            except KafkaException:
                if time.monotonic() > until:
                    raise
                time.sleep(_LOOK_SECONDS)

    def forget(self, stream: str) -> None:
        """Delete a stream's records."""
        self._admin.delete_topics([frames_topic(stream)])[frames_topic(stream)].result()

    def new_path(self, name: str) -> Path:
        """A path that nothing has."""
        return self._directory / f"{name}-{secrets.token_hex(4)}"

    def records(self, stream: str) -> int:
        """How many records the stream has; its topic's end is asked for, so that no consumer takes CPU."""
        end: int = self._watch.get_watermark_offsets(TopicPartition(frames_topic(stream), 0), 10)[1]
        return end

    def await_records(self, stream: str, count: int) -> None:
        """Return when the stream has so many. Raises ContestError."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while (found := self.records(stream)) < count:
            if time.monotonic() > until:
                raise ContestError(f"only {found} of {count} records have come")
            time.sleep(_LOOK_SECONDS)

    def await_committed(self, stream: str, group: str) -> None:
        """Return when the group has committed all that the stream has. Raises ContestError."""
        until = time.monotonic() + _PATIENCE_SECONDS
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": group, "log_level": 0})
        with contextlib.closing(consumer):
            while True:
                (found,) = consumer.committed([TopicPartition(frames_topic(stream), 0)], 10)
                if found.offset == (there := self.records(stream)):
                    return
                if time.monotonic() > until:
                    raise ContestError(f"{found.offset} is committed, not {there}")
                time.sleep(_LOOK_SECONDS)

    def broker_cpu(self) -> float:
        """CPU seconds that the broker has taken."""
        assert self._broker.pid
        return cpu_seconds(self._broker.pid)

    def broker_used(self, cpu_before: float) -> Used:
        """What the broker has used since `broker_cpu` was that. (Of its memory: what it has now.)"""
        status = Path(f"/proc/{self._broker.pid}/status").read_text()
        anonymous = int(status.partition("RssAnon:")[2].split()[0]) * 1024
        return Used(anonymous, self.broker_cpu() - cpu_before)

    def ingest(self, stream: str, port: int, servers: str | None = None, spool: Path | None = None) -> Measured:
        """Start ours. servers: of a Kafka other than the site's. spool: where its spool lies, if anyone asks."""
        settle()
        return Measured(self.ingest_command(stream, port, servers, spool), env=environment())

    def archiver(self, stream: str, data: Path, *arguments: str) -> Measured:
        """Start ours, in a consumer group of the data directory's name."""
        settle()
        return Measured([*self.archiver_command(stream, data), *arguments], env=environment())

    def ingest_command(
        self, stream: str, port: int, servers: str | None = None, spool: Path | None = None
    ) -> list[str]:
        """Its command line."""
        source = ["--stream", stream, "--address", "127.0.0.1", "--port", str(port)]
        spool_dir = ["--spool-dir", str(spool or self.new_path("spool"))]
        return [sys.executable, "-m", "ingest", *source, *spool_dir, "--bootstrap-servers", servers or self.servers]

    def archiver_command(self, stream: str, data: Path, name: str | None = None) -> list[str]:
        """Its command line. name: of one of its commands (verify, replay)."""
        archive = ["--data-dir", str(data), "--group", data.name, "--bootstrap-servers", self.servers]
        return [sys.executable, "-m", "archiver", *([name] if name else []), *archive, "--stream", stream]

    @contextmanager
    def sender(self, frames: Frames, first: bytes, times: int = 0) -> Iterator[tuple[Measured, int]]:
        """A process that sends `first` to whom connects, and the frames N times when told N; and its port.

        times: what it will be told, so that they are ready then.
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
        """Run ours, socket → acknowledged, for `total` bytes; gives the seconds and what was used."""
        times = frames.times(total or self.total)
        with (
            self.sender(frames, start_frame(), times) as (sender, port),
            self.ingest(stream, port) as ingest,
        ):
            self.await_records(stream, _FACTS)
            there = self.records(stream)  # a `quiet` may be among them
            before = self.broker_cpu()
            ingest.begin()
            begun = time.perf_counter()
            sender.tell(str(times))
            self.await_records(stream, there + frames.records(times))
            seconds = time.perf_counter() - begun
            used = {"ingest": ingest.used(), BROKER: self.broker_used(before)}
            ingest.end()
        return seconds, used


_FACTS = 3  # before frames: lost (ingest started), connected, start


def program(module: str, *arguments: str, stdin: bool = False) -> Measured:
    """Start one of the bench's own programs."""
    return Measured([sys.executable, "-m", module, *arguments], stdin=stdin, env=environment())


def environment() -> dict[str, str]:
    """Ours, but for what in it speaks to ingest and archiver."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("INGEST_", "ARCHIVER_", "LOGLEVEL", "KAFKA_"))}


def settle() -> None:
    """Return when the disk has nothing left to write of the contestants before."""
    os.sync()


class Growing:
    """The one file that an archiver has open, by its descriptor: it goes on being it under its final name."""

    def __init__(self, data: Path, archiver: Measured) -> None:
        """Return when it has its first bytes. Raises ContestError."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while (found := _first(data)) is None:
            if not archiver.running or time.monotonic() > until:
                raise ContestError(f"no file appears in {data}")
            time.sleep(_LOOK_SECONDS)
        self.path = found
        self._file = os.open(found, os.O_RDONLY)

    @property
    def size(self) -> int:
        """Bytes."""
        return os.fstat(self._file).st_size

    def await_size(self, size: int) -> None:
        """Return when it has so many bytes. Raises ContestError."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while self.size < size:
            if time.monotonic() > until:
                raise ContestError(f"{self.path} has {self.size} bytes, not {size}")
            time.sleep(_LOOK_SECONDS)

    def await_still(self) -> None:
        """Return when it has stopped growing, for two seconds."""
        size, since = self.size, time.monotonic()
        while time.monotonic() - since < _STILL_SECONDS:
            time.sleep(_LOOK_SECONDS)
            if (now := self.size) != size:
                size, since = now, time.monotonic()

    def sync(self) -> None:
        """Make durable what it has, whoever wrote it."""
        os.fdatasync(self._file)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)


def _first(data: Path) -> Path | None:
    """A file of frames below it that has bytes, whether it is still a partial or not."""
    for path in data.rglob("*_[0-9]*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and path.stat().st_size:
                return path
    return None
