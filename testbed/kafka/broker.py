"""One embedded broker: a process, its settings and its data. It may be a member of a cluster (cluster.py)."""

import shutil
import subprocess
import sys
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from testbed.child_process import HOST, free_port, is_free, start_child_process
from testbed.kafka.distribution import Installation, installation
from testbed.server import Server, ServerError

_START_TIMEOUT_SECONDS = 180.0

LOG4J = """\
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
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,"
    + ",".join(f"{protocol}:{protocol}" for protocol in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")),
    # All other settings have Kafka's defaults, `auto.create.topics.enable` too: a client that only asks for a topic
    # creates it, with the broker's settings, not with ours.
    # By default the first member of a group waits 3 s for others before it is assigned its streams, at each of the
    # tests' hundreds of starts. 0 hides no fault: every further member still causes a rebalance.
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
    # After kill -9 it may register again only when its old session has expired (default: 9 s).
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "200",
    # Less memory than the defaults for big machines.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "4194304",
}


@dataclass(frozen=True, slots=True)
class Node:
    """A broker's place in its cluster."""

    number: int
    """Its node id, from 1."""
    cluster: str
    """The cluster's id."""
    controllers: Mapping[int, int]
    """The controller port of every broker, by number: each broker is a controller too."""


def new_cluster() -> str:
    """Return an id for a new cluster."""
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")


def installation_with_class_archive() -> Installation:
    """Return the installation of Kafka, making first the class archive with which it starts faster, if missing.

    Raises ServerError.
    """
    kafka = installation()
    if not kafka.archive.exists():
        _make_class_archive(kafka)
    return kafka


class Broker(Server):
    """One broker with its data in a directory, which can be stopped, killed, and started again.

    directory: for everything it writes (`data/`, `kafka.log`, its settings); made if missing.
    port: where it listens on 127.0.0.1; 0 takes a free one, which it keeps over restarts.
    properties: broker settings that add to, or replace, those in this module.
    listeners: ports of further listeners, by security protocol (SSL, SASL_PLAINTEXT, SASL_SSL), which `properties`
    configures. `bootstrap_servers` remains the plaintext one.
    node: its place in a cluster; None for a single broker.
    """

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, int] | None = None,
        node: Node | None = None,
    ) -> None:
        super().__init__("the broker", directory.absolute() / "kafka.log")
        self._directory = directory.absolute()
        self._port = port or free_port()
        self._properties = dict(properties or {})
        self._listeners = {"PLAINTEXT": self._port, **(listeners or {})}
        self._node = node

    @property
    def bootstrap_servers(self) -> str:
        """The value of `bootstrap.servers` for its clients."""
        return f"{HOST}:{self._port}"

    def start(self) -> None:
        """Start it, with the data it has, and return when it answers. Raises ServerError.

        A member of a cluster answers when more than half of the cluster's brokers run.
        """
        self._launch(installation_with_class_archive())

    def _launch(self, kafka: Installation, flags: Sequence[str] = ()) -> None:
        if self.pid is not None:
            raise ServerError(f"the broker in {self._directory} is running already")
        if not is_free(self._port):
            raise ServerError(f"port {self._port} on {HOST} is in use")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            settings = self._write_settings()
            if not (self._directory / "data").exists():
                self._format(kafka)
        except OSError as error:
            raise ServerError(f"can't start a broker in {self._directory}: {error}") from error
        client = AdminClient(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 50,
                "log_level": 0,  # refused connections are expected until it is up
                "allow.auto.create.topics": False,
            }
        )
        number = self._node.number if self._node else 1

        def is_ready() -> bool:
            try:
                return number in client.list_topics(timeout=0.2).brokers
            except KafkaException:
                return False

        command = kafka.command("kafka.Kafka", str(settings), flags=(*self._log_flags(), *flags))
        self._start_process(command, is_ready, _START_TIMEOUT_SECONDS)

    def _log_flags(self) -> tuple[str, ...]:
        return (f"-Dlog4j2.configurationFile={self._directory / 'log4j2.properties'}",)

    def _write_settings(self, data: str = "data") -> Path:
        # A single broker needs no fixed controller port: nothing else connects to it.
        node = self._node or Node(1, "", {1: free_port()})
        listeners = ",".join(f"{protocol}://{HOST}:{port}" for protocol, port in self._listeners.items())
        settings = {
            **_PROPERTIES,
            "node.id": str(node.number),
            "listeners": f"{listeners},CONTROLLER://{HOST}:{node.controllers[node.number]}",
            "advertised.listeners": listeners,
            "controller.quorum.voters": ",".join(f"{n}@{HOST}:{port}" for n, port in node.controllers.items()),
            "log.dirs": str(self._directory / data),
            **self._properties,
        }
        (self._directory / "log4j2.properties").write_text(LOG4J)
        path = self._directory / "server.properties"
        # In a Java properties file a backslash escapes.
        path.write_text("".join(f"{key}={value}\n".replace("\\", "\\\\") for key, value in settings.items()))
        return path

    def _format(self, kafka: Installation) -> None:
        """Make its empty storage directory, atomically."""
        shutil.rmtree(self._directory / "data.new", ignore_errors=True)
        settings = self._write_settings("data.new")
        cluster = self._node.cluster if self._node else new_cluster()
        arguments = "format", "-t", cluster, "-c", str(settings)
        command = kafka.command("kafka.tools.StorageTool", *arguments, flags=self._log_flags())
        with self.log.open("ab") as log:
            tool = start_child_process(command, stdout=log, stderr=subprocess.STDOUT)
        if tool.wait() != 0:
            raise ServerError(f"can't format {self._directory / 'data'}{self._tail()}")
        (self._directory / "data.new").rename(self._directory / "data")
        self._write_settings()


def _make_class_archive(kafka: Installation) -> None:
    """Run a broker once, and keep the classes that it loaded as the installation's archive."""
    print("Preparing a class archive with which Kafka starts faster, once", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix=".training-", dir=kafka.archive.parent) as scratch:
        made = Path(scratch, "archive.jsa")
        broker = Broker(Path(scratch, "broker"))
        try:
            broker._launch(kafka, flags=(f"-XX:ArchiveClassesAtExit={made}",))
            broker.stop()
        except BaseException:
            broker.kill()
            raise
        made.touch()  # an empty one, if this Java can't make archives
        made.rename(kafka.archive)
