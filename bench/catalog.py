"""How fast the catalog is made, and answers: `python -m bench.catalog [FILES]`, with a broker of its own.

It publishes events of so many finished files, and runs the commands that an operator would, as whole processes.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from archiver.core.checkpoint import Checkpoint, RecordId
from archiver.core.events import FileFinished, encode
from archiver.core.paths import NameFormat, file_path
from archiver.core.segmentation import CloseReason, Settings, State
from archiver.core.used_names import Names
from g3stream.contract.headers import Kind
from g3stream.contract.topics import FILES_TOPIC
from testbed.kafka.broker import Broker

_STREAMS = 20
_EPOCH = "0" * 15 + "1"
_FIRST_S = 1_700_000_000
_PERIOD_S = 600
_FILES_OF_ACQUISITION = 6
_REPEATS = 5


def event(index: int) -> FileFinished:
    """Return the event of a file: those of a stream follow each other, six to an acquisition and a session."""
    stream, number = f"stream-{index % _STREAMS:02d}", index // _STREAMS
    suffix = number % _FILES_OF_ACQUISITION
    start_s = _FIRST_S + (number - suffix) * _PERIOD_S
    first_ms = 1000 * (_FIRST_S + number * _PERIOD_S)
    first = RecordId(1000 * number, _EPOCH, 1000 * number, first_ms)
    last = RecordId(first.offset + 998, _EPOCH, first.seq + 998, first_ms + 1000 * _PERIOD_S - 5)
    closing = RecordId(last.offset + 1, _EPOCH, last.seq + 1, last.time + 5, Kind.FRAME)
    is_last = suffix == _FILES_OF_ACQUISITION - 1
    state = State(
        stream, last_frame_ms=last.time, names=Names(start_s, start_s, suffix, suffix), session=start_s, num=number
    )
    return FileFinished(
        group="archiver",
        stream=stream,
        path=file_path(start_s, stream, suffix, NameFormat.DATE),
        number=number + 1,
        id=stream,
        start=start_s,
        suffix=suffix,
        settings=Settings(),
        why=CloseReason.END if is_last else CloseReason.TIME,
        frames=999,
        missing=int(index % 1000 == 0),
        bytes=400_000_000,
        sha256=f"{index:064x}",
        carry=(79,) if suffix else (),
        first=first,
        last=last,
        closing=closing,
        offset=closing.offset,
        checkpoint=Checkpoint(state, ((_EPOCH, last.seq),), number + 1),
        host="bench",
    )


def publish(servers: str, count: int) -> None:
    """Publish the events of so many files on a new topic."""
    admin = AdminClient({"bootstrap.servers": servers})
    topic = NewTopic(FILES_TOPIC, 1, 1, config={"retention.ms": "-1"})
    admin.create_topics([topic])[FILES_TOPIC].result()
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20})
    for index in range(count):
        made = event(index)
        producer.produce(FILES_TOPIC, encode(made), made.key.encode(), partition=0)
        if index % 5000 == 0:
            producer.flush()
    producer.flush()


class Taken(NamedTuple):
    """What a command took, as a whole process."""

    seconds: float
    cpu_seconds: float


def taken(servers: str, *arguments: str) -> Taken:
    """Run a command of the archiver; return what it took."""
    command = [sys.executable, "-m", "archiver", *arguments, "--bootstrap-servers", servers]
    begun_s, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(time.monotonic() - begun_s, cpu_s)


def main() -> None:
    """Print a line for each figure: the best of several."""
    parser = argparse.ArgumentParser(prog="python -m bench.catalog", description=__doc__)
    parser.add_argument("files", nargs="?", type=int, default=100_000, metavar="FILES")
    count = parser.parse_args().files
    with tempfile.TemporaryDirectory() as directory, Broker(Path(directory, "kafka")) as broker:
        servers, data = broker.bootstrap_servers, Path(directory, "data")
        (data / ".archiver").mkdir(parents=True)
        publish(servers, count)
        where = ("--data-dir", str(data))
        rebuild = min(taken(servers, "catalog", *where, "--rebuild") for _ in range(_REPEATS))
        size = (data / ".archiver" / "catalog.sqlite").stat().st_size
        rate = f"{count / rebuild.seconds:,.0f} a second"
        print(f"made again: {count:,} events in {rebuild.seconds:.2f} s ({rebuild.cpu_seconds:.2f} CPU s), {rate}")
        print(f"size: {size / 1e6:.1f} MB, {size / count:.0f} B for each file")
        middle_s = event(count // 2).start
        night = time.strftime("%Y-%m-%d", time.gmtime(middle_s))
        for name, arguments in {
            f"files --night {night}": (*where, "--night", night),
            f"files --session {middle_s}": (*where, "--session", str(middle_s)),
            'files --where "missing > 0"': (*where, "--where", "missing > 0"),
            "files --since of the last day": (*where, "--since", str(event(count - 1).start - 86_400)),
            "files (all, as JSON)": (*where, "--json"),
            "files --night, in memory": ("--night", night),
        }.items():
            best = min(taken(servers, "files", *arguments) for _ in range(_REPEATS))
            print(f"{name}: {best.seconds:.2f} s ({best.cpu_seconds:.2f} CPU s)", flush=True)


if __name__ == "__main__":
    main()
