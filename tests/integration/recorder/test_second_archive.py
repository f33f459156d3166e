"""A second archive, of the same topics or of mirrored ones, has the same names and bytes as the first."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AclBinding,
    AclOperation,
    AclPermissionType,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from spt3g import core

from g3stream.contract.headers import RecordHeaders, headers_of
from g3stream.contract.topics import FRAMES_TOPIC_CONFIG, frames_topic, quarantine_topic
from testbed.child_process import HOST, free_port
from testbed.kafka.broker import Broker
from testbed.kafka.mirror_maker import MirrorMaker
from tests.support.archives import Source
from tests.support.processes import (
    SECONDS,
    Program,
    RawSender,
    Recorder,
    admin_client,
    delete_before,
    eventually,
    flow,
    frame,
    run_archiver,
    scan,
)

pytestmark = pytest.mark.slow

SETTINGS = ("--time-per-file", "0.5", "--gap", "2")
PAGE = Path(__file__).parents[3] / "docs" / "operate" / "second-site.md"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
PASSWORD = "only-in-this-test"  # noqa: S105  # of a broker that lives for some seconds


class Night:
    """What a sender sends, through a real ingest, and what happens meanwhile."""

    def __init__(self, recorder: Recorder, sender: RawSender) -> None:
        self._recorder = recorder
        self._sender = sender
        self._sent = 0

    def scans(self, count: int, size: int = 1000) -> bytes:
        """The next so many data frames."""
        self._sent += count
        return b"".join(scan(number, size) for number in range(self._sent - count, self._sent))

    def short(self) -> None:
        """One acquisition, published when this returns."""
        topic = frames_topic(self._recorder.stream)
        before = span(self._recorder.servers, topic)[1]
        ingest = self._recorder.ingest(self._sender.port)
        with self._sender.accept() as connection:
            connection.sendall(flow(1) + self.scans(10) + flow(2))
            eventually(lambda: span(self._recorder.servers, topic)[1] >= before + 12, "twelve more records")
            assert ingest.stop() == 0

    def long(self, archiver: Program, disturb: Callable[[], None]) -> str:
        """Acquisitions that end in every way, frames of several records, an ingest that is killed.

        archiver: records it in peace. disturb: what is done while many records are on their way.
        Gives the last file's path below the data directory.
        """
        ingest = self._recorder.ingest(self._sender.port)
        observation = frame(core.G3FrameType.Observation, stream_placement="start", frame_num=0)
        with self._sender.accept() as connection:
            connection.sendall(flow(1) + observation + self.scans(30))
            for _ in range(3):
                time.sleep(0.3)  # time passes between records: the files are cut by it
                connection.sendall(self.scans(1))
            connection.sendall(self.scans(3, 2_500_000) + self.scans(30) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
            connection.sendall(flow(1) + self.scans(10))
            archiver.await_line(r"finished .* \(gap\)")
            connection.sendall(b"".join(self.scans(1, 2_500_000) + self.scans(20) for _ in range(16)))
            disturb()
            connection.sendall(self.scans(10))
        archiver.await_line(r"finished .* \(disconnected\)")
        with self._sender.accept() as connection:
            opened = len(archiver.times_of("opened"))
            connection.sendall(self.scans(100, 2000))
            archiver.await_line("opened", count=opened + 1)
            connection.sendall(b"".join(self.scans(1, 1_500_000) + self.scans(50) for _ in range(16)))
            ingest.kill()  # what it had published, but not yet noted as published, it publishes again
        ingest = self._recorder.ingest(self._sender.port)
        with self._sender.accept() as connection:
            connection.sendall(self.scans(10) + flow(2))
            last = archiver.await_line(r"finished (\S+) \(end\)", count=2)[1]
            assert ingest.stop() == 0  # nothing is published any more
        assert archiver.times_of(r"finished .* \(time\)")
        return last


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it lies in a topic, but for its offset."""

    label: RecordHeaders
    headers: tuple[tuple[str, bytes], ...]
    timestamp: tuple[int, int]
    value: bytes


def span(servers: str, topic: str) -> tuple[int, int]:
    """A topic's first offset, and the one after its last; 0, 0 if there is no such topic."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "unused", "log_level": 0})
    try:
        if consumer.list_topics(topic, SECONDS).topics[topic].error is not None:
            return 0, 0
        first, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), SECONDS)
    finally:
        consumer.close()
    return first, end


def records(servers: str, topic: str, latest: int | None = None) -> list[Record]:
    """All that is in a topic now, or the latest so many."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "unused", "enable.auto.commit": False})
    found: list[Record] = []
    try:
        first, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), SECONDS)
        first = first if latest is None else max(first, end - latest)
        consumer.assign([TopicPartition(topic, 0, first)])
        while first + len(found) < end:
            for message in consumer.consume(min(1000, end - first - len(found)), SECONDS):
                assert message.error() is None
                headers: Any = headers_of(message)  # names and bytes, as sent
                label = RecordHeaders.from_kafka(headers)
                found.append(Record(label, tuple(headers), message.timestamp(), message.value() or b""))
    finally:
        consumer.close()
    return found


