"""Unsuitable topics: made by others, altered or deleted while they are used.

Nothing is lost; the log and /healthz show the reason and the remedy; and after the remedy all continues by itself.
"""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from g3stream.contract.headers import Kind
from g3stream.contract.topics import FILES_TOPIC, FRAMES_TOPIC_CONFIG, frames_topic
from testbed.child_process import free_port
from testbed.kafka.distribution import installation
from tests.support.archives import Source, all_committed, published_events, quick_session
from tests.support.injection.proxy import FarBroker
from tests.support.processes import (
    SECONDS,
    Program,
    RawSender,
    Recorder,
    admin_client,
    alter_topic,
    committed,
    eventually,
    flow,
    get,
    scan,
    settings_of,
)

CHECKED_SECONDS = 60.0
"""Topics are checked every 15 s, and every 3 s while one is unsuitable; a busy machine takes longer."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The servers of a broker with Kafka's defaults, but three partitions as the default of a topic."""
    with FarBroker(tmp_path_factory.mktemp("kafka"), properties={"num.partitions": "3"}) as broker:
        yield broker.bootstrap_servers


@pytest.fixture
def site(servers: str, stream: str, tmp_path: Path) -> Iterator[Recorder]:
    with Recorder(servers, stream, tmp_path) as recorder:
        yield recorder


def frames_in(recorder: Recorder) -> list[bytes]:
    """Return the frames in the topic, each once."""
    records = recorder.records()
    found = {(headers.epoch, headers.seq): value for headers, _, value in records if headers.kind is Kind.FRAME}
    return [*found.values()]


def partitions(servers: str, topic: str) -> int:
    """Return the topic's number of partitions; 0 if there is no such topic."""
    topics = admin_client(servers).list_topics(timeout=SECONDS).topics
    return len(topics[topic].partitions) if topic in topics else 0


def delete(servers: str, topic: str) -> None:
    admin = admin_client(servers)
    admin.delete_topics([topic])[topic].result(SECONDS)
    eventually(lambda: not partitions(servers, topic), "the topic gone")


def await_healthy(port: int) -> None:
    eventually(lambda: get(port, "/healthz") == (200, "ok\n"), "all is well", CHECKED_SECONDS)


def await_problem(port: int, pattern: str) -> None:
    def is_reported() -> bool:
        status, text = get(port, "/healthz")
        return status == 503 and re.search(pattern, text) is not None

    eventually(is_reported, f"/healthz reports {pattern}", CHECKED_SECONDS)


# --- On a broker that creates topics by itself ---------------------------------------------------------


def test_a_query_creates_no_topic(site: Recorder, tmp_path: Path) -> None:
    """Not even a query for a stream that doesn't exist."""
    for topic in (FILES_TOPIC, frames_topic(site.stream)):
        if partitions(site.servers, topic):
            delete(site.servers, topic)
    site.data().mkdir()
    site.command("verify")
    site.command("replay", into=tmp_path / "replayed")
    for command in ("status", "files"):
        site.start("archiver", command, "--stream", site.stream).exit_code()
    assert not partitions(site.servers, FILES_TOPIC)
    assert not partitions(site.servers, frames_topic(site.stream))


def test_topics_are_created_with_the_requested_settings(site: Recorder) -> None:
    asked = ("--topic-config", "retention.ms=-1", "--topic-config", "segment.bytes=1048576")
    bad = bytearray(scan(1, size=80))
    bad[-1] ^= 1
    with RawSender() as sender:
        ingest, archiver = site.ingest(sender.port, *asked), site.archiver()
        with sender.accept() as connection:
            connection.sendall(scan(0) + bad + flow(2))
            archiver.await_line(r"finished .* \(end\)")
            ingest.await_line("created the topic g3.rejected")
    topics = [frames_topic(site.stream), f"g3.rejected.{site.stream}", FILES_TOPIC]
    assert [partitions(site.servers, topic) for topic in topics] == [1, 1, 1]
    frames, _, files = (settings_of(site.servers, topic) for topic in topics)
    assert {**frames, **FRAMES_TOPIC_CONFIG, "retention.ms": "-1", "segment.bytes": "1048576"} == frames
    assert files["retention.ms"] == files["retention.bytes"] == "-1"
    for program in (ingest, archiver):
        assert "to fix it" not in program.log


