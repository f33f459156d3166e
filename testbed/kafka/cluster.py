"""Several embedded brokers as one cluster on one machine: as at an observatory, any one of them may fail.

A broker takes 0.3 GB of memory. They share one disk, so a cluster doesn't survive the failure of that disk.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from testbed.child_process import free_port
from testbed.kafka.broker import Broker, Node, installation_with_class_archive, new_cluster
from testbed.server import ServerError, StartStop

_IN_SYNC_TIMEOUT_SECONDS = 60.0
_MAX_COPIES = 3


class Cluster(StartStop):
    """Brokers with 3 replicas of each partition, of which 2 must be in sync; each is a controller too.

    directory: for the brokers' directories; made if missing.
    size: number of brokers; two have 2 replicas, of which 1 must be in sync.
    port: of the first broker on 127.0.0.1; the next brokers have the next ports. 0 takes free ones, which they keep
    over restarts.
    properties: broker settings that add to, or replace, those in broker.py.
    Not safe to use from two threads at once. The brokers are killed when this process ends.
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
        """By node id, from 1. Each may be stopped, killed, and started again."""

    @property
    def bootstrap_servers(self) -> str:
        """The value of `bootstrap.servers` for clients: all brokers, so that any may be down."""
        return ",".join(broker.bootstrap_servers for broker in self.brokers.values())

    def start(self) -> None:
        """Start all that aren't running, in parallel, and return when all answer. Raises ServerError."""
        installation_with_class_archive()  # once, not in each
        _run_in_parallel(broker.start for broker in self.brokers.values() if broker.pid is None)

    def stop(self) -> None:
        """Stop all in order. Those that can't stop, because the quorum has gone, are killed."""
        _run_in_parallel(broker.stop for broker in self.brokers.values())

    def await_in_sync(self, seconds: float = _IN_SYNC_TIMEOUT_SECONDS) -> None:
        """Return when all brokers are up and all replicas in sync. Raises ServerError after this time."""
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
                    raise ServerError(f"not in sync in {seconds:g} s: {', '.join(behind)}")
                time.sleep(0.05)


def _copies(copies: int) -> Mapping[str, str]:
    """Return broker settings for so many replicas, all but one of which must be in sync."""
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
    """Return the id of the cluster whose data is in this broker directory, if any."""
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
    """Run the actions in parallel and wait for all. Raises what the first failed one raised."""
    pending = list(actions)
    with ThreadPoolExecutor(max(1, len(pending)), "brokers") as pool:
        futures = [pool.submit(action) for action in pending]
    for future in futures:
        future.result()
