"""`ingest --streams`: many streams in one process, and a fault of one of them touches no other."""

import os
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from g3stream.contract.headers import Kind, RecordHeaders, headers_of
from g3stream.contract.topics import frames_topic
from testbed.child_process import free_port
from testbed.frames import decode_frames
from testbed.kafka.broker import Broker
from tests.faults.ingest.test_ingest_killed import EndlessSender
from tests.support.disk import small_disk
from tests.support.processes import (
    PATIENT,
    SECONDS,
    Program,
    RawSender,
    Recorder,
    admin_client,
    alter_topic,
    eventually,
    flow,
    get,
    scan,
)

MANY = 40
LATE_SECONDS = 1.5
"""A neighbour's frame that takes so long from its sender to Kafka's consumers is late."""


def start(recorder: Recorder, tables: Sequence[str], *arguments: str) -> Program:
    """ingest, of streams with these tables in its file."""
    file = recorder.directory / "streams.toml"
    file.write_text("".join(f"[[stream]]\n{table}\n" for table in tables))
    spool = ("--spool-dir", str(recorder.directory / "spool"), "--spool-size", "1GiB")
    return recorder.start("ingest", "--streams", str(file), *spool, "--timeout", str(SECONDS), *arguments)


def table(name: str, port: int) -> str:
    """Of a stream from a sender on this host."""
    return f'name = "{name}"\naddress = "127.0.0.1"\nport = {port}'


def names_of(recorder: Recorder, count: int) -> list[str]:
    """Names for that many streams."""
    return [f"{n}-{recorder.stream[-8:]}" for n in range(count)]


def frames_in(recorder: Recorder, stream: str) -> list[bytes]:
    """The data frames in a stream's topic; none of them is chunked."""
    records = recorder.records(frames_topic(stream))
    return [value for label, _, value in records if label.kind is Kind.FRAME]


def unhealthy(port: int) -> set[str]:
    """The streams that /healthz names."""
    _, text = get(port, "/healthz")
    return {line.partition(": ")[0] for line in text.splitlines()} - {"ok"}


def values(port: int, metric: str) -> dict[str, float]:
    """A metric's, by stream."""
    families = {family.name: family for family in text_string_to_metric_families(get(port, "/metrics")[1])}
    return {sample.labels["stream"]: sample.value for sample in families[f"g3_ingest_{metric}"].samples}


class Neighbour(threading.Thread):
    """Sends a stream's frames, ten a second, and notes when they were in Kafka.

    `late`: the longest that one took, s; infinite if one of the last seconds isn't there yet.
    """

    def __init__(self, recorder: Recorder, stream: str, connection: socket.socket) -> None:
        super().__init__(daemon=True)
        self.sent: list[float] = []
        self._seen: dict[int, float] = {}
        self._connection = connection
        self._over = threading.Event()
        self._consumer = Consumer({"bootstrap.servers": recorder.servers, "group.id": "unused"})
        self._consumer.assign([TopicPartition(frames_topic(stream), 0, 0)])
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()
        self.start()

    @property
    def late(self) -> float:
        now = time.monotonic()
        return max(self._seen.get(n, now) - at for n, at in enumerate(self.sent))

    def stop(self) -> None:
        """End, when all is in Kafka."""
        self._over.set()
        self.join()
        self._watching.join()
        self._consumer.close()

    def run(self) -> None:
        while not self._over.wait(0.1):
            self.sent.append(time.monotonic())
            self._connection.sendall(scan(len(self.sent) - 1, 20_000))

    def _watch(self) -> None:
        deadline = float("inf")
        while len(self._seen) < len(self.sent) or not self._over.is_set():
            for message in self._consumer.consume(100, 0.02):
                label = RecordHeaders.from_kafka(headers_of(message))
                if label.kind is Kind.FRAME and label.num is not None:
                    self._seen[label.num] = time.monotonic()
            if self._over.is_set():
                deadline = min(deadline, time.monotonic() + SECONDS)
            assert time.monotonic() < deadline


