"""How late frames are at the clients of `archiver relay`: `python -m bench.relay`, with a broker of its own.

Frames are published at a steady rate, as by ingest, but without it; each holds the time at which it was published. So
many clients read them in another process, which tells how late each frame is complete at each of them. One more
client connects, and never reads.
"""

import argparse
import os
import selectors
import socket
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path

from confluent_kafka import Producer

from bench.measure.process_cost import Measured
from bench.scenarios.site import BROKER_PROPERTIES, environment
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.topic_settings import ExpectedTopic, Role
from g3stream.contract.topics import frames_topic
from g3stream.frame_format.layout import FRAME_TYPES
from g3stream.kafka.topic_admin import TopicAdmin
from testbed.child_process import free_port
from testbed.kafka.broker import Broker

_STREAM, _EPOCH = "relayed", "0" * 15 + "1"
_READ_BYTES = 1 << 20
_TIME = struct.Struct("<Q")


def publish(servers: str, size: int, count: int, rate_hz: float) -> None:
    """Publish frames of that size at that rate."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 1})
    padding = os.urandom(size - _TIME.size)
    begun_s = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begun_s + number / rate_hz - time.monotonic()))
        headers = RecordHeaders(Kind.FRAME, _EPOCH, number, FRAME_TYPES["Scan"], num=number)
        value = _TIME.pack(time.time_ns()) + padding
        producer.produce(frames_topic(_STREAM), value, headers=[*headers.to_text()], partition=0)
        producer.poll(0)
    producer.flush(30)


def read(port: int, clients: int, size: int, count: int) -> None:
    """Read that many frames by so many clients; print how late they were: median, 99 %, and the latest, in ms."""
    selector, late_ms = selectors.DefaultSelector(), list[float]()
    stuck = socket.create_connection(("127.0.0.1", port))
    for _ in range(clients):
        selector.register(socket.create_connection(("127.0.0.1", port)), selectors.EVENT_READ, _Reading(size))
    print("ready", flush=True)
    left = clients * count
    while left:
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            data = key.fileobj.recv(_READ_BYTES)
            if not data:
                raise SystemExit("a client was disconnected")
            found = key.data.add(data, time.time_ns())
            late_ms += found
            left -= len(found)
    stuck.close()
    quantiles = statistics.quantiles(late_ms, n=100)
    print(f"{statistics.median(late_ms):.1f} {quantiles[98]:.1f} {max(late_ms):.1f}", flush=True)


class _Reading:
    """What one client has read: frames of `size` bytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._unread = size
        self._head = b""

    def add(self, data: bytes, now_ns: int) -> list[float]:
        """Add what it has received; return how late the frames are that are complete now, in ms."""
        found, view = [], memoryview(data)
        while view:
            taken = view[: self._unread]
            if len(self._head) < _TIME.size:
                self._head += bytes(taken[: _TIME.size - len(self._head)])
            self._unread -= len(taken)
            view = view[len(taken) :]
            if not self._unread:
                found.append((now_ns - _TIME.unpack(self._head)[0]) / 1e6)
                self._unread, self._head = self._size, b""
        return found


def main() -> None:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=__doc__)
    parser.add_argument("--clients", type=int, default=20, metavar="N", help="(default: 20)")
    parser.add_argument("--megabytes", type=float, default=10, metavar="N", help="a second (default: 10)")
    parser.add_argument("--size", type=int, default=200_000, metavar="BYTES", help="of a frame (default: 200000)")
    parser.add_argument("--seconds", type=float, default=60, metavar="N", help="(default: 60)")
    parser.add_argument("--read", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read(options.read[0], options.clients, options.size, options.read[1])
        return
    rate_hz = options.megabytes * 1e6 / options.size
    count, port = round(rate_hz * options.seconds), free_port()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        Broker(Path(directory) / "kafka", properties=BROKER_PROPERTIES) as broker,
    ):
        servers = broker.bootstrap_servers
        TopicAdmin({"bootstrap.servers": servers}).ensure(ExpectedTopic(frames_topic(_STREAM), Role.FRAMES))
        where = ["--stream", _STREAM, "--listen", str(port), "--bootstrap-servers", servers]
        relay = [sys.executable, "-m", "archiver", "relay", *where]
        sizes = ["--clients", str(options.clients), "--size", str(options.size)]
        reader = [sys.executable, "-m", "bench.relay", *sizes, "--read", str(port), str(count)]
        with Measured(relay, env=environment()) as served:
            served.await_log("is served at")
            with Measured(reader) as reading:
                reading.line()
                served.await_log(f"clients: {options.clients + 1}$")
                served.begin()
                publish(servers, options.size, count, rate_hz)
                median, most, latest = reading.line().split()
                used = served.used()
                served.await_log("it is too slow")
    print(f"{options.clients} clients, {options.megabytes:g} MB/s in frames of {options.size / 1000:g} kB:")
    print(f"  a frame is late by {median} ms (median), {most} ms (99 %), {latest} ms at most")
    print(f"  {used.anonymous_bytes / 1e6:.0f} MB of memory, {used.cpu_seconds / options.seconds:.2f} cores")


if __name__ == "__main__":
    main()
