"""A broker with ACLs: the whole recorder with only the rights that docs/operate/kafka-rights.md lists."""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from g3stream.contract.topics import FILES_TOPIC, STATUS_TOPIC, frames_topic
from testbed.child_process import HOST, free_port
from testbed.kafka.broker import Broker
from tests.support.processes import (
    SECONDS,
    Program,
    RawSender,
    Recorder,
    admin_client,
    eventually,
    flow,
    get,
    run_archiver,
    scan,
)

pytestmark = pytest.mark.slow

SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
PASSWORD = secrets.token_hex(8)
GROUP = "the-archive"
FRAMES, REJECTED = "g3.frames.", "g3.rejected."
TOPIC, PREFIX, OF_GROUP, GROUPS = "topic", "topics that begin with", "group", "groups that begin with"

Right = tuple[str, str, str]
"""A right: kind of resource, its name, operation."""

REPORTING: set[Right] = {(TOPIC, STATUS_TOPIC, operation) for operation in ("Create", "Write")}
LEAST: dict[str, set[Right]] = {
    "ingest": {
        *((PREFIX, topic, operation) for topic in (FRAMES, REJECTED) for operation in ("Create", "Write")),
        *REPORTING,
    },
    "archiver": {
        *REPORTING,
        (PREFIX, FRAMES, "Read"),
        *((TOPIC, FILES_TOPIC, operation) for operation in ("Create", "Read", "Write")),
        (OF_GROUP, GROUP, "Read"),
    },
    "archiver --on-file": {(GROUPS, f"{GROUP}.on-file.", "Read")},
    "archiver --suprsync-db": {(GROUPS, f"{GROUP}.suprsync-", "Read")},
    "files": {(TOPIC, FILES_TOPIC, "Read")},
    "status": {(PREFIX, FRAMES, "Read"), (OF_GROUP, GROUP, "Describe")},
    **{
        name: {(PREFIX, FRAMES, "Read"), (TOPIC, FILES_TOPIC, "Read"), (OF_GROUP, GROUP, "Describe")}
        for name in ("verify", "repair", "replay")
    },
    "quicklook": {(PREFIX, FRAMES, "Read")},
    "relay": {(PREFIX, FRAMES, "Read")},
    "retire": {(TOPIC, FILES_TOPIC, "Read"), (TOPIC, FILES_TOPIC, "Write")},
    "adopt": {
        (PREFIX, FRAMES, "Read"),
        *((TOPIC, FILES_TOPIC, operation) for operation in ("Read", "Write")),
        (OF_GROUP, GROUP, "Describe"),
    },
    "close": {(PREFIX, FRAMES, "Read"), (PREFIX, FRAMES, "Write")},
    "quarantine": {(PREFIX, FRAMES, operation) for operation in ("Create", "Read", "Write")},
}
"""Rights by program or command, as in docs/operate/kafka-rights.md."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A broker that allows nothing except to its administrator, who uses the plaintext listener."""

    broker: Broker
    port: int
    directory: Path

    @property
    def servers(self) -> str:
        return f"{HOST}:{self.port}"

    def user(self, name: str) -> Path:
        """Make a user without rights. Returns its client.properties."""
        admin = admin_client(self.broker.bootstrap_servers)
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        upsertion = UserScramCredentialUpsertion(name, info, PASSWORD.encode())
        admin.alter_user_scram_credentials([upsertion])[name].result(SECONDS)
        path = self.directory / f"{name}.properties"
        path.write_text(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\n"
            f'sasl.jaas.config={SCRAM} required username="{name}" password="{PASSWORD}";\n'
        )
        path.chmod(0o600)
        return path

    def allow(self, user: str, *rights: Right) -> None:
        """Add an ACL, as kafka-acls.sh --add does."""
        bindings = [AclBinding(*self._of(user, right)) for right in rights]
        admin = admin_client(self.broker.bootstrap_servers)
        for done in admin.create_acls(bindings).values():
            done.result(SECONDS)

    def forbid(self, user: str, *rights: Right) -> None:
        """Remove an ACL, as kafka-acls.sh --remove does."""
        filters = [AclBindingFilter(*self._of(user, right)) for right in rights]
        admin = admin_client(self.broker.bootstrap_servers)
        for done in admin.delete_acls(filters).values():
            assert done.result(SECONDS)

    def _of(
        self, user: str, right: Right
    ) -> tuple[ResourceType, str, ResourcePatternType, str, str, AclOperation, AclPermissionType]:
        kind, name, operation = right
        pattern = ResourcePatternType.PREFIXED if kind in (PREFIX, GROUPS) else ResourcePatternType.LITERAL
        resource = ResourceType.GROUP if kind in (OF_GROUP, GROUPS) else ResourceType.TOPIC
        # "DescribeConfigs" -> DESCRIBE_CONFIGS
        wanted = AclOperation[re.sub("(?<=.)(?=[A-Z])", "_", operation).upper()]
        return resource, name, pattern, f"User:{user}", "*", wanted, AclPermissionType.ALLOW


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    port = free_port()
    properties = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": f"{SCRAM} required;",
    }
    with Broker(tmp_path / "kafka", properties=properties, listeners={"SASL_PLAINTEXT": port}) as broker:
        yield Guarded(broker, port, tmp_path)


