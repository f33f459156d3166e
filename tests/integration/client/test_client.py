"""The client library against topics of a real Kafka, filled by hand and by a real ingest."""

import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
from confluent_kafka import Producer
from spt3g import core

import g3stream
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.topics import frames_topic
from g3stream.frame_format.layout import FRAME_TYPES
from g3stream.host.environment import now_ms
from testbed.child_process import free_port
from tests.support.processes import (
    SECONDS,
    RawSender,
    Recorder,
    admin_client,
    committed,
    delete_before,
    eventually,
    flow,
    scan,
)

A, B = "0123456789abcde0", "0123456789abcdf0"
SCAN = FRAME_TYPES["Scan"]
T0 = now_ms() - 3_600_000


class Topic:
    """A stream's topic, in which a test writes what ingest might."""

    def __init__(self, recorder: Recorder) -> None:
        self.stream = recorder.stream
        self.servers = recorder.servers
        recorder.create_topic()
        self._producer = Producer({"bootstrap.servers": recorder.servers})

    def write(self, value: bytes, seq: int, *, epoch: str = A, kind: Kind = Kind.FRAME, **more: object) -> None:
        """Write a record, received at T0 + seq s."""
        headers = RecordHeaders(kind, epoch, seq, SCAN)._replace(**more)  # type: ignore[arg-type]
        self._produce(value, headers=[*headers.to_text()], timestamp=T0 + 1000 * seq)

    def write_foreign(self, value: bytes) -> None:
        """Write a record that isn't one of ingest's."""
        self._produce(value)

    def _produce(self, value: bytes, **more: object) -> None:
        self._producer.produce(frames_topic(self.stream), value, partition=0, **more)  # type: ignore[arg-type]
        assert self._producer.flush(SECONDS) == 0

    def records(self, **how: object) -> g3stream.RecordReader:
        """Return a reader of this topic."""
        return g3stream.records(self.stream, bootstrap_servers=self.servers, **how)  # type: ignore[arg-type]

    def values(self, **how: object) -> list[bytes]:
        """Return the values of all records that a reader gives until its end."""
        with self.records(**how) as found:
            return values(found)


def values(items: Iterator[g3stream.Item]) -> list[bytes]:
    return [item.value for item in items if isinstance(item, g3stream.Record)]


@pytest.fixture
def topic(recorder: Recorder) -> Topic:
    return Topic(recorder)


@pytest.fixture
def filled(topic: Topic) -> Topic:
    """A topic with five frames, one of them in chunks with a repeated one, and a killed ingest's duplicates."""
    topic.write(b"0", 0)
    topic.write(b"", 1, kind=Kind.QUIET, type=None)
    topic.write(b"2", 2)
    for k in (1, 2, 1, 2, 3):
        topic.write(b"%d" % k, 3, chunk=(k, 3))
    topic.write(b"2", 2)
    topic.write(b"4", 4)
    topic.write(b"", 0, epoch=B, kind=Kind.LOST, type=None, prev=(A, 4), why="ingest started")
    topic.write(b"5", 1, epoch=B)
    return topic


FRAMES = [b"0", b"2", b"123", b"4", b"5"]


def test_frames_come_whole_in_order_and_once(filled: Topic) -> None:
    assert filled.values() == FRAMES
    with filled.records(facts=True, losses=True) as found:
        items = [it for it in found if isinstance(it, g3stream.Record)]
    assert [it.headers.kind for it in items] == ["frame", "quiet", "frame", "frame", "frame", "lost", "frame"]
    assert (items[3].offset, items[3].time_ms, items[3].headers.type) == (3, T0 + 3000, SCAN)


def test_reading_begins_where_it_is_asked_to(filled: Topic) -> None:
    at = datetime.fromtimestamp((T0 + 2000) / 1000, UTC)
    assert filled.values(since=at)[:2] == filled.values(since=at.isoformat())[:2] == [b"2", b"123"]
    assert filled.values(since="2100-01-01") == filled.values(since="now") == []
    assert [filled.values(last=n) for n in (0, 1, 3, 100)] == [[], FRAMES[-1:], FRAMES[-3:], FRAMES]
    with pytest.raises(ValueError, match="is no time"):
        filled.records(since="soon")


