"""The broker has a latency of some ms, and the topic has many producer epochs, as at any site after some weeks."""

import re
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka import Producer

from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.producer_epoch import new_epoch
from g3stream.contract.sequence import EPOCHS_REMEMBERED
from g3stream.contract.topics import frames_topic
from g3stream.frame_format.layout import parse_header
from testbed.child_process import free_port
from testbed.kafka.broker import Broker
from tests.support.archives import Source, all_committed, assert_same_tree
from tests.support.injection.proxy import Proxy
from tests.support.processes import SECONDS, Program, RawSender, Recorder, eventually, flow, numbers, scan

pytestmark = pytest.mark.slow

STARTS = EPOCHS_REMEMBERED + 4


@pytest.fixture(params=[5, 15], ids=["5ms", "15ms"])
def far(request: pytest.FixtureRequest, stream: str, tmp_path: Path) -> Iterator[tuple[Recorder, Proxy]]:
    """A recorder whose broker has that latency."""
    port = free_port()
    with (
        Proxy(port, delay_ms=request.param) as proxy,
        Broker(tmp_path / "kafka", port, properties={"advertised.listeners": f"PLAINTEXT://{proxy.servers}"}),
        Recorder(proxy.servers, stream, tmp_path) as recorder,
    ):
        recorder.create_topic()
        yield recorder, proxy


def recorded(recorder: Recorder) -> list[int]:
    """Return the frame_num of all recorded frames, in the order of the files' names."""
    return [n for file in recorder.files() for n in numbers(file.read_bytes(), recorder.directory / "scratch.g3")]


def assert_in_order(*programs: Program) -> None:
    """Check that nothing was delivered out of order, or reported as lost."""
    for program in programs:
        assert not re.search("Kafka's client|LOST|lies below", program.log)


def test_an_archiver_that_is_restarted_continues_where_it_was(far: tuple[Recorder, Proxy]) -> None:
    """A late retry of a replaced offset query once made librdkafka read the topic from its first record."""
    recorder, _ = far
    source = Source(recorder.servers, recorder.stream)
    for _ in range(STARTS):
        source.restart()
        source.scans(5)
    archivers, offsets = [], []
    for _ in range(6):
        archivers.append(recorder.archiver())
        source.scans(5)
        eventually(lambda: all_committed(recorder, [source]), "all is committed")
        time.sleep(0.7)  # an offset query is retried after 0.5 s; only time shows that this one isn't
        offsets.append(recorder.committed())
        assert archivers[-1].stop() == 0
    archivers.append(recorder.archiver())
    source.end()
    archivers[-1].await_line(r"finished .* \(end\)")
    assert archivers[-1].stop() == 0
    assert all(a <= b for a, b in pairwise(offsets))
    assert_in_order(*archivers)
    assert recorded(recorder) == list(range(source.frames))
    recorder.archiver(archive="again").await_line(r"finished .* \(end\)")
    assert_same_tree(recorder.tree("again"), recorder.tree())
    assert recorder.command("verify").returncode == 0


@pytest.mark.parametrize("far", [5], indirect=True, ids=["5ms"])
def test_an_ingest_in_a_crash_loop_has_every_frame_recorded_once(far: tuple[Recorder, Proxy]) -> None:
    """Its spool has more epochs than an archiver remembers, and is published again after a kill."""
    recorder, proxy = far
    sent = 0
    with RawSender() as sender:
        proxy.stall()
        for start in range(STARTS):
            ingest = recorder.ingest(sender.port)
            with sender.accept() as connection:
                connection.sendall(flow(1) + scan(sent) + scan(sent + 1))
                sent += 2
                ingest.await_line("first frame")
                if start + 1 < STARTS:
                    ingest.send(signal.SIGKILL)
                    continue
                archiver = recorder.archiver()
                proxy.responses_dropped_after = 1000 * STARTS
                proxy.flow()
                eventually(lambda: len(recorder.records()) >= 5 * STARTS, "all is published")
                ingest.kill()
        proxy.responses_dropped_after = None
        again = recorder.ingest(sender.port)
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(sent) + flow(2))
            archiver.await_line(r"finished .* \(end\)", SECONDS)
    assert again.stop() == 0
    records = recorder.records()
    assert len({headers.epoch for headers, _, _ in records}) == STARTS + 1
    twice = len(records) - len({(headers.epoch, headers.seq) for headers, _, _ in records})
    assert twice > 4 * EPOCHS_REMEMBERED, "or nothing was published again"
    assert sum(headers.kind is Kind.FRAME for headers, _, _ in records) > sent
    assert_in_order(archiver)
    assert recorded(recorder) == list(range(sent + 1))


@pytest.mark.parametrize("far", [5], indirect=True, ids=["5ms"])
def test_no_offset_that_a_transaction_left_empty_is_read_again(far: tuple[Recorder, Proxy]) -> None:
    """MirrorMaker publishes in transactions with `exactly.once.source.support`: reading each again took 0.5 s."""
    recorder, _ = far
    producer = Producer({"bootstrap.servers": recorder.servers, "transactional.id": recorder.stream})
    producer.init_transactions(SECONDS)
    archiver = recorder.archiver()
    epoch, now = new_epoch(None, 0, 1), int(time.time() * 1000)
    values = [(Kind.START, flow(1)), *((Kind.FRAME, scan(n)) for n in range(30)), (Kind.END, flow(2))]
    for seq, (kind, value) in enumerate(values):
        producer.begin_transaction()
        record = RecordHeaders(kind, epoch, seq, type=parse_header(value, 0)[2])
        headers: list[tuple[str, str | bytes | None]] = [*record.to_kafka()]
        producer.produce(frames_topic(recorder.stream), value, headers=headers, timestamp=now + seq, partition=0)
        if seq == 20:  # Kafka has it, but its producer aborts the transaction
            assert producer.flush(SECONDS) == 0
            producer.abort_transaction(SECONDS)
            producer.begin_transaction()
            producer.produce(frames_topic(recorder.stream), value, headers=headers, timestamp=now + seq, partition=0)
        producer.commit_transaction(SECONDS)
    archiver.await_line(r"finished .* \(end\)")
    assert archiver.stop() == 0
    assert "has no records at the offsets" not in archiver.log
    assert_in_order(archiver)
    assert recorded(recorder) == list(range(30))
