"""compose.production.yaml: three brokers, of which any one may fail."""

from collections.abc import Iterator

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AdminClient,
    ConfigResource,
)

from g3stream.contract.topics import FILES_TOPIC, frames_topic
from testbed.demo.comparison import compare, read_frames
from tests.docker.containers import BROKER, COMPOSE, PRODUCTION, Site, base_images, eventually, missing, sent

pytestmark = [
    pytest.mark.skipif(missing(*base_images()) is not None, reason=str(missing(*base_images()))),
    pytest.mark.timeout(600),
]

STREAM = "crate1slot2"
_BROKERS = ("kafka", "kafka2", "kafka3")
# Brokers with little memory, as there are three; sessions as in test_recording.
_OVERRIDE = "\n".join(
    [
        "services:",
        *(
            f"  {kafka}: {{environment: {{KAFKA_HEAP_OPTS: -Xmx512m, {BROKER}}}, healthcheck: {{interval: 3s}}}}"
            for kafka in _BROKERS
        ),
        f"  simulator-{STREAM}:",
        f"    command: python -m testbed.smurf --stream-id {STREAM} --loop --seconds 5 --rate 20 --pause 1",
    ]
)


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("production"), _OVERRIDE, files=(COMPOSE, PRODUCTION)) as running:
        running.up(*_BROKERS, "archiver", f"ingest-{STREAM}", f"simulator-{STREAM}")
        yield running


def test_a_broker_dies_in_the_middle_and_nothing_is_lost(site: Site) -> None:
    ports = (site.settings[name] for name in ("KAFKA_PORT", "KAFKA2_PORT", "KAFKA3_PORT"))
    admin = AdminClient(
        {
            "bootstrap.servers": ",".join(f"localhost:{port}" for port in ports),
            "allow.auto.create.topics": False,
        }
    )
    topic = frames_topic(STREAM)
    eventually(lambda: bool(site.files(STREAM)), lambda: "a file")
    for name in (topic, FILES_TOPIC, "__consumer_offsets"):
        for partition in admin.list_topics(name, 30).topics[name].partitions.values():
            assert len(partition.replicas) == 3, name
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    found = {name: entry.value for name, entry in admin.describe_configs([resource])[resource].result(30).items()}
    assert found["min.insync.replicas"] == "2"
    assert (found["retention.ms"], found["retention.bytes"]) == ("-1", "20000000000")

    leader = admin.list_topics(topic, 30).topics[topic].partitions[0].leader
    victim = _BROKERS[leader - 1]
    site.kill(victim)
    site.await_whole_session(STREAM)  # recorded with two brokers
    before = len(site.files(STREAM))
    eventually(lambda: len(site.files(STREAM)) > before, lambda: "a file while a broker is dead")
    site.start(victim)
    site.await_health(victim, "healthy")
    eventually(
        lambda: len(admin.list_topics(topic, 30).topics[topic].partitions[0].isrs) == 3,
        lambda: "the broker has caught up",
    )

    sessions = site.await_whole_session(STREAM)
    sessions.pop(min(sessions))  # no reader was connected when it began
    last = max(sessions)
    eventually(
        lambda: any(frame.id == (last, sessions[last]) for frame in read_frames(site.files(STREAM))), lambda: ""
    )
    recorded = [frame for frame in read_frames(site.files(STREAM)) if frame.id and frame.id.session in sessions]
    comparison = compare(sent(sessions), recorded)
    assert comparison.agrees, comparison.differences()
    assert comparison.recorded > 200
