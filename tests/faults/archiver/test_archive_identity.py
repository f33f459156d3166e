"""A group records to one archive: another directory, and another group's, is refused before anything is recorded."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from archiver.archive.identity import IDENTITY, parse
from g3stream.contract.topics import frames_topic
from testbed.child_process import free_port
from tests.support.archives import Source, all_committed, assert_same_tree, disturbed, left_behind
from tests.support.health import await_health, await_healthy
from tests.support.processes import SECONDS, Program, Recorder, eventually, get


class Site:
    """A stream of which an archiver has recorded one file and a half, and an undisturbed archive of it."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.group = f"{recorder.stream}.archive"
        recorder.create_topic()
        self.source = Source(recorder.servers, recorder.stream)
        self.undisturbed = recorder.archiver(archive="undisturbed")
        self.archiver = recorder.archiver()
        self.archiver.await_line(f"recording {recorder.stream}$")
        self.source.start()
        self.source.scans(20)
        self.source.now += 1000
        self.source.end()
        self.archiver.await_line(r"finished .* \(end\)")
        self.source.start()
        self.source.scans(20)
        self.await_commit()

    def await_commit(self) -> None:
        """Wait until all that was sent is recorded and committed."""
        eventually(lambda: all_committed(self.recorder, [self.source]), "all of it committed")

    def start(self, directory: Path, *arguments: str, group: str | None = None) -> Program:
        """Start an archiver of that group (None: the site's) on a directory."""
        where = ["--data-dir", str(directory), "--group", group or self.group]
        return self.recorder.start("archiver", *where, "--stream", self.recorder.stream, "--gap", "60", *arguments)

    def identity(self, directory: Path | None = None) -> Path:
        """Return the identity file of a directory (None: the archive's)."""
        return (directory or self.recorder.data()) / ".archiver" / IDENTITY

    def id(self) -> str:
        """Return the archive's identity."""
        found = parse(self.identity().read_text())
        assert found
        return found.ids[0]

    def assert_goes_on(self, archiver: Program, directory: Path | None = None, count: int = 1) -> None:
        """Check that the open file is finished there, and all is as in the undisturbed archive."""
        self.source.scans(20)
        self.source.now += 1000
        self.source.end()
        archiver.await_line(r"finished .* \(end\)", count=count)
        self.undisturbed.await_line(r"finished .* \(end\)", count=2)
        if directory:
            self.recorder.data("found").symlink_to(directory)
        name = "found" if directory else "archive"
        eventually(lambda: left_behind(self.recorder, name) == [], "no partial left")
        assert_same_tree(self.recorder.tree(name), self.recorder.tree("undisturbed"))
        assert "LOST" not in archiver.log

    def checkpoint(self) -> tuple[int, dict[str, object]]:
        """Return the committed offset and its metadata."""
        consumer = Consumer({"bootstrap.servers": self.recorder.servers, "group.id": self.group})
        try:
            (found,) = consumer.committed([TopicPartition(frames_topic(self.recorder.stream), 0)], SECONDS)
        finally:
            consumer.close()
        state: dict[str, object] = json.loads(found.metadata or "")
        return found.offset, state

    def forget_identity(self) -> None:
        """Make all look as an archiver from before identities left it."""
        offset, state = self.checkpoint()
        del state["archive"]
        self.identity().unlink()
        metadata = msgspec.json.encode(state).decode()
        consumer = Consumer({"bootstrap.servers": self.recorder.servers, "group.id": self.group})
        try:
            topic = TopicPartition(frames_topic(self.recorder.stream), 0, offset, metadata)

            def is_committed() -> bool:
                try:
                    consumer.commit(offsets=[topic], asynchronous=False)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.UNKNOWN_MEMBER_ID:
                        raise
                    return False
                return True

            eventually(is_committed, "the group without its member, whose session is over")
        finally:
            consumer.close()


@pytest.fixture
def site(recorder: Recorder) -> Site:
    return Site(recorder)


