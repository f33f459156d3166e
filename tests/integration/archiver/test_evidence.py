"""What an archive's status is collected from, again and again with the same clients, from a real Kafka."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from archiver.status.collect import EvidenceCollector
from archiver.status.stream_status import Status
from g3stream.contract.headers import Kind
from g3stream.contract.program_status import ArchiverStatus, encode
from g3stream.contract.topics import STATUS_TOPIC, STATUS_TOPIC_CONFIG
from g3stream.kafka.topic_admin import TopicAdmin
from testbed.kafka.broker import Broker
from tests.support.archives import Source
from tests.support.processes import SECONDS, Recorder, admin_client, eventually


@pytest.fixture
def own(stream: str, tmp_path: Path) -> Iterator[Recorder]:
    """A recorder with a broker of its own, of which any topic may be deleted."""
    with Broker(tmp_path / "kafka") as broker, Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder:
        yield recorder


def collector_of(recorder: Recorder) -> EvidenceCollector:
    return EvidenceCollector({"bootstrap.servers": recorder.servers}, f"{recorder.stream}.archive")


def status_of(collector: EvidenceCollector) -> Status:
    (found,) = collector.collect().streams
    return found


@pytest.mark.slow
def test_all_that_happens_between_two_collections_is_seen(own: Recorder) -> None:
    own.create_topic()
    with collector_of(own) as collector:
        assert status_of(collector).records == 0
        recording = own.archiver()
        source = Source(own.servers, own.stream, epochs=0)
        source.start()
        source.scans(500)
        began_s = source.now // 1000
        recording.await_line("opened")
        eventually(lambda: status_of(collector).lag == 0, "all is recorded")
        found = status_of(collector)
        # The START is 500 records back: the checkpoint says since when, without reading them.
        assert (found.fact, found.file_frames) == (None, 501)
        assert found.frames_since == found.acquisition_since
        assert abs((found.acquisition_since or 0) // 1000 - began_s) <= 1
        source.end()
        eventually(lambda: status_of(collector).fact is Kind.END, "the end")
        recording.await_line(r"finished .* \(end\)")
        eventually(lambda: status_of(collector).file is None, "no open file")

        (archiver,) = collector.collect().archivers.values()
        assert recording.stop() == 0
        eventually(lambda: collector.collect().archivers[archiver.instance].stopped, "it has stopped")

        own.recreate_topic()
        Source(own.servers, own.stream, epochs=0).scans(3)
        eventually(lambda: status_of(collector).records == 3, "the new topic")
        # Kafka deletes a group's commits of a topic with that topic.
        assert status_of(collector).problem == "not recorded by this group"


@pytest.mark.slow
def test_frames_that_are_not_recorded_say_nothing_of_an_acquisition(own: Recorder) -> None:
    """Some senders send such frames after the END."""
    own.create_topic()
    source = Source(own.servers, own.stream, epochs=0)
    source.start()
    source.scans(3)
    source.end()
    source.not_recorded(20)
    recording = own.archiver()
    recording.await_line(r"finished .* \(end\)")
    with collector_of(own) as collector:
        eventually(lambda: status_of(collector).lag == 0, "all is recorded")
        assert status_of(collector).fact is Kind.END
    assert recording.stop() == 0


@pytest.mark.slow
def test_reports_are_read_once_and_those_of_a_new_topic_replace_them(own: Recorder) -> None:
    topics, admin = TopicAdmin({"bootstrap.servers": own.servers}), admin_client(own.servers)
    topics.create(STATUS_TOPIC, STATUS_TOPIC_CONFIG, None)
    report(own, "a", "b", "a")
    with collector_of(own) as collector:
        assert [it.instance for it in collector.collect().new_reports if isinstance(it, ArchiverStatus)] == [*"aba"]
        assert collector.collect().new_reports == []
        report(own, "c")
        evidence = collector.collect()
        assert len(evidence.new_reports) == 1
        assert sorted(evidence.archivers) == [*"abc"]

        admin.delete_topics([STATUS_TOPIC])[STATUS_TOPIC].result(SECONDS)
        eventually(lambda: STATUS_TOPIC not in admin.list_topics(timeout=SECONDS).topics, "it is deleted")
        assert collector.collect().archivers == {}
        topics.create(STATUS_TOPIC, STATUS_TOPIC_CONFIG, None)
        report(own, "d")
        assert sorted(collector.collect().archivers) == ["d"]


def report(recorder: Recorder, *instances: str) -> None:
    """Publish a report of each of these archivers."""
    producer = Producer({"bootstrap.servers": recorder.servers})
    for instance in instances:
        status = ArchiverStatus(
            host="daq1",
            version="1",
            time_ms=1,
            started_ms=0,
            group=f"{recorder.stream}.archive",
            instance=instance,
            data_dir="/data",
        )
        producer.produce(STATUS_TOPIC, encode(status), status.key.encode(), partition=0)
    assert producer.flush(SECONDS) == 0
