"""Commits, events on g3.files and files among the partials are untrusted: at most they stop their stream."""

import copy
import ctypes
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from g3stream.contract.topics import FILES_TOPIC, frames_topic
from tests.support.archives import Source, published_events, quick_session
from tests.support.processes import Recorder, eventually

SECONDS = 30
Document = dict[str, Any]


def committed(recorder: Recorder, stream: str) -> tuple[int, str]:
    """Return offset and metadata of a group without members."""
    with_group = {"bootstrap.servers": recorder.servers, "group.id": f"{recorder.stream}.archive"}
    consumer = Consumer({**with_group, "enable.auto.commit": False})
    try:
        (found,) = consumer.committed([TopicPartition(frames_topic(stream), 0)], SECONDS)
        return found.offset, found.metadata or ""
    finally:
        consumer.close()


def commit(recorder: Recorder, stream: str, offset: int, metadata: bytes) -> None:
    """Commit bytes, as another language's client may: confluent-kafka accepts only text."""
    [path] = (Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs").glob("librdkafka-*")
    library = ctypes.CDLL(str(path))

    class Partition(ctypes.Structure):
        """librdkafka's rd_kafka_topic_partition_t."""

        _fields_ = (
            ("topic", ctypes.c_char_p),
            ("partition", ctypes.c_int32),
            ("offset", ctypes.c_int64),
            ("metadata", ctypes.c_void_p),
            ("metadata_size", ctypes.c_size_t),
        )

    library.rd_kafka_topic_partition_list_add.restype = ctypes.POINTER(Partition)
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_topic_partition_list_new"):
        getattr(library, name).restype = ctypes.c_void_p
    why = ctypes.create_string_buffer(500)
    config = ctypes.c_void_p(library.rd_kafka_conf_new())
    settings = {b"bootstrap.servers": recorder.servers.encode(), b"group.id": f"{recorder.stream}.archive".encode()}
    for setting, value in settings.items():
        assert library.rd_kafka_conf_set(config, setting, value, why, ctypes.c_size_t(500)) == 0
    consumer = ctypes.c_void_p(library.rd_kafka_new(1, config, why, ctypes.c_size_t(500)))
    offsets = ctypes.c_void_p(library.rd_kafka_topic_partition_list_new(1))
    partition = library.rd_kafka_topic_partition_list_add(offsets, frames_topic(stream).encode(), 0).contents
    held = ctypes.create_string_buffer(metadata)
    partition.offset, partition.metadata_size = offset, len(held)
    partition.metadata = ctypes.addressof(held)
    # A static member that has stopped is a member until its session expires.
    eventually(lambda: library.rd_kafka_commit(consumer, offsets, 0) == 0, "the commit accepted")
    partition.metadata = None  # owned by this process: librdkafka must not free it
    library.rd_kafka_destroy(consumer)


def with_path(document: Document, path: str) -> None:
    """Change the open file's path in a checkpoint."""
    document["partial"]["path"] = path


def as_bytes(change: Callable[[Document], object]) -> Callable[[str], bytes]:
    """Return a function that changes metadata."""

    def changed(metadata: str) -> bytes:
        document = copy.deepcopy(json.loads(metadata))
        change(document)
        return json.dumps(document, separators=(",", ":")).encode()

    return changed


STOPS: dict[str, Callable[[str], bytes]] = {
    "metadata-that-is-not-UTF-8": lambda _: b"\xff\xfe{}",
    "a-path-of-no-time": as_bytes(lambda it: with_path(it, "15463/x/2019-13-45-99-99-99_000.g3")),
    "a-path-in-another-directory": as_bytes(lambda it: with_path(it, "15463/x/2026-01-01-00-00-00_000.g3")),
    "a-number-that-no-name-has": as_bytes(lambda it: it["state"]["names"].update(highest=2**63 - 1)),
}
GOES_ON: dict[str, Callable[[str], bytes]] = {
    "a-carried-frame-of-2-to-the-62-bytes": as_bytes(lambda it: it["carry"]["79"].update(length=2**62)),
    "a-type-that-is-no-character": as_bytes(lambda it: it["carry"].update({str(2**32 - 1): it["carry"]["79"]})),
}


def test_a_commit_that_cannot_be_used_stops_its_stream_and_no_other(recorder: Recorder) -> None:
    recorder.create_topic()
    sources = {what: Source(recorder.servers, f"{recorder.stream[-8:]}-{what}") for what in (*STOPS, *GOES_ON)}
    well = Source(recorder.servers, recorder.stream)
    for source in sources.values():
        recorder.create_topic(source.stream)
    flags = [flag for source in sources.values() for flag in ("--stream", source.stream)]
    archiver = recorder.archiver(*flags, *quick_session(recorder.directory))
    for source in (well, *sources.values()):
        source.start()
        source.scans(3)
    for source in (well, *sources.values()):
        archiver.await_line(f"{source.stream}: opened")
    assert archiver.stop() == 0
    for what, change in {**STOPS, **GOES_ON}.items():
        stream = sources[what].stream
        offset, metadata = committed(recorder, stream)
        assert json.loads(metadata)["partial"]
        commit(recorder, stream, offset, change(metadata))
    impossible = "15463.x.2019-13-45-99-99-99_000.1546344000000.0123abcd"
    planted = recorder.data() / ".archiver" / well.stream / impossible
    planted.write_bytes(b"not ours")
    archiver = recorder.archiver(*flags)
    for source in (well, *sources.values()):
        source.scans(3)
        source.end()
    archiver.await_line(rf"{well.stream}: finished .*: 7 frames")
    for what in GOES_ON:
        archiver.await_line(rf"{sources[what].stream}: finished .*: 7 frames")
    for what in STOPS:
        archiver.await_line(rf"{sources[what].stream}: STOPPED .*; nothing is recorded over it")
    assert planted.read_bytes() == b"not ours"
    assert archiver.stop() == 0


@pytest.mark.parametrize("path", ["15463/x/2019-13-45-99-99-99_000.g3", "99999/x/1546344000_000.g3"])
def test_an_event_that_cannot_be_used_stops_its_stream_and_no_other(recorder: Recorder, path: str) -> None:
    hostile = f"{recorder.stream}-x"
    sources = [Source(recorder.servers, stream) for stream in (recorder.stream, hostile)]
    for source in sources:
        recorder.create_topic(source.stream)
        source.start()
        source.scans(3)
        source.end()
    archiver = recorder.archiver("--stream", hostile, *quick_session(recorder.directory))
    for source in sources:
        archiver.await_line(f"{source.stream}: finished")
    assert archiver.stop() == 0
    [(key, value)] = [(key, value) for key, value in published_events(recorder) if value["stream"] == hostile]
    value["path"] = path
    producer = Producer({"bootstrap.servers": recorder.servers})
    producer.produce(FILES_TOPIC, json.dumps(value), key)
    assert producer.flush(SECONDS) == 0
    offset, _ = committed(recorder, hostile)
    commit(recorder, hostile, offset, b"")  # without a state it continues after its last file
    archiver = recorder.archiver("--stream", hostile)
    sources[0].start()
    sources[0].scans(3)
    sources[0].end()
    archiver.await_line(f"{sources[0].stream}: finished")
    archiver.await_line(f"{hostile}: STOPPED .*is no file's path")
    assert archiver.stop() == 0
    eventually(lambda: committed(recorder, sources[0].stream)[0] == sources[0].sent, "it is committed")
