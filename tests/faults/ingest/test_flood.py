"""A flood of bad frames fills neither memory, nor the log, nor the broker; the stream goes on after it."""

import re
import threading
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # re-exported without saying so

from g3stream.contract.topics import rejected_topic
from tests.support.processes import (
    SECONDS,
    RawSender,
    Recorder,
    admin_client,
    alter_topic,
    bytes_in,
    eventually,
    flow,
    scan,
    settings_of,
)

COUNT = 50_000


def anonymous_mib(pid: int) -> int:
    """What a process keeps in memory that is backed by no file (its spool is), in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) >> 10


def end_offset(servers: str, topic: str) -> int:
    """How many records a topic has had."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "unused"})
    try:
        return consumer.get_watermark_offsets(TopicPartition(topic, 0), SECONDS)[1]
    finally:
        consumer.close()


def retention_bytes(servers: str, topic: str) -> int:
    return int(settings_of(servers, topic)["retention.bytes"])


@pytest.mark.slow
def test_a_flood_of_bad_frames_fills_nothing_and_the_good_one_after_it_is_recorded(
    kafka: str, stream: str, tmp_path: Path
) -> None:
    bad = bytearray(scan(1, size=80))
    bad[-1] ^= 1
    rejected = rejected_topic(stream)
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        recorder.create_topic()
        ingest = recorder.ingest(sender.port)
        archiver = recorder.archiver()
        with sender.accept() as connection:
            # The first rejected frame before, so that what it takes to publish one is there.
            connection.sendall(scan(0) + bad)
            ingest.await_line("created the topic g3.rejected")
            before = most = anonymous_mib(ingest.pid)
            flooding = threading.Thread(target=connection.sendall, args=(bytes(bad) * COUNT,))
            flooding.start()
            while flooding.is_alive():
                most = max(most, anonymous_mib(ingest.pid))
                flooding.join(0.05)
            connection.sendall(scan(2) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
            most = max(most, anonymous_mib(ingest.pid))
        eventually(lambda: end_offset(kafka, rejected) >= 1 + COUNT, "the rejected frames are published")
        assert end_offset(kafka, rejected) == 1 + COUNT
        assert retention_bytes(kafka, rejected) == 1 << 30
        spool = bytes_in(tmp_path / "spool")
        archiver_mib = anonymous_mib(archiver.pid)
        assert ingest.stop() == 0
        print(
            f"RssAnon {before} MiB before, {most} MiB at most; spool {spool >> 20} MiB; archiver {archiver_mib} MiB"
        )
        assert most - before < 100
    assert [file.read_bytes() for file in recorder.files()] == [scan(0) + scan(2)]
    assert len(ingest.lines) < 20
    lines = [line for _, line in ingest.lines if "rejected a frame" in line]
    counts = [int(match[1]) if (match := re.search(r"… (\d+) more like this", line)) else 1 for line in lines]
    assert sum(counts) == 1 + COUNT, "each is reported"


def test_rejected_frames_stay_bounded_when_the_frames_are_to_be_kept(kafka: str, stream: str, tmp_path: Path) -> None:
    bad = bytearray(scan(1, size=80))
    bad[-1] ^= 1
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        kept = ("--topic-config", "retention.bytes=-1", "--topic-config", "segment.bytes=1073741824")
        ingest = recorder.ingest(sender.port, *kept)
        with sender.accept() as connection:
            connection.sendall(bad)
            ingest.await_line("created the topic g3.rejected")
        assert retention_bytes(kafka, f"g3.frames.{stream}") == -1
        assert retention_bytes(kafka, rejected_topic(stream)) == 1 << 30


def test_a_topic_of_rejected_frames_that_cannot_be_used_holds_up_no_others(
    kafka: str, stream: str, tmp_path: Path
) -> None:
    """Somebody has made it before, and wrong; then it is made wrong while it is used."""
    bad = bytearray(scan(1, size=80))
    bad[-1] ^= 1
    rejected = rejected_topic(stream)
    new = NewTopic(rejected, 1, config={"cleanup.policy": "compact"})
    admin = admin_client(kafka)
    admin.create_topics([new])[rejected].result(SECONDS)
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        recorder.create_topic()
        ingest, archiver = recorder.ingest(sender.port), recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(scan(0) + bad + scan(2) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
            unfit = f"rejected frames can't be published: the topic {rejected} has cleanup.policy=compact"
            ingest.await_line(unfit)
            connection.sendall(scan(3) + flow(2))
            archiver.await_line(r"finished .* \(end\)", count=2)
            alter_topic(kafka, rejected, {"cleanup.policy": "delete"})
            eventually(lambda: [value for _, _, value in recorder.records(rejected)] == [bad], "it is published")
            alter_topic(kafka, rejected, {"cleanup.policy": "compact"})
            connection.sendall(scan(4) + bad + scan(5) + flow(2))
            archiver.await_line(r"finished .* \(end\)", count=3)
            ingest.await_line(f"Kafka refuses rejected frames in {rejected}|{unfit}", count=2)
            alter_topic(kafka, rejected, {"cleanup.policy": "delete"})
            eventually(lambda: [value for _, _, value in recorder.records(rejected)] == 2 * [bad], "both are", 60)
            connection.sendall(scan(6) + flow(2))
            archiver.await_line(r"finished .* \(end\)", count=4)
        assert ingest.stop() == 0
        assert "everything received is published" in ingest.log
        assert "LOST" not in archiver.log
    assert [file.read_bytes() for file in recorder.files()] == [
        scan(0) + scan(2),
        scan(3),
        scan(4) + scan(5),
        scan(6),
    ]


@pytest.mark.slow
def test_a_flood_of_flow_control_is_folded_in_the_log(kafka: str, stream: str, tmp_path: Path) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        recorder.create_topic()
        ingest = recorder.ingest(sender.port)
        archiver = recorder.archiver()
        count = 20_000
        with sender.accept() as connection:
            connection.sendall((flow(1) + flow(2)) * count)
            connection.sendall(scan(0) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
        assert ingest.stop() == 0
    assert len(ingest.lines) < 150
    assert len(archiver.lines) < 150
    lines = [line for _, line in ingest.lines if re.search(": (START|END)$", line)]
    counts = [int(match[1]) if (match := re.search(r"… (\d+) more like this", line)) else 1 for line in lines]
    assert sum(counts) == 2 * count + 1, "each is reported"
    assert [file.read_bytes() for file in recorder.files()] == [scan(0)]