@pytest.mark.slow
def test_many_streams_are_published_whole_and_told_of_and_all_stop_at_once(recorder: Recorder) -> None:
    names, http = names_of(recorder, MANY), free_port()
    with ExitStack() as stack:
        senders = [stack.enter_context(RawSender()) for _ in names]
        ports = [sender.port for sender in senders]
        ingest = start(recorder, [table(*one) for one in zip(names, ports, strict=True)], "--http", str(http))
        connections = [stack.enter_context(sender.accept()) for sender in senders]
        sent = [[scan(100 * n + k, 20_000) for k in range(10)] for n in range(MANY)]
        for n, connection in enumerate(connections):
            connection.sendall(flow(1) + b"".join(sent[n]) + flow(2))
        ingest.await_line(": END", count=MANY)
        eventually(lambda: get(http, "/healthz") == (200, "ok\n"), "all are well")
        lines = re.findall(r"^# TYPE (\S+)", get(http, "/metrics")[1], re.MULTILINE)
        assert len(lines) == len(set(lines))
        for name, value in (("connected", 1), ("frames", 10), ("healthy", 1)):
            assert values(http, name) == dict.fromkeys(names, value)
        eventually(lambda: all(value == 0 for value in values(http, "spool_bytes").values()), "all are published")
        assert ingest.stop() == 0
    for name in names:
        ingest.await_line(f"{name}: stopped; everything received is published")
    assert [frames_in(recorder, name) for name in names] == sent


@pytest.mark.slow
def test_without_kafka_many_stop_as_soon_as_one_and_go_on_later(recorder: Recorder) -> None:
    names = names_of(recorder, MANY)
    with ExitStack() as stack:
        senders = [stack.enter_context(RawSender()) for _ in names]
        tables = [table(name, sender.port) for name, sender in zip(names, senders, strict=True)]
        ingest = start(recorder, tables, "--bootstrap-servers", f"127.0.0.1:{free_port()}")
        for n, connection in enumerate([stack.enter_context(sender.accept()) for sender in senders]):
            connection.sendall(scan(n))
        ingest.await_line("first frame", count=MANY)
        assert ingest.stop() == 0
        ingest.await_line("stopped; .* wait in the spool", count=MANY)
        again = start(recorder, tables)
        for name in names:
            eventually(lambda name=name: frames_published(recorder, name) == 1, "it is published")  # type: ignore[misc]  # mypy infers no lambda with a default
        assert again.stop() == 0
    assert [frames_in(recorder, name) for name in names] == [[scan(n)] for n in range(MANY)]


def frames_published(recorder: Recorder, stream: str) -> int:
    """How many frames are in its topic, which may not be there yet."""
    topics = admin_client(recorder.servers).list_topics(timeout=SECONDS).topics
    try:
        return len(frames_in(recorder, stream)) if frames_topic(stream) in topics else 0
    except KafkaException:  # its partition isn't there yet
        return 0