def once(found: list[Record]) -> list[Record]:
    """The records without those that were published again."""
    first: dict[tuple[str, int, tuple[int, int]], Record] = {}
    for record in found:
        first.setdefault((record.label.epoch, record.label.seq, record.label.chunk), record)
    return list(first.values())


def assert_same(first: Recorder, one: str, second: Recorder, other: str) -> None:
    """Fails if the archives differ, and says where, without printing megabytes."""
    expected, found = first.tree(one), second.tree(other)
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    files = [name for name in expected if name.endswith(".g3")]
    assert len(files) > 5
    assert {str(Path(name).parent / "SHA256SUMS") for name in files} == set(expected) - set(files)


def test_two_archivers_of_the_same_topics_make_the_same_archive(kafka: str, stream: str, tmp_path: Path) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        recorder.create_topic()
        first = recorder.archiver(*SETTINGS, archive="first")
        second = [recorder.archiver(*SETTINGS, archive="second")]
        for archiver in (first, *second):
            archiver.await_line(f"recording {stream}")

        def kill() -> None:
            second[0].kill()
            second.append(recorder.archiver(*SETTINGS, archive="second"))

        last = Night(recorder, sender).long(first, kill)
        second[1].await_line(f"finished {last}")
        assert_same(recorder, "first", recorder, "second")
        assert "LOST" not in first.log + second[0].log + second[1].log
        found = records(kafka, frames_topic(stream))
        print(f"{len(found)} records, {len(once(found))} once")


@dataclass(frozen=True, slots=True)
class Sites:
    """Two clusters. At the site `mirror` may read the streams and their settings, and nothing else."""

    site: Broker
    home: Broker
    mirrors: dict[str, str]

    @property
    def site_servers(self) -> str:
        return self.site.bootstrap_servers

    @property
    def home_servers(self) -> str:
        return self.home.bootstrap_servers


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    port = free_port()
    guarded = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # who comes over the plain listener
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": f"{SCRAM} required;",
    }
    foreign = {
        # All that a home cluster may have otherwise, and that must not come through to the records.
        "log.message.timestamp.type": "LogAppendTime",
        "log.message.timestamp.after.max.ms": "1",
        "log.cleanup.policy": "compact",
        "message.max.bytes": "100000",
        "group.min.session.timeout.ms": "1000",
    }
    directory = tmp_path_factory.mktemp("sites")
    with (
        Broker(directory / "site", properties=guarded, listeners={"SASL_PLAINTEXT": port}) as site,
        Broker(directory / "home", properties=foreign) as home,
    ):
        admin = admin_client(site.bootstrap_servers)
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        user = UserScramCredentialUpsertion("mirror", info, PASSWORD.encode())
        admin.alter_user_scram_credentials([user])["mirror"].result(SECONDS)
        rights = [
            AclBinding(
                ResourceType.TOPIC,
                "g3.frames.",
                ResourcePatternType.PREFIXED,
                "User:mirror",
                "*",
                operation,
                AclPermissionType.ALLOW,
            )
            for operation in (AclOperation.READ, AclOperation.DESCRIBE_CONFIGS)
        ]
        for future in admin.create_acls(rights).values():
            future.result(SECONDS)
        login = f'{SCRAM} required username="mirror" password="{PASSWORD}";'
        mirrors = {
            "site.bootstrap.servers": f"{HOST}:{port}",
            "site.security.protocol": "SASL_PLAINTEXT",
            "site.sasl.mechanism": "SCRAM-SHA-512",
            "site.sasl.jaas.config": login,
        }
        yield Sites(site, home, mirrors)