@pytest.mark.slow
def test_topics_that_the_broker_has_created_are_recorded_and_what_is_wrong_is_reported(site: Recorder) -> None:
    """The broker creates them for a producer that only writes to them, or for a consumer of the old Java client."""
    if partitions(site.servers, FILES_TOPIC):
        delete(site.servers, FILES_TOPIC)
    maker = Producer({"bootstrap.servers": site.servers})
    for topic in (FILES_TOPIC, frames_topic(site.stream)):
        maker.list_topics(topic, timeout=SECONDS)
        eventually(lambda topic=topic: partitions(site.servers, topic) == 3, "it is made")  # type: ignore[misc]  # mypy infers no lambda with a default
    port, ingests = free_port(), free_port()
    archiver = site.archiver("--http", str(port))
    with RawSender() as sender:
        ingest = site.ingest(sender.port, "--topic-config", "retention.ms=-1", "--http", str(ingests))
        with sender.accept() as connection:
            connection.sendall(scan(0) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
            configs = f"kafka-configs.sh --bootstrap-server {re.escape(site.servers)} --alter"
            await_problem(port, rf"{FILES_TOPIC} has retention.ms=604800000, .*{configs}.*retention.ms=-1")
            await_problem(ingests, rf"{frames_topic(site.stream)} has retention.ms=604800000.*{configs}")
            archiver.await_line(f"WARNING +the topic {frames_topic(site.stream)} has 3 partitions; only partition 0")
            for program, topic in ((archiver, FILES_TOPIC), (ingest, frames_topic(site.stream))):
                apply_proposed_fix(program, f"{topic} has retention.ms=")
            await_healthy(port)
            await_healthy(ingests)
            metrics = get(port, "/metrics")[1]
    assert re.search(r'^g3_archiver_topic_differences{severity="report"} [1-9]', metrics, re.MULTILINE)
    assert 'g3_archiver_topic_differences{severity="at_risk"} 0.0' in metrics
    assert len(archiver.times_of("retention.ms=604800000")) == 1, "each is logged once"
    assert ingest.stop() == archiver.stop() == 0
    assert [file.read_bytes() for file in site.files()] == [scan(0)]


def apply_proposed_fix(program: Program, what: str) -> None:
    """Run the command at the end of the log line with `what`, by the class that Kafka's own script runs."""
    command = program.await_line(f"{what}.*; to fix it: kafka-configs.sh (.*)")[1]
    subprocess.run(installation().command("kafka.admin.ConfigCommand", *shlex.split(command)), check=True)


# --- Partitions ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_partitions_that_are_added_change_nothing_and_records_in_them_are_reported(site: Recorder) -> None:
    """Before and after a rebalance, and for an ingest that is restarted."""
    quick = quick_session(site.directory)
    ports = [free_port() for _ in range(3)]
    site.create_topic()
    topic = frames_topic(site.stream)

    def member(number: int) -> Program:
        return site.archiver("--instance-id", f"member{number}", "--http", str(ports[number]), *quick)

    def await_problem_of_one(pattern: str) -> None:
        def is_reported() -> bool:
            return any(re.search(pattern, get(port, "/healthz")[1]) for port in ports)

        eventually(is_reported, f"/healthz reports {pattern}", CHECKED_SECONDS)

    members = [member(0)]
    members[0].await_line(f"recording {site.stream}")
    sent: list[bytes] = []

    def record(sender: RawSender) -> None:
        """Record a frame through a new ingest, to the end of its file."""
        sent.append(scan(len(sent)))
        ingest = site.ingest(sender.port)
        with sender.accept() as connection:
            connection.sendall(sent[-1] + flow(2))
            eventually(lambda: len(site.files()) == len(sent), "it is recorded")
            # Stopped while connected: otherwise it would reconnect, and receive the next ingest's frame.
            assert ingest.stop() == 0

    with RawSender() as sender:
        record(sender)
        admin = admin_client(site.servers)
        admin.create_partitions([NewPartitions(topic, 3)])[topic].result(SECONDS)
        members[0].await_line(f"WARNING +the topic {topic} has 3 partitions; only partition 0", CHECKED_SECONDS)
        await_healthy(ports[0])
        record(sender)
        # Two more, so that every partition has a different owner; then the first one leaves.
        members += [member(1), member(2)]
        for each in members[1:]:
            each.await_line("recording to")
        record(sender)
        writer = Producer({"bootstrap.servers": site.servers})
        writer.produce(topic, b"by somebody else", partition=2)
        assert writer.flush(SECONDS) == 0
        await_problem_of_one(r"records in partition 2 \(offsets 0 to 0\): these aren't recorded")
        status = site.start("archiver", "status", "--stream", site.stream, "--group", f"{site.stream}.archive")
        assert status.exit_code() == 1
        last = max(members, key=lambda each: max(each.times_of(f"recording {site.stream}$"), default=0.0))
        assert last.stop() == 0
        members.remove(last)
        record(sender)
    eventually(lambda: site.committed() > 0, "it is committed")
    assert [file.read_bytes() for file in site.files()] == sent
    for each in members:
        assert each.stop() == 0
        assert not re.search("(WARNING|ERROR) .*was deleted", each.log)
        assert "LOST" not in each.log


# --- g3.files ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_g3_files_is_created_again_when_it_is_deleted_and_has_the_next_event(stream: str, tmp_path: Path) -> None:
    with FarBroker(tmp_path / "kafka") as broker, Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder:
        port = free_port()
        recorder.create_topic()
        source = Source(recorder.servers, stream)
        archiver = recorder.archiver("--http", str(port))
        source.start()
        source.end()
        archiver.await_line(r"finished .* \(end\)")
        source.now += 2000
        source.start()
        eventually(lambda: all_committed(recorder, [source]), "committed")
        delete(recorder.servers, FILES_TOPIC)
        source.scans(10)
        source.end()
        archiver.await_line(
            f"the topic {FILES_TOPIC} was deleted, with all events in it; created it again", CHECKED_SECONDS
        )
        archiver.await_line(r"finished .* \(end\)", CHECKED_SECONDS, count=2)
        assert settings_of(recorder.servers, FILES_TOPIC)["retention.ms"] == "-1"
        assert [value["path"].endswith(recorder.files()[1].name) for _, value in published_events(recorder)] == [True]
        await_healthy(port)
        assert archiver.stop() == 0


# --- While ingest publishes ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "mended", "problem"),
    [
        ({"max.message.bytes": "500"}, {"max.message.bytes": "1048588"}, "max.message.bytes=500"),
        ({"cleanup.policy": "compact"}, {"cleanup.policy": "delete"}, "cleanup.policy=compact"),
        (
            {"message.timestamp.before.max.ms": "0", "message.timestamp.after.max.ms": "0"},
            {"message.timestamp.before.max.ms": str(2**63 - 1), "message.timestamp.after.max.ms": str(2**63 - 1)},
            "message.timestamp.before.max.ms=0",
        ),
        (
            {"message.timestamp.type": "LogAppendTime"},
            {"message.timestamp.type": "CreateTime"},
            "message.timestamp.type=LogAppendTime",
        ),
    ],
    ids=["size", "compacted", "timestamps", "append-time"],
)
def test_a_topic_that_becomes_unfit_is_waited_for(
    kafka: str, stream: str, tmp_path: Path, wrong: dict[str, str], mended: dict[str, str], problem: str
) -> None:
    """While ingest publishes to it, and when ingest starts."""
    sent = [scan(number) for number in range(6)]
    port, topic = free_port(), frames_topic(stream)
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        archiver = recorder.archiver()
        ingest = recorder.ingest(sender.port, "--http", str(port))
        connection = sender.accept()
        connection.sendall(sent[0])
        eventually(lambda: bool(partitions(kafka, topic)) and frames_in(recorder) == sent[:1], "the first one")
        alter_topic(kafka, topic, wrong)
        connection.sendall(sent[1] + sent[2])
        await_problem(port, rf"{topic} has {problem}.*to fix it: kafka-configs.sh .* --entity-name {topic} ")
        connection.sendall(sent[3])
        alter_topic(kafka, topic, mended)
        eventually(lambda: frames_in(recorder) == sent[:4], "all of them", CHECKED_SECONDS)
        await_healthy(port)
        assert ingest.stop() == 0

        alter_topic(kafka, topic, wrong)
        again = recorder.ingest(sender.port, "--http", str(port))
        connection = sender.accept()
        connection.sendall(sent[4])
        await_problem(port, rf"{topic} has {problem}.*to fix it: kafka-configs.sh")
        connection.sendall(sent[5] + flow(2))
        alter_topic(kafka, topic, mended)
        eventually(lambda: frames_in(recorder) == sent, "all of them", CHECKED_SECONDS)
        await_healthy(port)
        assert again.stop() == 0
        archiver.await_line(r"finished .* \(end\)")
        assert archiver.stop() == 0
        assert b"".join(file.read_bytes() for file in recorder.files()) == b"".join(sent)
        assert "LOST" not in archiver.log