class Site:
    """A recorder whose programs and commands each have their own user."""

    def __init__(self, guarded: Guarded, stream: str) -> None:
        self.guarded = guarded
        self.recorder = Recorder(guarded.broker.bootstrap_servers, stream, guarded.directory)
        self.stream = stream
        self._config = {user: guarded.user(user) for user in {_user(name) for name in LEAST}}

    def allow_least(self, *names: str) -> None:
        for name in names:
            self.guarded.allow(_user(name), *LEAST[name])

    def ingest(self, port: int | None, *arguments: str) -> Program:
        return self.recorder.ingest(port, *self._as("ingest"), *arguments)

    def archiver(self, *arguments: str) -> Program:
        return self.recorder.archiver("--group", GROUP, *self._as("archiver"), *arguments)

    def quicklook(self) -> Program:
        """Start quick look with a decoder's Python that has no so3g."""
        flags = ("--python", sys.executable, "--http", str(free_port()), "--stream", self.stream)
        return self.recorder.start("archiver", "quicklook", *flags, *self._as("quicklook"))

    def relay(self) -> Program:
        where = ("--stream", self.stream, "--listen", str(free_port()))
        return self.recorder.start("archiver", "relay", *where, *self._as("relay"))

    def command(self, name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command as its user, with the `arguments` that it needs."""
        whose = () if name in ("close", "quarantine") else ("--group", GROUP)
        stream = ("--stream", self.stream)
        return run_archiver(self.guarded.servers, name, *whose, *stream, *self._as(name), *arguments)

    def _as(self, user: str) -> tuple[str, ...]:
        return ("--bootstrap-servers", self.guarded.servers, "--kafka-config", str(self._config[user]))


@pytest.fixture
def site(guarded: Guarded, stream: str) -> Iterator[Site]:
    made = Site(guarded, stream)
    with made.recorder:
        yield made


def record(site: Site, frame: bytes) -> None:
    """Record a file with that frame by ingest and archiver, and stop them."""
    with RawSender() as sender:
        ingest, archiver = site.ingest(sender.port), site.archiver()
        with sender.accept() as connection:
            connection.sendall(frame + flow(2))
            archiver.await_line(r"finished .* \(end\): 1 frames")
            assert [program.stop() for program in (ingest, archiver)] == [0, 0]
    assert "this user lacks" not in ingest.log + archiver.log


def test_all_of_it_works_with_the_least_rights(site: Site, tmp_path: Path) -> None:
    site.allow_least(*LEAST)
    spoilt = bytearray(scan(2))
    spoilt[-1] ^= 1
    handed_over = tmp_path / "handed-over"
    on_file = ("--on-file", f"sh -c 'echo $G3_PATH >> {handed_over}'")
    with RawSender() as sender:
        ingest, archiver = site.ingest(sender.port), site.archiver("--http", str(port := free_port()), *on_file)
        with sender.accept() as connection:
            connection.sendall(scan(1) + bytes(spoilt) + flow(2))
            archiver.await_line(r"finished .* \(end\): 1 frames")
            eventually(lambda: len(site.recorder.records(f"{REJECTED}{site.stream}")) == 1, "the bad frame")
            connection.sendall(scan(3))
            site.recorder.await_frames(2)
            assert get(port, "/healthz")[0] == 200
            ingest.kill()
    status = site.command("status")
    assert site.stream in status.stdout
    quicklook = site.quicklook()
    quicklook.await_line("the decoder: it has ended by exit code 1")  # it has no so3g; what it was given, was read
    assert quicklook.stop() == 0
    relay = site.relay()
    relay.await_line("is served at")
    assert relay.stop() == 0
    assert "this user lacks" not in quicklook.log + relay.log
    eventually(lambda: site.command("close").returncode == 0, "its ingest has published nothing for 10 s")
    archiver.await_line(r"finished .* \(disconnected: .*\): 1 frames")
    eventually(
        lambda: handed_over.exists() and len(handed_over.read_text().splitlines()) == 2, "both files handed over"
    )
    assert archiver.stop() == 0
    assert "this user lacks" not in ingest.log + archiver.log
    assert handed_over.read_text().split() == [str(path) for path in site.recorder.files()]

    data = ("--data-dir", str(site.recorder.data()))
    files = site.command("files")
    assert (files.returncode, files.stderr) == (0, "")
    assert "the-archive" not in files.stdout
    assert site.command("verify", *data).returncode == 0
    first, second = site.recorder.files()
    assert first.read_bytes() == scan(1)
    assert second.read_bytes() == scan(3)
    assert site.command("replay", "--data-dir", str(tmp_path / "again")).returncode == 0
    again = [path.read_bytes() for path in sorted((tmp_path / "again").glob("[0-9]*/*/*.g3"))]
    assert again == [scan(1), scan(3)]
    first.unlink()
    assert site.command("retire", *data, str(second)).returncode == 0
    assert site.command("adopt", *data, str(second)).returncode == 0
    assert site.command("verify", *data).returncode == 1
    assert site.command("repair", *data).returncode == 0
    assert first.read_bytes() == scan(1)


def test_an_archiver_without_commits_continues_with_the_least_rights(site: Site) -> None:
    site.allow_least("ingest", "archiver", "verify")
    record(site, scan(1))
    admin = admin_client(site.guarded.broker.bootstrap_servers)

    def deleted() -> bool:  # fails while the group still has its member
        return admin.delete_consumer_groups([GROUP])[GROUP].exception(SECONDS) is None

    eventually(deleted, "the group deleted")
    site.guarded.forbid("archiver", read := (TOPIC, FILES_TOPIC, "Read"))
    archiver = site.archiver()
    archiver.await_line(f"ERROR .*{re.escape(lacks(read, site.stream))}.*still trying")
    site.guarded.allow("archiver", read)
    with RawSender() as sender:
        ingest = site.ingest(sender.port)
        with sender.accept() as connection:
            connection.sendall(scan(2) + flow(2))
            archiver.await_line(r"finished .* \(end\): 1 frames")
    assert [program.stop() for program in (ingest, archiver)] == [0, 0]
    assert [file.read_bytes() for file in site.recorder.files()] == [scan(1), scan(2)]
    assert site.command("verify", "--data-dir", str(site.recorder.data())).returncode == 0


def test_a_right_that_a_command_lacks_is_named(site: Site, tmp_path: Path) -> None:
    site.allow_least("ingest", "archiver")
    record(site, scan(1))
    with RawSender() as sender:  # an acquisition that isn't ended
        ingest = site.ingest(sender.port)
        with sender.accept() as connection:
            connection.sendall(scan(2))
            site.recorder.await_frames(2)
            ingest.kill()
    [directory] = {str(path.parent) for path in site.recorder.files()}
    old = Path(directory) / f"{Path(directory).parent.name}00000_000.g3"  # to be adopted
    old.write_bytes(scan(7))
    os.utime(old, (0, 0))
    for name in ("files", "status", "verify", "replay", "repair", "retire", "adopt", "close"):
        data = {"replay": tmp_path / "again"}.get(name, site.recorder.data())
        arguments = [] if name in ("files", "status", "close") else ["--data-dir", str(data)]
        arguments += [directory] if name in ("retire", "adopt") else []
        for right in sorted(LEAST[name]):
            if others := LEAST[name] - {right}:
                site.guarded.allow(name, *others)
            done = site.command(name, *arguments)
            while "is alive" in done.stderr:  # until its ingest has published nothing for 10 s
                done = site.command(name, *arguments)
            assert (done.returncode, done.stdout) == (1, ""), (name, right)
            assert lacks(right, site.stream) in done.stderr, (name, right)
            if others:
                site.guarded.forbid(name, *others)


def test_a_right_that_a_hand_over_lacks_is_named_and_all_is_handed_over_once_it_is_given(
    site: Site, tmp_path: Path
) -> None:
    site.allow_least("ingest", "archiver")
    handed_over = tmp_path / "handed-over"
    on_file = ("--on-file", f"sh -c 'echo $G3_PATH >> {handed_over}'")
    with RawSender() as sender:
        ingest, archiver = site.ingest(sender.port), site.archiver("--http", str(port := free_port()), *on_file)
        with sender.accept() as connection:
            connection.sendall(scan(1) + flow(2))
            archiver.await_line(r"finished .* \(end\): 1 frames")
            archiver.await_line(rf"WARNING .*on-file: .* lacks Read on the group {GROUP}\.on-file\.[0-9a-f]{{16}} ")
            eventually(lambda: "warning: on-file: Kafka: " in get(port, "/healthz")[1], "a warning")
            assert get(port, "/healthz")[0] == 200
            site.allow_least("archiver --on-file")
            eventually(handed_over.exists, "handed over")
            eventually(lambda: get(port, "/healthz") == (200, "ok\n"), "healthy")
    assert [program.stop() for program in (ingest, archiver)] == [0, 0]
    assert handed_over.read_text().split() == [str(path) for path in site.recorder.files()]


def test_files_are_registered_and_reported_as_final_with_the_least_rights(site: Site, tmp_path: Path) -> None:
    pytest.importorskip("socs", reason="the package socs isn't installed: pip install '.[socs]'")
    site.allow_least("ingest", "archiver", "archiver --suprsync-db")
    hand_over = ("--suprsync-db", str(tmp_path / "suprsync.db"))
    with RawSender() as sender:
        ingest, archiver = site.ingest(sender.port), site.archiver("--http", str(port := free_port()), *hand_over)
        with sender.accept() as connection:
            connection.sendall(scan(1) + flow(2))
            archiver.await_line("registered /")
            eventually(lambda: "g3_archiver_finalized_until" in get(port, "/metrics")[1], "up to when it is final")
            assert get(port, "/healthz") == (200, "ok\n")
    assert [program.stop() for program in (ingest, archiver)] == [0, 0]
    assert "this user lacks" not in ingest.log + archiver.log


def test_quarantine_needs_what_is_listed_and_names_what_it_lacks(site: Site) -> None:
    site.recorder.create_topic()
    producer = Producer({"bootstrap.servers": site.recorder.servers})
    producer.produce(frames_topic(site.stream), b"whatever", partition=0)
    producer.flush(SECONDS)
    for operation in ("Read", "Create", "Write"):
        done = site.command("quarantine", "--offset", "0")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"this user lacks {operation} on the topic {FRAMES}" in done.stderr
        site.guarded.allow("quarantine", (PREFIX, FRAMES, operation))
    assert site.command("quarantine", "--offset", "0").returncode == 0


def test_a_right_that_ingest_lacks_is_named_and_all_is_published_once_it_is_given(site: Site) -> None:
    topic = frames_topic(site.stream)
    with RawSender() as sender:
        ingest = site.ingest(sender.port)
        with sender.accept() as connection:
            connection.sendall(scan(1))
            for operation in ("Write", "Create"):
                ingest.await_line(f"lacks {operation} on the topic {re.escape(topic)} .*still trying")
                site.guarded.allow("ingest", (TOPIC, topic, operation))
            eventually(
                lambda: _has_topic(site) and any(it[0].num == 1 for it in site.recorder.records()), "the frame"
            )
            site.guarded.forbid("ingest", (TOPIC, topic, "Write"))
            site.guarded.allow("ingest", (TOPIC, topic, "Describe"))
            connection.sendall(scan(2))
            ingest.await_line(f"Kafka refuses records in .* lacks Write on the topic {re.escape(topic)}")
            site.guarded.allow("ingest", (TOPIC, topic, "Write"))
            eventually(lambda: any(it[0].num == 2 for it in site.recorder.records()), "the second frame in Kafka")
    assert ingest.stop() == 0


def test_a_right_that_the_archiver_lacks_is_named_and_all_is_recorded_once_it_is_given(site: Site) -> None:
    site.allow_least("ingest")
    with RawSender() as sender:
        ingest, archiver = site.ingest(sender.port), site.archiver("--http", str(port := free_port()))
        with sender.accept() as connection:
            connection.sendall(scan(1))
            for right in (
                (TOPIC, FILES_TOPIC, "Write"),
                (TOPIC, FILES_TOPIC, "Create"),
                (OF_GROUP, GROUP, "Read"),
                (PREFIX, FRAMES, "Read"),
            ):
                if right == (PREFIX, FRAMES, "Read"):
                    site.guarded.allow("archiver", (PREFIX, FRAMES, "Describe"))
                archiver.await_line(f"{re.escape(lacks(right, site.stream))}.*still trying")
                eventually(lambda: "this user lacks" in get(port, "/healthz")[1], "unhealthy")
                site.guarded.allow("archiver", right)
            connection.sendall(flow(2))
            archiver.await_line(r"finished .* \(end\): 1 frames")
            eventually(lambda: get(port, "/healthz")[0] == 200, "healthy")
            site.guarded.forbid("archiver", (TOPIC, FILES_TOPIC, "Write"))
            connection.sendall(scan(2) + flow(2))
            archiver.await_line(f"lacks Write on the topic {FILES_TOPIC}", count=2)
            site.guarded.allow("archiver", (TOPIC, FILES_TOPIC, "Write"))
            archiver.await_line(r"finished .* \(end\): 1 frames", count=2)
    assert [program.stop() for program in (ingest, archiver)] == [0, 0]
    assert [file.read_bytes() for file in site.recorder.files()] == [scan(1), scan(2)]


def test_times_that_kafka_replaces_are_reported_where_settings_are_hidden_too(site: Site) -> None:
    site.allow_least("ingest", "archiver")
    site.recorder.create_topic(config={"message.timestamp.type": "LogAppendTime"})
    with RawSender() as sender:
        ingest, archiver = site.ingest(sender.port), site.archiver()
        with sender.accept() as connection:
            connection.sendall(scan(1) + flow(2))
            for program in (ingest, archiver):
                program.await_line("ERROR .*message.timestamp.type=LogAppendTime.*to fix it: kafka-configs.sh")
            archiver.await_line(r"finished .* \(end\): 1 frames")
            connection.sendall(scan(2) + flow(2))
            archiver.await_line(r"finished .* \(end\): 1 frames", count=2)
    assert [program.stop() for program in (ingest, archiver)] == [0, 0]
    assert ingest.log.count("ERROR") == archiver.log.count("ERROR") == 1


def _user(name: str) -> str:
    """Return the user of a program or command, which an option of that program shares."""
    return name.split()[0]


def lacks(right: Right, stream: str) -> str:
    """Return the error text for a stream when this right is missing."""
    kind, name, operation = right
    what = f"group {name}" if kind == OF_GROUP else f"topic {name}{stream if kind == PREFIX else ''}"
    return f"lacks {operation} on the {what} "


def _has_topic(site: Site) -> bool:
    return frames_topic(site.stream) in admin_client(site.recorder.servers).list_topics(timeout=SECONDS).topics


def test_without_the_right_to_report_all_is_recorded_and_said_once(site: Site) -> None:
    site.allow_least("ingest", "archiver")
    for user in ("ingest", "archiver"):
        site.guarded.forbid(user, *REPORTING)
    with RawSender() as sender:
        ingest, archiver = site.ingest(sender.port), site.archiver()
        with sender.accept() as connection:
            connection.sendall(scan(1) + flow(2))
            archiver.await_line(r"finished .* \(end\): 1 frames")
            for program in (ingest, archiver):
                program.await_line("no status is published on g3.status.* lacks Write on the topic g3.status")
    assert [program.stop() for program in (ingest, archiver)] == [0, 0]