def test_a_stored_position_continues_after_any_frame(filled: Topic) -> None:
    for count in range(len(FRAMES) + 1):
        with filled.records() as found:
            got = values(islice(found, count))
            stored = str(found.position)
        assert got + filled.values(since=g3stream.Position.parse(stored)) == FRAMES


def test_followed_it_gives_what_comes_and_another_thread_can_end_it(filled: Topic) -> None:
    found = filled.records(since="now", follow=True)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.extend(values(found)))
    thread.start()
    filled.write(b"6", 2, epoch=B)
    filled.write(b"7", 3, epoch=B)
    with filled.records(last=1, follow=True) as other:
        assert values(islice(other, 1)) == [b"7"]
    eventually(lambda: found.position.epochs[-1:] == ((B, 3),), "both have come")
    found.close()
    thread.join(SECONDS)
    assert got == [b"6", b"7"]
    assert list(found) == []


def test_losses_are_given_on_request(topic: Topic) -> None:
    for seq in (0, 1, 4):
        topic.write(b"%d" % seq, seq)
    with topic.records(losses=True) as found:
        items = list(found)
    assert isinstance(items[2], g3stream.Loss)
    assert (items[2].records, items[2].cause) == (2, "missing")
    assert topic.values() == [b"0", b"1", b"4"]


def test_what_retention_deletes_ahead_of_a_position_is_a_loss(topic: Topic) -> None:
    for seq in range(4):
        topic.write(b"%d" % seq, seq)
    with topic.records() as found:
        assert values(islice(found, 1)) == [b"0"]
        position = found.position
    delete_before(topic.servers, frames_topic(topic.stream), 3)
    with topic.records(since=position, losses=True) as found:
        items = list(found)
    assert [it.cause for it in items if isinstance(it, g3stream.Loss)] == ["deleted", "missing"]
    assert values(iter(items)) == [b"3"]


def test_a_group_continues_where_it_had_got_to(filled: Topic) -> None:
    group = f"{filled.stream}.viewer"
    with filled.records(group=group, follow=True) as found:
        assert values(islice(found, 3)) == FRAMES[:3]
    found = filled.records(group=group, follow=True)
    assert values(islice(found, 1)) == FRAMES[3:4]
    found.__exit__(RuntimeError, None, None)  # that frame couldn't be processed
    with filled.records(group=group, follow=True) as one, filled.records(group=group, follow=True) as two:
        got: list[bytes] = []
        threads = [threading.Thread(target=lambda it=it: got.extend(values(it))) for it in (one, two)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(committed_values(filled, group)) == 0, "all is committed")
        one.close()
        filled.write(b"6", 2, epoch=B)
        eventually(lambda: committed(filled.servers, group, filled.stream) == [13], "the other has read on")
        two.close()
        for thread in threads:
            thread.join(SECONDS)
    assert sorted(set(got)) == [*FRAMES[3:], b"6"]


def test_a_group_has_precedence_over_where_to_begin(filled: Topic) -> None:
    group = f"{filled.stream}.viewer"
    with filled.records(group=group, last=3) as found:
        assert values(islice(found, 1)) == FRAMES[2:3]
    with filled.records(group=group, since="now") as found:
        assert values(found) == FRAMES[3:]


def test_a_signal_handler_can_end_it(filled: Topic) -> None:
    found = filled.records(since="now", follow=True)
    before = signal.signal(signal.SIGUSR1, lambda *_: found.close())
    try:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert list(found) == []
    finally:
        signal.signal(signal.SIGUSR1, before)


def committed_values(topic: Topic, group: str) -> list[bytes]:
    """Return the frames beyond what a group has committed."""
    [offset] = committed(topic.servers, group, topic.stream)
    return topic.values(since=g3stream.Position(topic.stream, max(0, offset)))


