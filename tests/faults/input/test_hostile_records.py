"""Kafka is untrusted input, too: an unreadable record stops its stream with a clear error, and nothing else."""

import ctypes
from collections.abc import Sequence
from pathlib import Path

import confluent_kafka
import pytest

from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.topics import frames_topic
from tests.support.processes import RawSender, Recorder, flow, scan

SECONDS = 30
# Values of librdkafka's rd_kafka_vtype_t.
END, TOPIC, PARTITION, VALUE, HEADER = 0, 1, 3, 4, 9


def produce(servers: str, topic: str, value: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Produce a record as another language's client may: confluent-kafka refuses names that aren't UTF-8."""
    [path] = (Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs").glob("librdkafka-*")
    library = ctypes.CDLL(str(path))
    library.rd_kafka_conf_new.restype = library.rd_kafka_new.restype = ctypes.c_void_p
    why = ctypes.create_string_buffer(500)
    config = ctypes.c_void_p(library.rd_kafka_conf_new())
    assert library.rd_kafka_conf_set(config, b"bootstrap.servers", servers.encode(), why, ctypes.c_size_t(500)) == 0
    producer = ctypes.c_void_p(library.rd_kafka_new(0, config, why, ctypes.c_size_t(500)))
    arguments: list[object] = [
        TOPIC,
        topic.encode(),
        PARTITION,
        ctypes.c_int32(0),
        VALUE,
        value,
        ctypes.c_size_t(len(value)),
    ]
    for name, text in headers:
        arguments += [HEADER, name, text, ctypes.c_ssize_t(len(text))]
    assert library.rd_kafka_producev(producer, *arguments, END) == 0
    assert library.rd_kafka_flush(producer, SECONDS * 1000) == 0
    library.rd_kafka_destroy(producer)


EPOCH = "0" * 16
GOOD = [(name.encode(), text) for name, text in RecordHeaders(Kind.FRAME, EPOCH, 0, ord("S")).to_kafka()]
HOSTILE = {
    "a name that is not UTF-8": [*GOOD, (b"\xff\xfe", b"x")],
    "a version of 100 kB": [(b"v", b"2" * 100_000)],
}


@pytest.mark.parametrize("headers", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_record_that_cannot_be_read_stops_its_stream_and_no_other(
    kafka: str, stream: str, tmp_path: Path, headers: list[tuple[bytes, bytes]]
) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        hostile = f"{stream}-x"
        recorder.create_topic()
        recorder.create_topic(hostile)
        archiver = recorder.archiver("--stream", hostile)
        produce(kafka, frames_topic(hostile), scan(0), GOOD)
        produce(kafka, frames_topic(hostile), scan(1), headers)
        line = archiver.await_line(f"{hostile}: STOPPED at offset 1: .*")
        assert len(line[0]) < 400
        recorder.ingest(sender.port)
        with sender.accept() as connection:
            connection.sendall(scan(2) + flow(2))
            archiver.await_line(rf"finished .*/{stream}/.* \(end\)")
        assert archiver.stop() == 0
        again = recorder.archiver("--stream", hostile)
        again.await_line(f"{hostile}: STOPPED at offset 1: ")
        assert again.stop() == 0
    assert [file.read_bytes() for file in recorder.files()] == [scan(2)]


def test_one_among_others_that_are_processed_together(kafka: str, stream: str, tmp_path: Path) -> None:
    """All are in the topic when the archiver starts, so it decodes the unreadable one twice: in a run, and alone.

    (And the interpreter runs frequently executed code differently.)
    """
    with Recorder(kafka, stream, tmp_path) as recorder:
        recorder.create_topic()
        for num in range(40):
            record = RecordHeaders(Kind.FRAME, EPOCH, num, ord("S"), "x1", 1, num)
            headers = [(name.encode(), text) for name, text in record.to_kafka()]
            produce(kafka, frames_topic(stream), scan(num), headers)
        produce(kafka, frames_topic(stream), scan(40), [*headers, (b"\xff\xfe", b"x")])
        archiver = recorder.archiver()
        archiver.await_line(f"{stream}: STOPPED at offset 40: a record with a header that can't be read")
        assert archiver.stop() == 0
