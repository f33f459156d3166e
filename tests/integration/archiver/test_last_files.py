"""The last file of a stream of which nothing is committed: looked up on g3.files, which is read once."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # re-exported without saying so

from archiver.core.checkpoint import CheckpointError
from archiver.core.events import FileFinished
from archiver.kafka.last_file_index import LastFileIndex
from archiver.kafka.topic_reader import TopicReader
from bench.load.many_files import STREAMS, OldFiles
from g3stream.contract.topics import FILES_TOPIC
from g3stream.service.cancellation import CancellationToken, Cancelled
from testbed.kafka.broker import Broker
from tests.support.processes import SECONDS, admin_client, eventually

GROUP = "old"
WANTED = CancellationToken()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[str]:
    """Of a broker with an empty g3.files."""
    with Broker(tmp_path / "kafka") as broker:
        make_topic(broker.bootstrap_servers)
        yield broker.bootstrap_servers


def make_topic(servers: str) -> None:
    """Create g3.files."""
    admin = admin_client(servers)
    admin.create_topics([NewTopic(FILES_TOPIC, 1, 1)])[FILES_TOPIC].result(SECONDS)
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "unused"})

    def has_leader() -> bool:
        with suppress(KafkaException):
            return consumer.get_watermark_offsets(TopicPartition(FILES_TOPIC, 0), SECONDS) is not None
        return False

    eventually(has_leader, "the new topic has a leader")
    consumer.close()


def delete_topic(servers: str) -> None:
    """Delete g3.files."""
    admin = admin_client(servers)
    admin.delete_topics([FILES_TOPIC])[FILES_TOPIC].result(SECONDS)
    eventually(lambda: FILES_TOPIC not in admin.list_topics(timeout=SECONDS).topics, "the topic gone")


def publish(servers: str, key: str, value: bytes) -> None:
    """An event as it may be there, too."""
    producer = Producer({"bootstrap.servers": servers})
    producer.produce(FILES_TOPIC, value, key, partition=0)
    assert producer.flush(SECONDS) == 0


def last_files(servers: str, group: str = GROUP) -> LastFileIndex:
    return LastFileIndex(TopicReader({"bootstrap.servers": servers}, group))


def number(found: LastFileIndex, stream: str = "old-03") -> int:
    """Of the stream's last file, 0 if it has none."""
    event = found.find(stream, WANTED)
    assert event is None or isinstance(event, FileFinished)
    return event.number if event else 0


@pytest.mark.slow
def test_it_is_the_newest_that_was_told_and_later_ones_are_found_by_whoever_has_looked_before(
    servers: str, tmp_path: Path
) -> None:
    old, found = OldFiles(tmp_path, GROUP), last_files(servers)
    assert number(found) == 0
    for count in (1, 7, 7, 300):
        old.grow(servers, count * STREAMS)
        assert number(found) == number(last_files(servers)) == count
    assert number(found, "old-19") == 300
    assert number(found, "new") == 0
    assert number(last_files(servers, "another")) == 0
    together = [Thread(target=number, args=[found, f"old-{n:02d}"]) for n in range(8)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join(SECONDS)
        assert not thread.is_alive()


@pytest.mark.slow
def test_what_is_no_file_is_passed_over_and_what_cannot_be_understood_is_told(servers: str, tmp_path: Path) -> None:
    found = last_files(servers)
    OldFiles(tmp_path, GROUP).grow(servers, STREAMS)
    publish(servers, f"{GROUP}/old-03/loss/1/x", b'{"event":"loss","of":"a later version"}')
    publish(servers, f"{GROUP}/old-03/17000/x/y_000.g3", b'{"event":"file_moved","of":"a later version"}')
    publish(servers, f"file_retired:{GROUP}/old-03/17000/x/y_000.g3", b'{"event":"file_retired"}')
    assert number(found) == 1
    for value in (b'{"event":"file","of":"a later version"}', b"no JSON", b'{"event":"salvaged","v":7}'):
        publish(servers, f"{GROUP}/old-03/17000/x/y_000.g3", value)
        assert isinstance(found.find("old-03", WANTED), CheckpointError)
    assert number(found, "old-04") == 1


@pytest.mark.slow
@pytest.mark.parametrize("longer", [False, True])
def test_of_a_topic_that_was_made_anew_nothing_is_remembered(servers: str, tmp_path: Path, longer: bool) -> None:
    found = last_files(servers)
    OldFiles(tmp_path, GROUP).grow(servers, 5 * STREAMS)
    assert number(found) == 5
    delete_topic(servers)
    with pytest.raises(KafkaException):
        number(found)
    make_topic(servers)
    OldFiles(tmp_path, "another").grow(servers, (9 if longer else 2) * STREAMS)
    assert number(found) == 0


@pytest.mark.slow
def test_who_is_not_wanted_any_more_reads_nothing(servers: str, tmp_path: Path) -> None:
    found, cancellation = last_files(servers), CancellationToken()
    OldFiles(tmp_path, GROUP).grow(servers, STREAMS)
    cancellation.set()
    with pytest.raises(Cancelled):
        found.find("old-03", cancellation)
    assert number(found) == 1
