"""Several embedded brokers as one cluster, on one machine: any one of them may die, as at an observatory.

Three processes with 0.3 GB of memory each; they share its disk, so nothing survives that.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from testbed.child_process import free_port
from testbed.kafka.broker import Broker, Node, installation_with_class_archive, new_cluster
from testbed.kafka.distribution import BrokerError

_IN_SYNC_TIMEOUT_SECONDS = 60.0
_MAX_COPIES = 3


class Cluster:
    """Brokers that keep three copies of everything and acknowledge what two have; each is a controller too.

    directory: of their data, one directory each, made if missing. size: how many; two of them keep two copies, and
    acknowledge what one has. port: of the first on 127.0.0.1, the others' follow; 0 takes free ones, which they keep
    over restarts. properties: broker settings that add to, or replace, ours.
    Not safe to use from two threads at once. The brokers die with this process.
    """

    def __init__(
        self, directory: Path, size: int = 3, port: int = 0, properties: Mapping[str, str] | None = None
    ) -> None:
        numbers = range(1, size + 1)
        ports = _free_ports(2 * size)
        controllers = dict(zip(numbers, ports, strict=False))
        listeners = dict(zip(numbers, range(port, port + size) if port else ports[size:], strict=True))
        directories = {number: directory / f"broker{number}" for number in numbers}
        cluster = next(filter(None, map(_cluster_of, directories.values())), None) or new_cluster()
        settings = {**_copies(min(size, _MAX_COPIES)), **(properties or {})}
        self.brokers: Mapping[int, Broker] = {
            number: Broker(directories[number], listeners[number], settings, node=Node(number, cluster, controllers))
            for number in numbers
        }
        """By their number, from 1, which is what Kafka calls them too. Each may be stopped, killed, started again."""

    @property
    def bootstrap_servers(self) -> str:
        """What clients take as `bootstrap.servers`: all of them, so that any may be away."""
        return ",".join(broker.bootstrap_servers for broker in self.brokers.values())

    def start(self) -> None:
        """Start those that don't run, at once, and return when all answer. Raises BrokerError."""
        installation_with_class_archive()  # once, not in each
        _run_in_parallel(broker.start for broker in self.brokers.values() if broker.pid is None)

    def stop(self) -> None:
        """Stop all in order. Those that can't be, as too few are left to agree on anything, are killed."""
        _run_in_parallel(broker.stop for broker in self.brokers.values())

    def await_in_sync(self, seconds: float = _IN_SYNC_TIMEOUT_SECONDS) -> None:
        """Return when all brokers are there, with all that they are to have. Raises BrokerError after that long."""
        admin = AdminClient(
            {"bootstrap.servers": self.bootstrap_servers, "log_level": 0, "allow.auto.create.topics": False}
        )
        deadline = time.monotonic() + seconds
        behind = ["no broker answers"]
        while behind:
            try:
                found = admin.list_topics(timeout=1)
                behind = [f"broker {number}" for number in self.brokers if number not in found.brokers]
                behind += [
                    f"{topic.topic}/{partition.id}"
                    for topic in found.topics.values()
                    for partition in topic.partitions.values()
                    if set(partition.isrs) != set(partition.replicas)
                ]
            except KafkaException as error:
                behind = [str(error)]
            if behind:
                if time.monotonic() > deadline:
                    raise BrokerError(f"not in sync in {seconds:g} s: {', '.join(behind)}")
                time.sleep(0.05)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _copies(copies: int) -> Mapping[str, str]:
    """The settings for so many copies of everything, all but one of which must be there."""
    enough = str(max(1, copies - 1))
    internal = ("transaction.state.log", "share.coordinator.state.topic")
    return {
        "default.replication.factor": str(copies),
        "min.insync.replicas": enough,
        "offsets.topic.replication.factor": str(copies),
        **{f"{topic}.replication.factor": str(copies) for topic in internal},
        **{f"{topic}.min.isr": enough for topic in internal},
    }


def _cluster_of(directory: Path) -> str | None:
    """The id of the cluster whose data lie there, if any."""
    try:
        lines = (directory / "data" / "meta.properties").read_text().splitlines()
    except FileNotFoundError:
        return None
    return next((line.removeprefix("cluster.id=") for line in lines if line.startswith("cluster.id=")), None)


def _free_ports(count: int) -> list[int]:
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


def _run_in_parallel(actions: Iterable[Callable[[], None]]) -> None:
    """Do them at the same time, all to their end; raises what the first that failed raised."""
    wanted = list(actions)
    with ThreadPoolExecutor(max(1, len(wanted)), "brokers") as pool:
        done = [pool.submit(action) for action in wanted]
    for each in done:
        each.result()
