"""The Java consumer of docs/reference/g3.frames.md reads what SequenceTracker does, of all that a topic may have."""

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer
from spt3g import core

from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.producer_epoch import new_epoch
from g3stream.contract.sequence import Record, SequenceTracker
from g3stream.contract.topics import frames_topic
from g3stream.host.environment import now_ms
from ingest.receive.record_builder import PendingRecord, RecordBuilder
from ingest.spool.batch import make_batches
from testbed.kafka.distribution import Installation, installation
from testbed.server import ServerError
from tests.support.processes import SECONDS, Recorder, flow, frame, frame_by_hand, scan

SOURCE = Path(__file__).parents[3] / "docs" / "reference" / "examples" / "G3Frames.java"
BIG = 2_500_000
"""Bytes of data that take three chunks."""

Message = tuple[list[tuple[str, str]], int, bytes]
"""What one Kafka message holds: headers, time in ms, value."""


class Spool:
    """A spool, with the messages of each of its ingests, which are killed as soon as they have published them."""

    def __init__(self, random: int) -> None:
        self._random = random
        self._last: tuple[str, int] | None = None
        self.messages: list[Message] = []
        """All messages so far: what an ingest publishes again that was killed before Kafka had acknowledged any."""

    def ingest(self, time_ms: int, frames: list[bytes], *, unclean: bool = False) -> list[Message]:
        """Append the records of one more ingest, which receives these frames; return its messages."""
        epoch = new_epoch(self._last and self._last[0], time_ms, self._random)
        builder = RecordBuilder(epoch, self._last, unclean)
        pending = [
            builder.connection_record(Kind.LOST, time_ms, "ingest started"),
            builder.connection_record(Kind.CONNECTED, time_ms + 1, "10.0.0.1:4532"),
            *(record for data in frames if (record := builder.received(data, time_ms + 2))),
            builder.connection_record(Kind.QUIET, time_ms + 1000),
        ]
        self._last = pending[-1].headers.epoch, pending[-1].headers.seq
        new = [*messages_of(pending)]
        self.messages += new
        return new


def messages_of(pending: list[PendingRecord]) -> Iterator[Message]:
    """The Kafka messages of these records, large ones in chunks."""
    for batch in make_batches(pending):
        for record in batch.records:
            yield record.headers, record.time_ms, record.value


def decoded(message: Message) -> RecordHeaders:
    """The headers of a message, as any reader decodes them."""
    return RecordHeaders.from_kafka((name, text.encode()) for name, text in message[0])


def topic_content(begins_ms: int) -> tuple[list[Message], list[Message]]:
    """What a topic may legally contain: messages from two hours before `begins_ms`, and those from then on."""
    spool = Spool(0x1234567)
    before = spool.ingest(begins_ms - 7_200_000, [flow(1), scan(0), scan(1, BIG), scan(2)])

    killed = spool.ingest(begins_ms, [flow(1), *map(scan, range(3, 6)), scan(6, BIG)])
    topic = killed[:-2]  # of the last frame two of three chunks
    # All of it once more: frames of the earlier ingest, two chunks repeated, and now the third.
    topic += spool.messages
    killed = spool.ingest(begins_ms + 2000, [scan(7), scan(8, BIG)])
    topic += killed[:-3]  # of the last frame only the first chunk; then its spool's disk is lost
    newest = decoded(killed[-5])
    operators = RecordHeaders(Kind.LOST, "0" * 16, 0, why="it died", prev=(newest.epoch, newest.seq), operator=True)
    topic.append((operators.to_text(), begins_ms + 3000, b""))

    spool = Spool(0x7654321)
    pipeline_info = frame(core.G3FrameType.PipelineInfo)
    frames = [pipeline_info, frame_by_hand([("x", b"\x01\x02")], 79, ">"), frame_by_hand([], 1 << 31)]
    topic += spool.ingest(begins_ms + 4000, [flow(1), *frames, scan(9, session_id=7, sostream_id="crate"), flow(2)])
    later = spool.ingest(begins_ms + 6000, [scan(10), scan(11, BIG), scan(12), scan(13)], unclean=True)
    headers, time_ms, value = later[2]
    later[2] = [("new", "of a later version"), *reversed(headers)], time_ms, value
    topic += [*later[:4], later[5], *later[7:]]  # the second chunk of a frame was lost, and one frame
    topic += topic[-20:]  # as a mirror that was killed copies some again
    return before, topic


def frames_of(topic: list[Message]) -> Iterator[Record]:
    """The frames in the topic, as our own readers see them."""
    seen = SequenceTracker()
    for offset, message in enumerate(topic):
        _, time_ms, value = message
        if record := seen.assemble(decoded(message), time_ms, value, offset):
            seen.mark_processed(record.headers)
            if record.headers.kind is Kind.FRAME:
                yield record


def line_of(record: Record) -> str:
    """What the example prints of a frame."""
    at = datetime.fromtimestamp(record.time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    _, _, _, code, _, session, num, *_ = ["null" if it is None else it for it in record.headers]
    return f"{record.offset} {at} type={code} session={session} num={num} {record.bytes} bytes, CRC ok"


@pytest.fixture
def jdk() -> Installation:
    """A Java that compiles, with Kafka's jars."""
    try:
        found = installation()
    except ServerError as why:
        pytest.skip(str(why))
    modules = subprocess.run([found.java, "--list-modules"], capture_output=True, text=True, check=True).stdout
    if "jdk.compiler@" not in modules:
        pytest.skip(f"{found.java} has no compiler")
    return found


@pytest.mark.slow
def test_a_consumer_in_java_reads_what_ours_does(jdk: Installation, recorder: Recorder, tmp_path: Path) -> None:
    before, since = topic_content(now_ms() // 1000 * 1000 - 60_877)  # (Java prints no fraction of 0 ms)
    unreadable = [("v", "2"), ("kind", "frame"), ("epoch", "0" * 16), ("seq", "0")]
    recorder.create_topic()
    producer = Producer({"bootstrap.servers": recorder.servers, "enable.idempotence": True, "linger.ms": 5})
    for headers, time_ms, value in (*before, *since, (unreadable, now_ms(), b"")):
        producer.produce(frames_topic(recorder.stream), value, headers=[*headers], timestamp=time_ms, partition=0)
        producer.poll(0)
    assert producer.flush(SECONDS) == 0

    properties = tmp_path / "client.properties"
    properties.write_text(f"bootstrap.servers={recorder.servers}\n")
    command = jdk.command(str(SOURCE), str(properties), recorder.stream, "60")
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * SECONDS, check=False)
    print(done.stderr)
    frames = [it for it in frames_of([*before, *since]) if it.offset >= len(before)]
    assert [it.headers.num for it in frames] == [3, 4, 5, 6, 7, None, None, None, 9, 10, 13]
    assert done.stdout.splitlines() == [line_of(it) for it in frames]
    assert done.returncode == 1
    assert f"offset {len(before) + len(since)}: can't read a record with" in done.stderr