@pytest.mark.slow
def test_a_topic_that_ingest_may_not_write_is_waited_for(stream: str, tmp_path: Path) -> None:
    """And settings that it may not read don't prevent anything."""
    properties = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with (
        FarBroker(tmp_path / "kafka", properties=properties) as broker,
        Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder,
        RawSender() as sender,
    ):
        servers, port, topic = recorder.servers, free_port(), frames_topic(stream)
        recorder.create_topic()
        forbid(servers, topic, AclOperation.DESCRIBE_CONFIGS)
        ingest = recorder.ingest(sender.port, "--http", str(port))
        connection = sender.accept()
        connection.sendall(scan(0))
        eventually(lambda: frames_in(recorder) == [scan(0)], "the first one")
        ingest.await_line(f"{topic} can't be checked: this user may not read its settings")
        await_healthy(port)
        forbid(servers, topic, AclOperation.WRITE)
        connection.sendall(scan(1))
        await_problem(port, f"Kafka refuses records in {topic}: .*[Aa]uthoriz")
        connection.sendall(scan(2))
        allow_all(servers, topic)
        eventually(lambda: frames_in(recorder) == [scan(0), scan(1), scan(2)], "all of them", CHECKED_SECONDS)
        await_healthy(port)
        assert ingest.stop() == 0


