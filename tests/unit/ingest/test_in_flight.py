"""A closed InFlightBatches leaves no producer behind."""

from pathlib import Path

from g3stream.contract.topic_settings import ExpectedTopic, Role
from g3stream.contract.topics import frames_topic
from g3stream.kafka.topic_admin import TopicWatch
from g3stream.service.histogram import LatencyHistogram
from ingest.publish.in_flight import PRODUCER_CONFIG, InFlightBatches
from ingest.publish.stream_topics import StreamTopic
from ingest.spool.batch import Batch, SpooledRecord
from tests.support.processes import eventually


def threads() -> int:
    """How many threads this process has, librdkafka's too."""
    return len(list(Path("/proc/self/task").iterdir()))


def test_a_producer_is_released_with_what_is_in_flight() -> None:
    before = threads()
    topic = StreamTopic("s", ExpectedTopic(frames_topic("s"), Role.FRAMES), {}, TopicWatch({}))
    topic.is_ready = True
    config = {"bootstrap.servers": "127.0.0.1:1", **PRODUCER_CONFIG}
    in_flight = InFlightBatches(config, {False: topic}, LatencyHistogram())
    in_flight.send(Batch(0, [SpooledRecord(False, 7, [], b"one"), SpooledRecord(False, 8, [], b"two")]))
    in_flight.poll(0)
    assert in_flight.bytes
    in_flight.close()
    del in_flight
    eventually(lambda: threads() <= before, "its threads have ended", 5)