def documented() -> dict[str, str]:
    """The settings that the page on second sites gives, but for hosts, logins, replication and intervals."""
    match = re.search(r"```properties\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert match is not None
    lines = [line.split(" = ", 1) for line in match[1].splitlines() if line and not line.startswith("#")]
    other_here = re.compile(r"(site|home)\.(bootstrap|security|sasl|ssl).*|.*replication\.factor|.*interval\.seconds")
    return {key: value.replace("\\\\", "\\") for key, value in lines if not other_here.fullmatch(key)}


@pytest.fixture
def mirror(sites: Sites, tmp_path: Path) -> Iterator[MirrorMaker]:
    quick = {"home.session.timeout.ms": "1000", "home.heartbeat.interval.ms": "200"}
    made = MirrorMaker(
        tmp_path / "mirror",
        sites.site_servers,
        sites.home_servers,
        {**documented(), **sites.mirrors, **quick},
    )
    try:
        yield made
    finally:
        made.kill()
        if made.log.exists():
            print(f"--- log of the mirror\n{made.log.read_text()}")


def delete_all(servers: str, topic: str) -> int:
    """Delete all that is in a topic, as retention does; gives the offset where it goes on."""
    _, end = span(servers, topic)
    delete_before(servers, topic, end)
    return end


def others(servers: str) -> set[str]:
    """The topics that aren't ours."""
    admin = admin_client(servers)
    return {name for name in admin.list_topics(timeout=SECONDS).topics if not name.startswith("g3.")}


def own_settings(servers: str, topic: str) -> dict[str, str]:
    """The settings that were given to a topic itself."""
    resource, given = ConfigResource(ResourceType.TOPIC, topic), ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    admin = admin_client(servers)
    found = admin.describe_configs([resource])[resource].result(SECONDS)
    return {name: entry.value for name, entry in found.items() if entry.source == given}


def test_an_archive_of_mirrored_topics_is_the_same(
    sites: Sites, mirror: MirrorMaker, stream: str, tmp_path: Path
) -> None:
    topic = frames_topic(stream)
    home = admin_client(sites.home_servers)
    with (
        Recorder(sites.site_servers, stream, tmp_path / "site") as near,
        Recorder(sites.home_servers, stream, tmp_path / "home") as far,
        RawSender() as sender,
    ):
        near.create_topic(config={"retention.ms": "86400000"})
        night = Night(near, sender)
        night.short()
        gone = delete_all(sites.site_servers, topic)  # so offsets are other ones at home
        mirror.start()
        eventually(lambda: topic in home.list_topics(timeout=SECONDS).topics, "the topic at home")
        longer = ConfigEntry("retention.ms", "-1", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[longer])
        home.incremental_alter_configs([resource])[resource].result(SECONDS)
        first = near.archiver(*SETTINGS)
        second = far.archiver(*SETTINGS)
        for archiver in (first, second):
            archiver.await_line(f"recording {stream}")

        def kill() -> None:
            _, before = span(sites.home_servers, topic)
            eventually(lambda: span(sites.home_servers, topic)[1] >= before + 5, "more records at home")
            mirror.kill()
            mirror.start()

        last = night.long(first, kill)
        second.await_line(f"finished {last}")
        assert_same(near, "archive", far, "archive")
        assert "LOST" not in first.log + second.log

        at_site = records(sites.site_servers, topic)
        eventually(lambda: records(sites.home_servers, topic, latest=1) == at_site[-1:], "the last record at home")
        at_home = records(sites.home_servers, topic)
        print(f"{len(at_site)} records at the site, {len(once(at_site))} once; {len(at_home)} at home")
        assert once(at_home) == once(at_site)
        assert len(at_home) > len(at_site)  # the killed mirror copied some again
        assert (span(sites.site_servers, topic)[0], span(sites.home_servers, topic)[0]) == (gone, 0)

    settings = own_settings(sites.home_servers, topic)
    assert settings == {**FRAMES_TOPIC_CONFIG, "retention.ms": "-1"}
    # At the site nothing was written; at home MirrorMaker has what it remembers, and no other topic was mirrored.
    assert others(sites.site_servers) == {"__consumer_offsets"}
    remembered = {f"mm2-{what}.site.internal" for what in ("configs", "offsets", "status")}
    assert others(sites.home_servers) == {"__consumer_offsets", "heartbeats", *remembered}


def test_what_is_set_aside_at_the_site_stops_no_archive_at_home(
    sites: Sites, mirror: MirrorMaker, stream: str, tmp_path: Path
) -> None:
    """A record that isn't ours, at another offset at home."""
    with (
        Recorder(sites.site_servers, stream, tmp_path / "site") as near,
        Recorder(sites.home_servers, stream, tmp_path / "home") as far,
    ):
        near.create_topic()
        source = Source(near.servers, stream)
        source.start()
        delete_before(near.servers, frames_topic(stream), 5)
        source.scans(50)
        at = source.sent
        producer = Producer({"bootstrap.servers": near.servers})
        producer.produce(frames_topic(stream), b"?", b"key", partition=0, headers=[("a", None)])
        assert producer.flush(SECONDS) == 0
        source.scans(50)
        source.end()
        first = near.archiver()
        first.await_line(f"STOPPED at offset {at}: ")
        done = run_archiver(near.servers, "quarantine", "--stream", stream, "--offset", str(at))
        assert (done.returncode, done.stderr) == (0, "")
        first.await_line(r"finished .* \(end\): 101 frames")
        mirror.start()
        second = far.archiver()
        second.await_line(rf"left out the record at offset {at - 5}, ")
        second.await_line(r"finished .* \(end\): 101 frames")
        assert far.tree() == near.tree()
        assert own_settings(far.servers, quarantine_topic(stream))["cleanup.policy"] == "compact"


def test_what_retention_took_before_it_was_mirrored_is_told_at_home(
    sites: Sites, mirror: MirrorMaker, stream: str, tmp_path: Path
) -> None:
    topic = frames_topic(stream)
    with (
        Recorder(sites.site_servers, stream, tmp_path / "site") as near,
        Recorder(sites.home_servers, stream, tmp_path / "home") as far,
        RawSender() as sender,
    ):
        near.create_topic()
        night = Night(near, sender)
        mirror.start()
        second = far.archiver()
        night.short()
        second.await_line(r"finished .* \(end\)")
        mirror.stop()
        night.short()
        delete_all(sites.site_servers, topic)
        mirror.start()
        night.short()
        second.await_line(r"LOST", 2 * SECONDS)
        second.await_line(r"finished .* \(end\)", 3 * SECONDS, count=2)
