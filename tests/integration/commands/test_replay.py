"""`archiver replay`: the files again, from the topic; the same ones, or it says why not."""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from archiver.core.formatting import format_time
from g3stream.contract.topics import FILES_TOPIC, frames_topic
from testbed.kafka.broker import Broker
from tests.support.archives import Source, publish_night
from tests.support.disk import small_disk
from tests.support.processes import SECONDS, Recorder, admin_client, delete_before, eventually

ROTATING = ("--time-per-file", "10", "--gap", "5")
DAY = 86_400_000
"""ms."""


@pytest.fixture(scope="module")
def night(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Night"]:
    """One for all tests that leave its topic and its archive as they are."""
    stream = f"replay-{secrets.token_hex(4)}"
    with Recorder(kafka, stream, tmp_path_factory.mktemp("night")) as started:
        yield Night(started, kills=True)


@pytest.fixture
def rebuilt(tmp_path: Path) -> Path:
    return tmp_path / "rebuilt"


class Night:
    """Five acquisitions of a stream, recorded: 2 files, 1, 3, 2, 1. The third begins without START, after a gap.
    kills: of the archiver, within the second and the fourth. closed: whether the last one ends.

    began: ms, when each did; offsets: of their first records.
    """

    def __init__(self, recorder: Recorder, *, closed: bool = True, kills: bool = False) -> None:
        self.recorder = recorder
        recorder.create_topic()
        self.source = source = Source(recorder.servers, recorder.stream)
        self.began: list[int] = []
        self.offsets: list[int] = []
        archiver = recorder.archiver(*ROTATING)
        previous = ""
        for scans, after in ((150, "end"), (50, "gap"), (250, "lost"), (150, "start"), (90, "end" if closed else "")):
            self.began.append(source.now + 1)
            self.offsets.append(source.sent)
            if previous != "gap":
                source.start()
            source.scans(scans, every=100)
            previous = after
            if after == "end":
                source.end()
            elif after == "lost":
                source.lost()
            source.now += 60_000
            if kills and after in ("gap", "start"):
                archiver.await_line("opened", count=2)
                archiver.kill()
                archiver = recorder.archiver(*ROTATING)
        eventually(lambda: len(recorder.files()) == (9 if closed else 8), "all files")
        eventually(lambda: recorder.committed() == source.sent, "all committed")
        self.files = [str(path.relative_to(recorder.data())) for path in recorder.files()]
        assert archiver.stop() == 0

    def delete_before(self, offset: int) -> None:
        """As retention does it."""
        delete_before(self.recorder.servers, frames_topic(self.recorder.stream), offset)


def assert_no_difference(one: Path, other: Path) -> None:
    found = subprocess.run(["/usr/bin/diff", "-r", "-x", ".archiver", one, other], capture_output=True, text=True)
    assert found.stdout + found.stderr == ""


def replayed(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.glob("[0-9]*/*/*.g3"))


def test_a_real_ingests_night_with_a_record_in_chunks(recorder: Recorder, rebuilt: Path) -> None:
    files = publish_night(recorder)
    assert len(files) == 3
    for what in ("written", "already there"):  # at first, and if it is done once more
        done = recorder.command("replay", archive="undisturbed", into=rebuilt)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"3 {what}" in done.stdout
        assert_no_difference(recorder.data("undisturbed"), rebuilt)
        left = [path.name for path in (rebuilt / ".archiver").rglob("*") if path.is_file()]
        assert sorted(left) == ["archive.lock", "claim.lock"]


def test_rotation_gaps_a_lost_connection_and_kills(night: Night, rebuilt: Path) -> None:
    assert len(night.files) == 9
    done = night.recorder.command("replay", into=rebuilt)
    assert (done.returncode, done.stderr) == (0, "")
    assert "9 written" in done.stdout
    assert_no_difference(night.recorder.data(), rebuilt)


def test_without_events_it_is_as_a_new_archive_with_these_settings(night: Night, rebuilt: Path) -> None:
    done = night.recorder.command("replay", *ROTATING, archive="of-another-group", into=rebuilt)
    assert (done.returncode, done.stderr) == (0, "")
    assert_no_difference(night.recorder.data(), rebuilt)


def test_settings_given_win_over_those_recorded(night: Night, rebuilt: Path) -> None:
    done = night.recorder.command("replay", "--time-per-file", "600", "--name-format", "ctime", into=rebuilt)
    assert done.returncode == 0
    assert len(replayed(rebuilt)) == 5
    assert all(
        path.endswith("_000.g3") and path.count("-") == night.recorder.stream.count("-") for path in replayed(rebuilt)
    )


def test_since_and_until_give_whole_acquisitions(night: Night, rebuilt: Path) -> None:
    # Within the third acquisition's last file, and at the fourth's first second.
    since, until = night.began[2] + 22_000, night.began[3] + 1000
    done = night.recorder.command(
        "replay", "--since", f"{since / 1000:.3f}", "--until", f"{until / 1000:.3f}", into=rebuilt
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert replayed(rebuilt) == night.files[3:8]
    for path in night.files[3:8]:
        assert (rebuilt / path).read_bytes() == (night.recorder.data() / path).read_bytes()


def test_since_and_until_without_events(night: Night, rebuilt: Path) -> None:
    """Then it has to read from the topic's first record, but writes no more."""
    since, until = night.began[2] + 22_000, night.began[3] + 1000
    span = ["--since", f"{since / 1000:.3f}", "--until", f"{until / 1000:.3f}"]
    done = night.recorder.command("replay", *ROTATING, *span, archive="of-another-group", into=rebuilt)
    assert (done.returncode, done.stderr) == (0, "")
    assert replayed(rebuilt) == night.files[3:8]


def test_only_these_files(night: Night, rebuilt: Path) -> None:
    """Also one from within an acquisition, whose head repeats a frame of its first file."""
    wanted = [night.files[1], night.files[4], night.files[5]]
    done = night.recorder.command("replay", *(word for path in wanted for word in ("--only", path)), into=rebuilt)
    assert (done.returncode, done.stderr) == (0, "")
    assert replayed(rebuilt) == wanted
    for path in wanted:
        assert (rebuilt / path).read_bytes() == (night.recorder.data() / path).read_bytes()
    unknown = night.recorder.command("replay", "--only", "17000/x/2020-01-01-00-00-00_000.g3", into=rebuilt)
    assert unknown.returncode == 1
    assert "17000/x/2020-01-01-00-00-00_000.g3: the topics don't contain this file" in unknown.stderr


def test_a_dry_run_writes_nothing(night: Night, rebuilt: Path) -> None:
    done = night.recorder.command("replay", "--dry-run", into=rebuilt)
    assert (done.returncode, done.stderr) == (0, "")
    assert not rebuilt.exists()
    for path in night.files:
        [line] = [line for line in done.stdout.splitlines() if line.startswith(path)]
        size = (night.recorder.data() / path).stat().st_size
        assert f"{size / 1000:.1f} kB" in line


def test_a_file_with_other_bytes_is_reported_and_left(night: Night, rebuilt: Path) -> None:
    shutil.copytree(night.recorder.data(), rebuilt)
    changed = rebuilt / night.files[4]
    data = changed.read_bytes()
    changed.write_bytes(data[:-9])
    done = night.recorder.command("replay", into=rebuilt)
    assert done.returncode == 1
    assert f"{night.files[4]}: not written: another file has its name" in done.stderr
    assert "8 already there" in done.stdout
    assert changed.read_bytes() == data[:-9]


@pytest.mark.slow
def test_what_is_still_being_recorded_is_left_partial(recorder: Recorder, rebuilt: Path) -> None:
    night = Night(recorder, closed=False)
    for _ in range(2):
        done = recorder.command("replay", into=rebuilt)
        assert done.returncode == 0
        assert "still being recorded: 91 frames so far; left as" in done.stderr
        assert replayed(rebuilt) == night.files
        assert len(list((rebuilt / ".archiver" / recorder.stream).glob("*.replay"))) == 1
    # An archiver that goes on in that directory takes no notice of it.
    rebuilt.rename(recorder.data("another"))
    archiver = recorder.archiver(*ROTATING, archive="another")
    night.source.end()
    archiver.await_line(r"finished .* \(end\)", count=2)
    assert archiver.stop() == 0
    assert len(recorder.files("another")) == 9


def test_a_directory_that_is_recorded_into_is_refused(recorder: Recorder) -> None:
    Night(recorder)
    archiver = recorder.archiver(*ROTATING)
    archiver.await_line(f"recording {recorder.stream}")
    done = recorder.command("replay")
    assert done.returncode == 1
    assert f"the stream {recorder.stream}: it is being recorded" in done.stderr
    assert archiver.stop() == 0
    assert recorder.command("replay").returncode == 0


@pytest.mark.slow
def test_retention_has_cut_the_log(recorder: Recorder, tmp_path: Path) -> None:
    """Files whose head repeats a frame that is gone can't be rebuilt either."""
    night = Night(recorder)
    # Ever more of it: at a START; so that the next acquisition's files lack their head; within the second of three
    # files; within the first of two; before a START.
    for acquisition, further, left in ((1, 0, 2), (1, 10, 6), (2, 120, 6), (3, 5, 8), (4, -1, 8)):
        at = night.offsets[acquisition] + further
        night.delete_before(at)
        rebuilt = tmp_path / str(at)
        done = recorder.command("replay", into=rebuilt)
        assert done.returncode == 0
        assert replayed(rebuilt) == night.files[left:]
        assert "are no longer in the topic" in done.stderr
        for path in replayed(rebuilt):
            assert (rebuilt / path).read_bytes() == (recorder.data() / path).read_bytes()
        asked = recorder.command("replay", "--since", format_time(night.began[0]).replace(" ", "T"), into=rebuilt)
        assert asked.returncode == 1


def test_a_rotated_file_is_rebuilt_where_the_frame_that_heads_it_is_at_hand(
    recorder: Recorder, rebuilt: Path
) -> None:
    night = Night(recorder)
    night.delete_before(night.offsets[2] + 120)
    shutil.copytree(recorder.data(), rebuilt)
    (rebuilt / night.files[5]).unlink()
    done = recorder.command("replay", into=rebuilt)
    assert done.returncode == 0
    assert "1 written" in done.stdout
    assert_no_difference(recorder.data(), rebuilt)


def test_no_group_is_touched(night: Night, rebuilt: Path) -> None:
    admin = admin_client(night.recorder.servers)

    def groups() -> set[str]:
        """But for those of other tests that run now: they are named after their streams, which end in random."""
        found = {it.group_id for it in admin.list_consumer_groups().result(SECONDS).valid}
        ours = night.recorder.stream
        return {name for name in found if name.startswith(ours) or not re.search(r"-[0-9a-f]{8}(\.|$)", name)}

    before, committed = groups(), night.recorder.committed()
    assert night.recorder.command("replay", into=rebuilt).returncode == 0
    assert groups() == before
    assert night.recorder.committed() == committed == night.source.sent


def test_what_is_not_recorded_yet_is_cut_as_what_was_recorded_last(recorder: Recorder) -> None:
    """Replayed into the archive itself while its archiver is stopped: that must be able to go on."""
    night = Night(recorder)
    night.source.start()
    night.source.scans(250, every=100)
    night.source.end()
    assert recorder.command("replay").returncode == 0
    for archive in ("archive", "undisturbed"):
        archiver = recorder.archiver(*ROTATING, archive=archive)
        eventually(partial(lambda it: recorder.committed(it) == night.source.sent, archive), "all committed")
        assert archiver.stop() == 0
    assert_no_difference(recorder.data(), recorder.data("undisturbed"))


@pytest.mark.slow
def test_an_acquisition_of_days_is_whole_with_since(tmp_path: Path, rebuilt: Path) -> None:
    """Its first files were published days before `since`."""
    with Broker(tmp_path / "kafka") as broker, Recorder(broker.bootstrap_servers, "days", tmp_path) as recorder:
        recorder.create_topic()
        source = Source(recorder.servers, recorder.stream)
        source.now -= 3 * DAY
        source.start()
        source.scans(3 * 24, every=DAY // 24)
        source.end()
        archiver = recorder.archiver("--time-per-file", "21600", "--gap", "7200")
        eventually(lambda: recorder.committed() == source.sent, "all committed")
        assert archiver.stop() == 0
        _as_published_then(recorder, "archive", "then")
        done = recorder.command("replay", "--since", "-2h", archive="then", into=rebuilt)
        assert (done.returncode, done.stderr) == (0, "")
        assert_no_difference(recorder.data(), rebuilt)


@pytest.mark.slow
def test_since_gives_the_same_files_whatever_the_archivers_clock_said(tmp_path: Path, rebuilt: Path) -> None:
    """It was three days slow: so its events bear other times than what they are about."""
    with Broker(tmp_path / "kafka") as broker, Recorder(broker.bootstrap_servers, "slow", tmp_path) as recorder:
        night = Night(recorder)
        _as_published_then(recorder, "archive", "then", clock=-3 * DAY)
        since = f"{night.began[2] / 1000:.3f}"
        done = recorder.command("replay", "--since", since, archive="then", into=rebuilt)
        assert (done.returncode, done.stderr) == (0, "")
        assert replayed(rebuilt) == night.files[3:]
        for path in night.files[3:]:
            assert (rebuilt / path).read_bytes() == (recorder.data() / path).read_bytes()


def _as_published_then(recorder: Recorder, archive: str, group: str, clock: int = 0) -> None:
    """Publish events of an archive's files as of another group's, at the times of recording, and of no other.

    clock: ms, by which the clock of that archiver's host was fast.
    """
    events = [json.loads(line) for line in _values(recorder)]
    delete_before(recorder.servers, FILES_TOPIC, len(events))
    producer = Producer({"bootstrap.servers": recorder.servers})
    for event in events:
        event["group"] = event["group"].replace(f".{archive}", f".{group}")
        key = f"{event['group']}/{event['stream']}/{event['path']}"
        published = event["last"]["time"] + clock
        producer.produce(FILES_TOPIC, json.dumps(event), key, partition=0, timestamp=published)
    assert producer.flush(SECONDS) == 0


def _values(recorder: Recorder) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": recorder.servers, "group.id": "unused", "enable.auto.commit": False})
    partition = TopicPartition(FILES_TOPIC, 0, 0)
    try:
        _, end = consumer.get_watermark_offsets(partition, SECONDS)
        consumer.assign([partition])
        return [message.value() or b"" for message in consumer.consume(end, SECONDS)]
    finally:
        consumer.close()


def test_a_full_disk_ends_it_and_nothing_half_done_stays(recorder: Recorder, tmp_path: Path) -> None:
    recorder.create_topic()
    source = Source(recorder.servers, recorder.stream)
    for _ in range(4):
        source.start()
        source.scans(40, size=100_000)
        source.end()
        source.now += 60_000
    with small_disk(tmp_path / "small", "10m") as small:
        for more in ((), ("--since", "-1d")):
            done = recorder.command("replay", *more, into=small)
            assert done.returncode == 1
            assert "No space left" in done.stderr
            assert not list(small.rglob("*.replay"))


def test_on_a_terminal_the_answer_still_goes_to_the_pipe(night: Night, rebuilt: Path) -> None:
    master, terminal = os.openpty()
    recorder = night.recorder
    where = ("--bootstrap-servers", recorder.servers, "--group", f"{recorder.stream}.archive")
    command = [sys.executable, "-m", "archiver", "replay", "--dry-run", "--data-dir", str(rebuilt), *where]
    with os.fdopen(master, "rb"):
        done = subprocess.run(
            [*command, "--stream", recorder.stream],
            stdout=subprocess.PIPE,
            stderr=terminal,
            text=True,
            timeout=SECONDS,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(terminal)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == night.files


def test_files_before_a_record_that_nobody_understands_are_all_there(recorder: Recorder, rebuilt: Path) -> None:
    Night(recorder)
    producer = Producer({"bootstrap.servers": recorder.servers})
    producer.produce(frames_topic(recorder.stream), b"?", partition=0)
    assert producer.flush(SECONDS) == 0
    done = recorder.command("replay", into=rebuilt)
    assert done.returncode == 1
    assert "replay stops here, as an archiver does" in done.stderr
    assert "9 written" in done.stdout
    assert_no_difference(recorder.data(), rebuilt)