def test_a_streams_trouble_is_told_and_ends_by_itself_and_touches_no_neighbour(recorder: Recorder) -> None:
    names = names_of(recorder, 6)
    good, refused, locked, taken, garbage, flood = names
    http = free_port()
    for name in names:
        recorder.create_topic(name, config={"cleanup.policy": "compact"} if name == refused else {})
    over = threading.Event()
    with ExitStack() as stack:
        stack.callback(over.set)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        senders = {name: stack.enter_context(RawSender()) for name in names if name != taken}
        spool = ("--spool-dir", str(recorder.directory / "spool"))
        other = recorder.start("ingest", "--stream", locked, "--port", str(free_port()), *spool)
        other.await_line("no connection")
        tables = [table(name, sender.port) for name, sender in senders.items()]
        tables.append(f'name = "{taken}"\nlisten = "127.0.0.1:{listener.getsockname()[1]}"')
        ingest = start(recorder, tables, "--http", str(http))
        neighbour = Neighbour(recorder, good, stack.enter_context(senders[good].accept()))
        ingest.await_line(f"ERROR +{refused}: the topic .* has cleanup.policy=compact.*; trying again in 5 s")
        ingest.await_line(f"ERROR +{locked}: another ingest for this stream runs on this host.*; trying again")
        ingest.await_line(f"ERROR +{taken}: can't listen on 127.0.0.1:.*: Address already in use; trying again")
        threading.Thread(target=send_garbage, args=(senders[garbage], over), daemon=True).start()
        ingest.await_line(f"WARNING +{garbage}: connection closed: garbage instead of a frame", count=2)
        flooding = stack.enter_context(senders[flood].accept())
        frame = scan(0, 900_000)
        for _ in range(300):
            flooding.sendall(frame)
        eventually(lambda: unhealthy(http) == {refused, locked, taken, garbage}, "those, and no others")
        assert "trying again in 5 s" not in "".join(line for _, line in ingest.lines if good in line)
        alter_topic(recorder.servers, frames_topic(refused), {"cleanup.policy": "delete"})
        assert other.stop() == 0
        listener.close()
        over.set()
        # Each tries again within seconds.
        ingest.await_line(f"{locked}: connected to")
        ingest.await_line(f"{taken}: waiting for the sender")
        stack.enter_context(socket.create_connection(listener_address(ingest, taken)))
        eventually(lambda: get(http, "/healthz") == (200, "ok\n"), "all are well")
        neighbour.stop()
        assert ingest.stop() == 0
    assert "Traceback" not in ingest.log
    print(f"latest of {len(neighbour.sent)} frames: {neighbour.late:.2f} s")
    assert neighbour.late < LATE_SECONDS
    assert frames_in(recorder, good) == [scan(n, 20_000) for n in range(len(neighbour.sent))]
    assert frames_in(recorder, flood) == [frame] * 300


def send_garbage(sender: RawSender, over: threading.Event) -> None:
    """On each connection, until it is over; then a good one."""
    while True:
        connection = sender.accept()
        if over.is_set():
            connection.sendall(scan(1))
            connection.recv(1)  # until ingest has stopped
            connection.close()
            return
        with connection:
            connection.sendall(b"GET / HTTP/1.1\r\n")
            connection.recv(1)


def listener_address(ingest: Program, stream: str) -> tuple[str, int]:
    """Where a stream waits for its sender, by the log."""
    match = ingest.await_line(rf"{stream}: waiting for the sender on (\S+):(\d+)")
    return match[1], int(match[2])


def test_a_stream_whose_disk_is_full_stalls_alone_and_goes_on(recorder: Recorder) -> None:
    good, full = names_of(recorder, 2)
    http = free_port()
    recorder.create_topic(good)
    disk = recorder.directory / "spool" / full
    disk.parent.mkdir()
    with small_disk(disk, "4m", in_use=True), RawSender() as one, RawSender() as two:
        ingest = start(recorder, [table(good, one.port), table(full, two.port)], "--http", str(http))
        with one.accept() as here, two.accept() as there:
            neighbour = Neighbour(recorder, good, here)
            there.sendall(scan(0))
            ingest.await_line(f"{full}: first frame")
            eventually(lambda: get(http, "/healthz") == (200, "ok\n"), "both are well")
            with (disk / "other").open("wb") as other, pytest.raises(OSError, match="No space"):
                fill(other.fileno())
            there.sendall(b"".join(scan(n, 100_000) for n in range(1, 10)))
            ingest.await_line(f"ERROR +{full}: the spool in .* can't be written.*; reading stops until it can")
            assert unhealthy(http) == {full}
            (disk / "other").unlink()
            ingest.await_line(f"{full}: the spool can be written again")
            eventually(lambda: get(http, "/healthz") == (200, "ok\n"), "both are well again")
            neighbour.stop()
            assert ingest.stop() == 0
    print(f"latest of {len(neighbour.sent)} frames: {neighbour.late:.2f} s")
    assert neighbour.late < LATE_SECONDS
    assert frames_in(recorder, full) == [scan(0), *(scan(n, 100_000) for n in range(1, 10))]


def fill(fd: int) -> None:
    while True:
        os.write(fd, bytes(4096))