def test_each_error_says_what_is_wrong(topic: Topic, tmp_path: Path) -> None:
    with pytest.raises(g3stream.NoSuchStreamError, match=r"has no topic g3\.frames\.nobody"):
        g3stream.records("nobody", bootstrap_servers=topic.servers)
    nowhere = f"127.0.0.1:{free_port()}"
    with pytest.raises(g3stream.KafkaUnavailableError, match=f"{nowhere}.*refused"):
        g3stream.records(topic.stream, bootstrap_servers=nowhere, timeout_s=1)
    with pytest.raises(ValueError, match="is no stream name"):
        g3stream.records("a/b", bootstrap_servers=topic.servers)
    other = g3stream.Position(topic.stream, 17)
    with pytest.raises(g3stream.PositionError, match="deleted and created again"):
        topic.records(since=other)
    with pytest.raises(g3stream.PositionError, match="in the stream other"):
        topic.records(since=g3stream.Position("other", 0))
    config = tmp_path / "client.properties"
    with pytest.raises(g3stream.KafkaSettingsError, match="No such file"):
        topic.records(kafka_config=config)
    config.write_text("security.protocol=NONSENSE\n")
    with pytest.raises(g3stream.KafkaSettingsError, match=r"security\.protocol"):
        topic.records(kafka_config=config)


def test_a_foreign_record_is_an_error_until_it_is_in_quarantine(recorder: Recorder, topic: Topic) -> None:
    topic.write(b"0", 0)
    topic.write_foreign(b"hello")
    topic.write(b"1", 1)
    with topic.records() as found:
        assert values(islice(found, 1)) == [b"0"]
        with pytest.raises(g3stream.ForeignRecordError, match="archiver quarantine --stream") as error:
            next(found)
    assert error.value.offset == 1
    assert recorder.start("archiver", "quarantine", "--stream", topic.stream, "--offset", "1").exit_code() == 0
    assert topic.values() == [b"0", b"1"]


def test_a_topic_that_is_deleted_ends_reading_with_an_error(topic: Topic) -> None:
    topic.write(b"0", 0)
    with topic.records(follow=True) as found:
        assert values(islice(found, 1)) == [b"0"]
        name = frames_topic(topic.stream)
        admin = admin_client(topic.servers)
        admin.delete_topics([name])[name].result(SECONDS)
        with pytest.raises(g3stream.NoSuchStreamError):
            next(found)


def test_frames_of_a_real_ingest_and_the_files_of_a_real_archiver(recorder: Recorder) -> None:
    recorder.create_topic()
    big = scan(1, 2_500_000)
    sent = [scan(0, session_id=17), big, scan(2)]
    archiver = recorder.archiver()
    archiver.await_line(f"recording {recorder.stream}")
    with RawSender() as sender:
        recorder.ingest(sender.port)
        with sender.accept() as connection:
            connection.sendall(b"".join([flow(1), *sent, flow(2)]))
            with g3stream.records(
                recorder.stream, follow=True, facts=True, bootstrap_servers=recorder.servers
            ) as found:
                frames = []
                for it in found:
                    assert isinstance(it, g3stream.Record)
                    frames.append(it)
                    if it.headers.kind is Kind.END:
                        break
    assert [it.value for it in frames if it.headers.kind is Kind.FRAME] == sent
    assert {Kind.START, Kind.END} < {it.headers.kind for it in frames}
    with g3stream.frames(recorder.stream, bootstrap_servers=recorder.servers) as read:
        as_spt3g = list(read)
    assert [it.type for it in as_spt3g] == [core.G3FrameType.Scan] * 3
    assert as_spt3g[0]["session_id"] == 17
    eventually(lambda: len(recorder.files()) == 1, "the file is finished")

    listed = partial(g3stream.files, group=f"{recorder.stream}.archive", bootstrap_servers=recorder.servers)

    eventually(lambda: len(listed()) == 1, "its event is there")
    [file] = listed(stream=recorder.stream, since="-1h", session=17)
    assert recorder.data() / file.path == recorder.files()[0]
    assert (file.bytes, file.frames, file.session) == (sum(map(len, sent)), 3, 17)
    assert listed(session=18) == listed(until="-1h") == listed(stream="other") == []
