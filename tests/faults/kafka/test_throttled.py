"""Kafka throttles the clients by a quota: what it delivers is recorded, and operators see why it is late."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from g3stream.contract.headers import Kind
from testbed.child_process import free_port
from testbed.kafka.broker import Broker
from tests.support.archives import Source, all_committed, assert_same_tree
from tests.support.injection.quotas import set_default_quota
from tests.support.processes import RawSender, Recorder, eventually, flow, get, scan

BYTES_PER_SECOND = 200_000
FRAMES, FRAME_BYTES = 60, 100_000
"""30 s of the quota: each response uses what the quota allows for 10 s."""
SECONDS = 120.0


@pytest.fixture
def recorder(stream: str, tmp_path: Path) -> Iterator[Recorder]:
    """A recorder with its own broker, as the quota applies to all clients of a broker."""
    with Broker(tmp_path / "kafka") as broker, Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder:
        recorder.create_topic()
        yield recorder


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_throttled_archiver_records_what_the_quota_allows_and_reports_it(recorder: Recorder) -> None:
    source, port = Source(recorder.servers, recorder.stream), free_port()
    source.start()
    source.scans(FRAMES, FRAME_BYTES)
    source.end()
    undisturbed = recorder.archiver(archive="undisturbed")
    undisturbed.await_line(r"finished .* \(end\)")
    assert undisturbed.stop() == 0
    set_default_quota(recorder.servers, "consumer_byte_rate", BYTES_PER_SECOND)

    archiver = recorder.archiver("--http", str(port))
    archiver.await_line("WARNING .*Kafka throttles this program.* raise consumer_byte_rate", SECONDS)
    eventually(lambda: "Kafka throttles this program" in get(port, "/healthz")[1], "health says it")
    archiver.await_line(r"finished .* \(end\)", SECONDS)
    assert "g3_archiver_throttled_seconds_total 0.0" not in get(port, "/metrics")[1]
    eventually(lambda: all_committed(recorder, [source]), "all committed")
    assert_same_tree(recorder.tree(), recorder.tree("undisturbed"))
    assert archiver.stop() == 0
    assert archiver.log.count("Kafka throttles this program") < 5

    replay = recorder.command("replay", into=recorder.directory / "rebuilt")
    assert replay.returncode == 0
    assert "Kafka throttles this program" in replay.stderr
    assert_same_tree(recorder.tree("rebuilt"), recorder.tree("undisturbed"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_throttled_ingest_publishes_what_the_quota_allows_and_reports_it(recorder: Recorder) -> None:
    set_default_quota(recorder.servers, "producer_byte_rate", BYTES_PER_SECOND)
    port = free_port()
    frames = [scan(number, FRAME_BYTES) for number in range(FRAMES)]
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port, "--http", str(port))
        with sender.accept() as connection:
            connection.sendall(flow(1) + b"".join(frames) + flow(2))
            ingest.await_line("END")
            ingest.await_line("WARNING .*Kafka throttles this program.* raise producer_byte_rate", SECONDS)
            eventually(lambda: "Kafka throttles this program" in get(port, "/healthz")[1], "health says it")
            eventually(lambda: "g3_ingest_spool_bytes{" in get(port, "/metrics")[1], "metrics")
            spooled = re.compile(r"^g3_ingest_spool_bytes\S* 0\.0$", re.MULTILINE)
            eventually(lambda: spooled.search(get(port, "/metrics")[1]) is not None, "all acknowledged", SECONDS)
        assert ingest.stop() == 0
    assert [value for headers, _, value in recorder.records() if headers.kind is Kind.FRAME] == frames
