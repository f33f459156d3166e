"""How fast the client library reads: `python -m bench.client [--sizes 200kB]`, with a broker of its own.

Each contestant reads the same topic in a process of its own, one after the other: a bare consumer loop, which only
counts bytes, with Kafka's own settings; the same with the library's settings and batches; `g3stream.records`;
`g3stream.frames`. Shown: the best speed of the rounds, and the most memory: resident, with libraries.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

import g3stream
from g3stream.client.source import SOURCE_CONFIG
from g3stream.contract.headers import CHUNK_BYTES, Kind, RecordHeaders
from g3stream.contract.topics import FRAMES_TOPIC_CONFIG, frames_topic
from g3stream.frame_format.layout import FRAME_TYPES
from testbed.kafka.broker import Broker

STREAM = "bench"
_SIZES = ("20kB", "200kB", "2MB")
_EPOCH = "0123456789abcdef"


def fill(servers: str, name: str, megabytes: int) -> None:
    """Publish frames of that size as ingest does."""
    from bench.load.frames import frames as frames_of  # not above: spt3g's memory isn't that of the bare loop

    topic = frames_topic(STREAM)
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, 1, 1, config=dict(FRAMES_TOPIC_CONFIG))])[topic].result(30)
    producer = Producer({"bootstrap.servers": servers, "message.max.bytes": 1_048_588, "linger.ms": 5})
    value = frames_of(name).unit
    parts = [value[at : at + CHUNK_BYTES] for at in range(0, len(value), CHUNK_BYTES)]
    for seq in range(megabytes * 1_000_000 // len(value)):
        headers = RecordHeaders(Kind.FRAME, _EPOCH, seq, FRAME_TYPES["Scan"], STREAM, 1, seq)
        for k, part in enumerate(parts, 1):
            producer.produce(topic, part, headers=[*headers._replace(chunk=(k, len(parts))).to_text()], partition=0)
        producer.poll(0)
        if seq % 20 == 0:
            producer.flush()
    producer.flush()


def bare(servers: str) -> int:
    """Read with a bare loop; return the bytes."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bare", "enable.partition.eof": True})
    consumer.assign([TopicPartition(frames_topic(STREAM), 0, 0)])
    total = 0
    while (message := consumer.poll(10)) is not None and not message.error():
        total += len(message.value() or b"")
    consumer.close()
    return total


def tuned(servers: str) -> int:
    """Read with a bare loop that has the library's settings and batches; return the bytes."""
    consumer = Consumer({**SOURCE_CONFIG, "bootstrap.servers": servers, "group.id": "tuned"})
    consumer.assign([TopicPartition(frames_topic(STREAM), 0, 0)])
    total, messages = 0, consumer.consume(1, 10)
    while messages[-1].error() is None:
        total += sum(len(message.value() or b"") for message in messages)
        messages = consumer.consume(1, 10) + consumer.consume(20, 0)
    consumer.close()
    return total


def records(servers: str) -> int:
    """Read with g3stream.records; return the bytes."""
    with g3stream.records(STREAM, bootstrap_servers=servers) as found:
        return sum(len(it.value) for it in found if isinstance(it, g3stream.Record))


def frames(servers: str) -> int:
    """Read with g3stream.frames; return how many."""
    with g3stream.frames(STREAM, bootstrap_servers=servers) as found:
        return sum("data" in frame for frame in found)


CONTESTANTS: Mapping[str, Callable[[str], int]] = {"bare": bare, "tuned": tuned, "records": records, "frames": frames}


def main() -> None:
    """Run the contest, or one contestant of it."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--sizes", default=",".join(_SIZES), help="of frames (default: %(default)s)")
    flags.add_argument("--megabytes", type=int, default=1000, help="in the topic (default: %(default)s)")
    flags.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    flags.add_argument("--contestant", nargs=3, metavar=("NAME", "SERVERS", "MEGABYTES"), help=argparse.SUPPRESS)
    options = flags.parse_args()
    if options.contestant:
        name, servers, megabytes = options.contestant
        begin = time.perf_counter()
        assert CONTESTANTS[name](servers)
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        print(json.dumps([float(megabytes) / seconds, peak]))
        return
    for name in options.sizes.split(","):
        _contest(name, options.megabytes, options.rounds)


def _contest(size: str, megabytes: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as directory, Broker(Path(directory)) as broker:
        fill(broker.bootstrap_servers, size, megabytes)
        best = dict.fromkeys(CONTESTANTS, (0.0, 0.0))
        for _ in range(rounds):
            for name in CONTESTANTS:
                command = [sys.executable, "-m", "bench.client", "--contestant", name, broker.bootstrap_servers]
                done = subprocess.run([*command, str(megabytes)], check=True, capture_output=True, text=True)
                speed, peak = json.loads(done.stdout.splitlines()[-1])
                best[name] = max(best[name][0], speed), max(best[name][1], peak)
    for name, (speed, peak) in best.items():
        of_bare = speed / best["bare"][0]
        print(f"{size:>6}  {name:8} {speed:7.0f} MB/s  {of_bare:5.2f} of bare  {peak:5.0f} MB at most", flush=True)


if __name__ == "__main__":
    main()