def assert_refused(archiver: Program, directory: Path, *lines: str) -> None:
    """Check that it has logged these lines, and recorded nothing."""
    assert archiver.exit_code() == 1
    for line in lines:
        archiver.await_line(line)
    assert "nothing was recorded: " in archiver.log.splitlines()[-1]
    assert not list(directory.glob("[0-9]*"))
    assert not archiver.times_of(r"INFO +recording (?!to )")


def test_restarted_with_another_directory_it_is_refused_with_where_the_archive_is(site: Site, tmp_path: Path) -> None:
    assert site.archiver.stop() == 0
    before, wrong = site.checkpoint(), tmp_path / "wrong"
    refused = site.start(wrong)
    assert_refused(
        refused,
        wrong,
        f"ERROR +the group {site.group} records to another archive than this directory:",
        rf"ERROR +{site.id()} at \S+:{site.recorder.data()}: {site.recorder.stream}$",
        f"ERROR +echo {site.id()} {site.group} >> {site.identity(wrong)}$",
    )
    assert site.checkpoint() == before
    assert not site.identity(wrong).exists()
    site.assert_goes_on(site.recorder.archiver())


def test_a_second_archiver_of_the_group_with_a_directory_of_its_own_disturbs_nobody(
    site: Site, tmp_path: Path
) -> None:
    """It is refused before it joins: the first one's streams stay where they are."""
    second = tmp_path / "second"
    assert_refused(site.start(second), second, "records to another archive")
    site.assert_goes_on(site.archiver, count=2)
    assert not site.archiver.times_of(": released: ")
    assert len(site.archiver.times_of(r"INFO +recording (?!to )")) == 1


def test_two_groups_in_one_directory_are_refused(site: Site) -> None:
    second = site.start(site.recorder.data(), group=f"{site.recorder.stream}.second")
    assert second.exit_code() == 1
    second.await_line("ERROR +another group records to this directory")
    second.await_line(f"use --group {site.group}, or another --data-dir")
    site.assert_goes_on(site.archiver, count=2)


def test_members_that_share_a_directory_are_one_archive(site: Site) -> None:
    second = site.recorder.archiver("--instance-id", "second")
    second.await_line("recording to ")
    site.archiver.kill()
    second.await_line(f"recording {site.recorder.stream}$")
    site.assert_goes_on(second)


def test_moved_with_its_private_directory_it_goes_on(site: Site, tmp_path: Path) -> None:
    assert site.archiver.stop() == 0
    moved = tmp_path / "moved"
    shutil.move(site.recorder.data(), moved)
    site.assert_goes_on(site.start(moved), moved)


def test_restored_from_a_backup_it_goes_on(site: Site, tmp_path: Path) -> None:
    """Which is older than what is committed."""
    backup = tmp_path / "backup"
    assert site.archiver.stop() == 0
    shutil.copytree(site.recorder.data(), backup)
    archiver = site.recorder.archiver()
    site.source.scans(20)
    site.await_commit()
    archiver.kill()
    shutil.rmtree(site.recorder.data())
    shutil.copytree(backup, site.recorder.data())
    site.assert_goes_on(site.recorder.archiver())


def test_moved_without_its_private_directory_it_goes_on_as_the_refusal_says(site: Site, tmp_path: Path) -> None:
    assert site.archiver.stop() == 0
    moved = tmp_path / "moved"
    shutil.move(site.recorder.data(), moved)
    shutil.rmtree(moved / ".archiver")
    refused = site.start(moved)
    assert refused.exit_code() == 1
    (line,) = refused.await_line(r"echo ([0-9a-f]{16} \S+) >> (\S+)$").groups()[:1]
    site.identity(moved).write_text(f"{line}\n")
    archiver = site.start(moved)
    archiver.await_line("must be rebuilt from the topic: it is missing")
    site.assert_goes_on(archiver, moved)


def test_an_archive_of_before_is_upgraded_in_place(site: Site) -> None:
    assert site.archiver.stop() == 0
    site.forget_identity()
    site.assert_goes_on(site.recorder.archiver())
    eventually(lambda: site.checkpoint()[1].get("archive") is not None, "a commit that says of which archive it is")
    mark = site.checkpoint()[1]["archive"]
    assert isinstance(mark, dict)
    assert mark["id"] == site.id()