def forbid(servers: str, topic: str, operation: AclOperation) -> None:
    """Forbid an operation to everybody. (A user who is allowed nothing else has a separate ACL.)"""
    every = [
        AclBinding(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:*", "*", what, permission)
        for what, permission in (
            (operation, AclPermissionType.DENY),
            (AclOperation.ALL, AclPermissionType.ALLOW),
        )
    ]
    admin = admin_client(servers)
    for future in admin.create_acls(every).values():
        future.result(SECONDS)


def allow_all(servers: str, topic: str) -> None:
    """Allow again what was forbidden."""
    mine = (ResourceType.TOPIC, topic, ResourcePatternType.LITERAL)
    every = AclBindingFilter(*mine, "User:*", "*", AclOperation.ANY, AclPermissionType.ANY)
    admin = admin_client(servers)
    admin.delete_acls([every])[every].result(SECONDS)


@pytest.mark.slow
def test_a_topic_of_others_is_left_alone(site: Recorder) -> None:
    """The archiver checks only the topics that it records."""
    other = frames_topic(f"{site.stream}-other")
    new = NewTopic(other, 1, config={"cleanup.policy": "compact"})
    admin = admin_client(site.servers)
    admin.create_topics([new])[other].result(SECONDS)
    site.create_topic()
    source = Source(site.servers, site.stream)
    archiver = site.archiver()
    source.start()
    source.end()
    archiver.await_line(r"finished .* \(end\)")
    eventually(lambda: committed(site.servers, f"{site.stream}.archive", site.stream) == [source.sent], "committed")
    assert archiver.stop() == 0
    assert other not in archiver.log