def test_stopped_while_a_stream_is_down_all_others_are_published_and_the_exit_code_is_1(recorder: Recorder) -> None:
    good, bad = names_of(recorder, 2)
    with RawSender() as sender, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ingest = start(recorder, [table(good, sender.port), f'name = "{bad}"\nlisten = "127.0.0.1:{port}"'])
        with sender.accept() as connection:
            ingest.await_line(f"ERROR +{bad}: can't listen")
            connection.sendall(scan(0))
            ingest.await_line("first frame")
            assert ingest.stop() == 1
    assert frames_in(recorder, good) == [scan(0)]


@pytest.mark.slow
def test_stopped_while_kafka_hangs_with_frames_in_flight_all_of_them_stay_in_the_spools(
    stream: str, tmp_path: Path
) -> None:
    broker = Broker(tmp_path / "kafka")
    broker.start()
    try:
        with Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder, ExitStack() as stack:
            names = names_of(recorder, 5)
            senders = [stack.enter_context(RawSender()) for _ in names]
            tables = [table(name, sender.port) for name, sender in zip(names, senders, strict=True)]
            ingest = start(recorder, tables)
            connections = [stack.enter_context(sender.accept()) for sender in senders]
            for connection in connections:
                connection.sendall(scan(0))
            for name in names:
                eventually(lambda name=name: frames_published(recorder, name) == 1, "the first is published")  # type: ignore[misc]  # mypy infers no lambda with a default
            assert broker.pid
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                for connection in connections:
                    connection.sendall(b"".join(scan(n, 100_000) for n in range(1, 50)) + flow(2))
                ingest.await_line("END", count=len(names))
                assert ingest.stop() == 0
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            assert "FATAL" not in ingest.log
            again = start(recorder, tables)
            for name in names:
                eventually(lambda name=name: frames_published(recorder, name) >= 50, "all are published")  # type: ignore[misc]  # mypy infers no lambda with a default
            assert again.stop() == 0
            # What Kafka had got before it hung may come twice: the archiver drops it.
            expected = {scan(0), *(scan(n, 100_000) for n in range(1, 50))}
            assert all(set(frames_in(recorder, name)) == expected for name in names)
    finally:
        broker.stop()


@pytest.mark.slow
def test_killed_again_and_again_no_stream_of_many_loses_or_doubles_a_frame(
    recorder: Recorder, dice: random.Random
) -> None:
    names = names_of(recorder, 6)
    for name in names:
        recorder.create_topic(name)
    where = ("--data-dir", str(recorder.data()), "--group", recorder.stream)
    archiver = recorder.start("archiver", *where, *PATIENT, *(part for name in names for part in ("--stream", name)))
    archiver.await_line(f"recording .*{names[-1]}")
    had_received: list[dict[str, float]] = []  # by its own count, at least
    http = free_port()
    with ExitStack() as stack:
        senders = [stack.enter_context(RawSender()) for _ in names]
        tables = [table(name, sender.port) for name, sender in zip(names, senders, strict=True)]
        sending = [EndlessSender(sender, random.Random(dice.random())) for sender in senders]
        for kill in range(3):
            ingest = start(recorder, tables, "--http", str(http))
            ingest.await_line("first frame", count=len(names))
            if kill < 2:
                time.sleep(dice.uniform(0.2, 1))  # any moment, but frames must have come
                had_received.append(values(http, "frames"))
                ingest.kill()
        for one in sending:
            one.enough.set()
        archiver.await_line(r"finished .* \(end\)", count=len(names))
        assert (ingest.stop(), archiver.stop()) == (0, 0)
    assert "LOST" not in archiver.log
    for name, one in zip(names, sending, strict=True):
        recorded = [
            frame
            for file in recorder.files()
            if file.parent.name == name
            for frame in decode_frames(file.read_bytes())
        ]
        for n, frames in enumerate(one.sent):
            sent = [frame for _, frame in frames]
            known = set(sent)
            here = [frame for frame in recorded if frame in known]
            assert here == sent[: len(here)], f"{name}, connection {n}: in order, each once, none left out"
            received = had_received[n][name] if n < len(had_received) else len(sent)
            assert len(here) >= received > 0, f"{name}, connection {n}: all received"