def test_an_archive_of_before_is_not_taken_for_an_empty_directory(site: Site, tmp_path: Path) -> None:
    assert site.archiver.stop() == 0
    site.forget_identity()
    wrong = tmp_path / "wrong"
    assert_refused(
        site.start(wrong),
        wrong,
        f"the group {site.group} has recorded before, but not to this directory",
        f"echo [0-9a-f]{{16}} {site.group} >> {re.escape(str(site.identity(wrong)))}",
    )
    site.assert_goes_on(site.recorder.archiver())


@pytest.mark.slow
def test_without_commits_the_last_file_says_which_archive_it_is(site: Site, tmp_path: Path) -> None:
    """As after a week off: offsets expire."""
    assert site.archiver.stop() == 0
    admin = AdminClient({"bootstrap.servers": site.recorder.servers})

    def are_gone() -> bool:
        try:
            admin.delete_consumer_groups([site.group])[site.group].result(SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NON_EMPTY_GROUP:
                raise
            return False
        return True

    eventually(are_gone, "the group gone, after its member's session")
    wrong = tmp_path / "wrong"
    for _ in range(2):
        refused = site.start(wrong)
        assert refused.exit_code() == 1
        refused.await_line(rf"{site.id()} at \S+:{site.recorder.data()}: {site.recorder.stream}$")
        assert not list(wrong.glob("[0-9]*"))
    site.assert_goes_on(site.recorder.archiver("--instance-id", "again"))


@pytest.mark.slow
def test_all_that_start_at_once_upgrade_to_one_identity(site: Site) -> None:
    assert site.archiver.stop() == 0
    site.forget_identity()
    members: Sequence[Program] = [site.recorder.archiver("--instance-id", name) for name in ("a", "b", "c")]
    for member in members:
        member.await_line("recording to ")
    site.source.scans(20)
    site.source.now += 1000
    site.source.end()
    site.undisturbed.await_line(r"finished .* \(end\)", count=2)
    eventually(lambda: len(site.recorder.files()) == 2 and not left_behind(site.recorder, "archive"), "both files")
    assert_same_tree(site.recorder.tree(), site.recorder.tree("undisturbed"))
    for member in members:
        assert member.stop() == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_it_gets_its_identity_it_goes_on(recorder: Recorder, when: str) -> None:
    recorder.create_topic()
    killed = disturbed(recorder, ["kill", when, r"link .*/archive\.identity$"], archive="archive")
    assert killed.exit_code() == -9
    archiver = recorder.archiver()
    archiver.await_line(f"recording {recorder.stream}$")
    assert parse((recorder.data() / ".archiver" / IDENTITY).read_text())


def test_until_kafka_answers_it_says_that_it_waits(recorder: Recorder) -> None:
    """It can't know whose directory it is; and it writes nothing there."""
    port = free_port()
    archiver = recorder.archiver("--bootstrap-servers", f"127.0.0.1:{free_port()}", "--http", str(port))
    archiver.await_line("WARN|ERROR")
    status, text = get(port, "/healthz")
    assert (status, "Kafka: " in text) == (503, True)
    assert not (recorder.data() / ".archiver" / IDENTITY).exists()
    assert archiver.stop() == 0


def test_on_a_full_disk_a_new_archive_says_that_it_waits(recorder: Recorder) -> None:
    recorder.create_topic()
    port = free_port()
    full = ["ENOSPC", "before", r"fsync .*/\.archiver/archive\.identity\.", "--times", "8"]
    archiver = disturbed(recorder, full, "--http", str(port), archive="archive")
    archiver.await_line("health at")
    await_health(port, "nothing is recorded yet: ", "can't store the archive's identity: ", "No space left")
    await_healthy(port)
    assert archiver.stop() == 0
    archiver.await_line("can't store the archive's identity: .*; still trying")
