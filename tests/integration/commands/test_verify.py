"""`archiver verify`: each planted fault is found, and said once; an archive that only had a hard life is right."""

import hashlib
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer
from msgspec.structs import replace
from spt3g import core

from archiver.archive.location import Location
from archiver.console.progress import Progress
from archiver.core.catalog import FileCatalog
from archiver.core.events import FileFinished, FileSalvaged
from archiver.kafka.topic_reader import TopicReader
from archiver.verify.checks import Fault, Finding
from archiver.verify.verifier import inspect
from g3stream.contract.topics import FILES_TOPIC, frames_topic
from testbed.frames import decode_frames
from tests.support.archives import Source, disturbed
from tests.support.injection.stepped_clock import HostClock
from tests.support.processes import (
    SECONDS,
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

SETTINGS = ("--time-per-file", "1", "--gap", "2.5")
LOG = logging.getLogger(__name__)
SESSION = 1700000000


@dataclass(frozen=True)
class Copy:
    """A copy of the archive, in which something may be planted. files: paths below its root, in order."""

    recorder: Recorder
    root: Path
    files: list[str]
    group: str = "archive"

    def path(self, number: int) -> Path:
        return self.root / self.files[number]

    @property
    def sums(self) -> Path:
        """The SHA256SUMS of all files."""
        return self.path(0).parent / "SHA256SUMS"

    def verify(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """What `archiver verify --json` finds; gives its exit code too."""
        done = self.recorder.command("verify", "--json", *arguments, archive=self.group, into=self.root)
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)

    def found(self, *, against_topic: bool = False, since: int | None = None) -> list[tuple[str, str]]:
        """Faults and paths, of the code that the command runs: a process for each of these tests takes too long."""
        history, streams = self.history, [self.recorder.stream]
        report = inspect(Location(self.root), history, streams, since, Progress(), against_topic=against_topic)
        print(*(f"{it.fault}: {it.path}: {it.text}" for it in report.findings), sep="\n")
        return [(it.fault, it.path) for it in report.findings]

    @property
    def history(self) -> TopicReader:
        config = {"bootstrap.servers": self.recorder.servers, "logger": LOG}
        return TopicReader(config, f"{self.recorder.stream}.{self.group}")


@pytest.fixture(scope="module")
def night(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """One archive for all tests, that leave it as it is: kills, files cut by time, a gap, a lost connection after
    which a frame is sent again, frames never received, a record of three chunks."""
    observation = frame(core.G3FrameType.Observation, stream_placement="start", session_id=SESSION, frame_num=0)
    with Recorder(kafka, f"verify-{secrets.token_hex(4)}", tmp_path_factory.mktemp("night")) as recorder:
        recorder.create_topic()
        clock = HostClock(recorder.directory, runs=False)
        with RawSender() as sender:
            ingest = recorder.ingest(sender.port, "--timeout", "20", clock=clock)
            archiver = recorder.archiver(*SETTINGS)
            with sender.accept() as connection:
                archiver.await_line("recording verify")
                send(connection, flow(1) + observation, *range(1, 20))
                archiver.await_line("opened")
                archiver.kill()
                recorder.await_frames(20)
                clock.step(1.1)  # the next record belongs into the next file
                connection.sendall(scan(20, 2_500_000, session_id=SESSION))
                send(connection, b"", *range(21, 40))
                archiver = recorder.archiver(*SETTINGS)
                archiver.await_line("opened .*_001")
                archiver.kill()
                archiver = recorder.archiver(*SETTINGS)
                clock.step(3)
                archiver.await_line(r"finished .* \(gap\)")
                send(connection, b"", *range(40, 50), *range(53, 60))
                archiver.await_line("opened")
            with sender.accept() as connection:
                archiver.await_line(r"finished .* \(disconnected\)")
                clock.step(1)  # its file gets another name
                send(connection, observation, *range(60, 70))
                connection.sendall(flow(2))
                archiver.await_line(r"finished .* \(end\)")
                assert archiver.stop() == 0
                assert ingest.stop() == 0
        assert len(recorder.files()) == 4
        yield recorder


def send(connection: socket.socket, first: bytes, *numbers: int) -> None:
    connection.sendall(first + b"".join(scan(number, session_id=SESSION) for number in numbers))


@pytest.fixture
def copy(night: Recorder, tmp_path: Path) -> Copy:
    root = tmp_path / "copy"
    shutil.copytree(night.data(), root)
    return Copy(night, root, [str(path.relative_to(night.data())) for path in night.files()])


# -- nothing is wrong -----------------------------------------------------------------------------------------


def test_a_hard_night_is_right(copy: Copy) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.root.rglob("*")}
    code, report = copy.verify("--against-topic")
    assert (code, report["findings"], report["notes"]) == (0, [], [])
    counts = report["counts"]
    frames = 1 + 19 + 20 + 17 + 1 + 10
    assert (counts["files"], counts["frames"], counts["same"]) == (4, frames, frames)
    assert counts["bytes"] == sum(copy.path(number).stat().st_size for number in range(4))
    assert (counts["never_received"], counts["unrecorded"], counts["recording"]) == (3, 0, 0)
    assert {path: path.stat().st_mtime_ns for path in copy.root.rglob("*")} == before


def test_it_says_so_in_words(copy: Copy) -> None:
    done = copy.recorder.command("verify", into=copy.root)
    assert done.returncode == 0
    assert "4 files of 1 stream" in done.stdout
    assert "3 frames never received, as reported: nothing is wrong" in done.stdout
    copy.path(1).rename(copy.path(1).parent / "\x1b[31mmine.g3")
    done = copy.recorder.command("verify", into=copy.root)
    assert done.returncode == 1
    assert done.stdout.startswith("fault")
    assert f"renamed  {copy.recorder.stream}  {copy.files[1]}" in done.stdout
    assert "\\x1b[31mmine.g3" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stdout.endswith("1 wrong\n")


@pytest.mark.slow
def test_while_an_archiver_records_and_is_killed(kafka: str, stream: str, tmp_path: Path) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder:
        recorder.create_topic()
        source, over = Source(kafka, stream), threading.Event()

        def send_all() -> None:
            while not over.wait(0.02):
                source.start()
                source.scans(30, 20_000, every=100)  # three files
                source.end()

        sending = threading.Thread(target=send_all)
        sending.start()
        archiver = recorder.archiver(*SETTINGS)
        try:
            archiver.await_line("finished")
            history = Copy(recorder, recorder.data(), []).history
            unlike: list[Finding] = []
            for look in range(20):
                if look % 4 == 3:
                    archiver.await_line("finished")
                    archiver.kill()
                    archiver = recorder.archiver(*SETTINGS)
                with Progress() as progress:
                    report = inspect(
                        Location(recorder.data()), history, [stream], None, progress, against_topic=look % 2 == 0
                    )
                unlike += report.findings
            files = report.counts.files
        finally:
            over.set()
            sending.join()
        assert unlike == []
        assert files > 5
        archiver.kill()


@pytest.fixture(scope="module")
def acquisition(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """The topic of three files, and no archive."""
    with Recorder(kafka, f"verify-killed-{secrets.token_hex(4)}", tmp_path_factory.mktemp("acquisition")) as recorder:
        recorder.create_topic()
        source = Source(kafka, recorder.stream)
        source.start()
        source.scans(25, every=100)
        source.end()
        yield recorder


@pytest.mark.parametrize(
    "when",
    [
        "after pwritev ",
        "after committed .*closing",
        "after link .*g3$",
        "after append .*SHA256SUMS$",
        "after flush",
        "after unlink .*_000",
    ],
)
def test_after_an_archiver_was_killed(acquisition: Recorder, when: str, tmp_path: Path) -> None:
    archive = secrets.token_hex(4)
    with Recorder(acquisition.servers, acquisition.stream, tmp_path) as recorder:
        assert disturbed(recorder, ["kill", *when.split(" ", 1)], *SETTINGS, archive=archive).exit_code() == -9
        copy = Copy(recorder, recorder.data(archive), [], archive)
        assert copy.found(against_topic=True) == []


def test_while_a_file_is_open_or_its_archiver_is_dead(kafka: str, stream: str, tmp_path: Path) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder:
        recorder.create_topic()
        source = Source(kafka, stream)
        source.start()
        source.scans(30, 20_000)
        archiver = recorder.archiver()
        eventually(lambda: recorder.committed() == source.sent, "all committed")
        (partial,) = (recorder.data() / ".archiver" / stream).glob("*_*")
        thawed = partial.with_suffix(".0123abcd")  # as if this one were the copy of a frozen archiver's
        shutil.copy(partial, thawed)
        for _ in ("alive", "dead"):
            copy = Copy(recorder, recorder.data(), [])
            code, report = copy.verify("--against-topic")
            assert (code, report["findings"]) == (0, [])
            assert (report["counts"]["recording"], report["counts"]["same"]) == (1, 31)
            archiver.kill()
        source.scans(5)
        assert copy.verify("--against-topic")[1]["counts"]["unrecorded"] == 5
        data = bytearray(partial.read_bytes())
        data[-5000] ^= 1
        partial.write_bytes(data)
        assert copy.found(against_topic=True) == [("unlike topic", str(partial.relative_to(recorder.data())))]


def test_what_lies_there_for_a_reason_is_no_fault(copy: Copy) -> None:
    shutil.copy(copy.path(0), f"{copy.path(0)}.damaged")  # as repair keeps them
    (copy.path(0).parent / "notes.txt").write_text("clouds")
    private = copy.root / ".archiver" / copy.recorder.stream
    for name in ("17000.x.1700000000_000.1700000000000.0123abcd.replay", "SHA256SUMS.0123abcd", "what.damaged"):
        (private / name).write_bytes(b"x")
    (copy.root / "lost+found").mkdir()
    assert copy.found() == []


# -- planted faults: each is found, once, and nothing else ----------------------------------------------------


def flip(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 1 << 3
    path.write_bytes(data)


def without_a_line(copy: Copy, name: str) -> str:
    lines = [line for line in copy.sums.read_text().splitlines(keepends=True) if name not in line]
    return "".join(lines)


def flipped_byte(copy: Copy) -> list[tuple[str, str]]:
    flip(copy.path(1), 0.5)
    return [("damaged", copy.files[1])]


def flipped_length(copy: Copy) -> list[tuple[str, str]]:
    data = bytearray(copy.path(0).read_bytes())
    data[13 + 5] ^= 1  # of the first key's name: it would have 2^40 bytes
    copy.path(0).write_bytes(data)
    return [("damaged", copy.files[0])]


def flipped_type(copy: Copy) -> list[tuple[str, str]]:
    data = bytearray(copy.path(0).read_bytes())
    data[9] ^= 1  # which no CRC covers
    copy.path(0).write_bytes(data)
    return [("damaged", copy.files[0])]


def truncated_file(copy: Copy) -> list[tuple[str, str]]:
    os.truncate(copy.path(1), copy.path(1).stat().st_size - 7)
    return [("truncated", copy.files[1])]


def emptied_file(copy: Copy) -> list[tuple[str, str]]:
    os.truncate(copy.path(1), 0)
    return [("damaged", copy.files[1])]


def missing_file(copy: Copy) -> list[tuple[str, str]]:
    copy.path(2).unlink()
    return [("missing", copy.files[2])]


def missing_directory(copy: Copy) -> list[tuple[str, str]]:
    shutil.rmtree(copy.path(0).parent)
    return [("missing", path) for path in copy.files]


def doubled_file(copy: Copy) -> list[tuple[str, str]]:
    double = copy.files[0].replace("_000", "_017")
    shutil.copy(copy.path(0), copy.root / double)
    return [("doubled", double)]


def foreign_file(copy: Copy) -> list[tuple[str, str]]:
    (copy.path(0).parent / "foreign.g3").write_bytes(scan(1) + scan(2))
    (copy.root / "foreign.g3").write_bytes(b"no frame")
    (copy.root / "mine").mkdir()
    (copy.root / "mine" / "foreign.g3").write_bytes(b"")
    beside = str((copy.path(0).parent / "foreign.g3").relative_to(copy.root))
    return [("foreign", beside)]  # --stream was given: of the others is nothing known


def stale_partial(copy: Copy) -> list[tuple[str, str]]:
    name = f".archiver/{copy.recorder.stream}/17000.x.1700000000_000.1700000000000.0123abcd"
    (copy.root / name).write_bytes(scan(1))
    return [("stale partial", name)]


def line_missing(copy: Copy) -> list[tuple[str, str]]:
    copy.sums.write_text(without_a_line(copy, copy.path(1).name))
    return [("no line", copy.files[1])]


def wrong_line(copy: Copy) -> list[tuple[str, str]]:
    copy.sums.write_text(without_a_line(copy, copy.path(1).name) + f"{'0' * 64}  {copy.path(1).name}\n")
    return [("wrong line", copy.files[1])]


def line_only(copy: Copy) -> list[tuple[str, str]]:
    with copy.sums.open("a") as sums:
        sums.write(f"{'0' * 64}  1700000000_000.g3\n")
    return [("line only", copy.files[0].rpartition("/")[0] + "/1700000000_000.g3")]


def no_sums(copy: Copy) -> list[tuple[str, str]]:
    copy.sums.unlink()
    return [("no line", path) for path in copy.files]


def sums_are_a_directory(copy: Copy) -> list[tuple[str, str]]:
    copy.sums.unlink()
    copy.sums.mkdir()
    return [("unreadable", str(copy.sums.relative_to(copy.root)))]


def swapped_contents(copy: Copy) -> list[tuple[str, str]]:
    one, other = copy.path(2).read_bytes(), copy.path(3).read_bytes()
    copy.path(2).write_bytes(other)
    copy.path(3).write_bytes(one)
    return [("swapped", copy.files[2]), ("swapped", copy.files[3])]


def frame_cut_out(copy: Copy) -> list[tuple[str, str]]:
    frames = decode_frames(copy.path(2).read_bytes())
    copy.path(2).write_bytes(b"".join(frames[:5] + frames[6:]))
    return [("damaged", copy.files[2])]


def renamed_to_another_suffix(copy: Copy) -> list[tuple[str, str]]:
    copy.path(1).rename(str(copy.path(1)).replace("_001", "_009"))
    return [("renamed", copy.files[1])]


def replaced_by_a_link(copy: Copy) -> list[tuple[str, str]]:
    copy.path(1).rename(copy.root / "elsewhere")
    copy.path(1).symlink_to(copy.root / "elsewhere")
    return [("unreadable", copy.files[1])]


def replaced_by_a_directory(copy: Copy) -> list[tuple[str, str]]:
    copy.path(1).unlink()
    copy.path(1).mkdir()
    return [("unreadable", copy.files[1])]


def a_pipe(copy: Copy) -> list[tuple[str, str]]:
    os.mkfifo(copy.path(0).parent / "1700000000_000.g3")
    return [("unreadable", copy.files[0].rpartition("/")[0] + "/1700000000_000.g3")]


def directory_replaced_by_a_link(copy: Copy) -> list[tuple[str, str]]:
    directory = copy.path(0).parent
    directory.rename(copy.root / "elsewhere")
    directory.symlink_to(copy.root / "elsewhere")
    sums = f"{copy.files[0].rpartition('/')[0]}/SHA256SUMS"
    return [("unreadable", path) for path in [*copy.files, sums]]


def two_faults(copy: Copy) -> list[tuple[str, str]]:
    return flipped_byte(copy) + missing_file(copy)


PLANTED = [
    flipped_byte,
    flipped_length,
    flipped_type,
    truncated_file,
    emptied_file,
    missing_file,
    missing_directory,
    doubled_file,
    foreign_file,
    stale_partial,
    line_missing,
    wrong_line,
    line_only,
    no_sums,
    sums_are_a_directory,
    swapped_contents,
    frame_cut_out,
    renamed_to_another_suffix,
    replaced_by_a_link,
    replaced_by_a_directory,
    a_pipe,
    directory_replaced_by_a_link,
    two_faults,
]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(copy: Copy, plant: Callable[[Copy], list[tuple[str, str]]]) -> None:
    expected = plant(copy)
    assert copy.found() == sorted(expected, key=lambda it: it[1])


def test_the_command_says_what_it_found(copy: Copy) -> None:
    expected = two_faults(copy)
    code, report = copy.verify()
    assert code == 1
    assert [(it["fault"], it["path"]) for it in report["findings"]] == expected
    assert {it["stream"] for it in report["findings"]} == {copy.recorder.stream}
    assert "its CRC is wrong" in report["findings"][0]["text"]


def test_only_what_is_asked_for(copy: Copy) -> None:
    flipped_byte(copy)
    elsewhere, foreign = copy.root / "mine.g3", copy.path(0).parents[1] / "mine" / "foreign.g3"
    foreign.parent.mkdir()
    for path in (elsewhere, foreign):  # of which only one is where a recorded file may be
        path.write_bytes(b"no frame")
    now = round(time.time() * 1000)
    assert copy.found(since=now - 3_600_000) == [("damaged", copy.files[1])]
    assert copy.found(since=now + 1_000_000) == []
    assert copy.verify("--since", "-1h")[0] == 1
    assert copy.verify("--since", str(now // 1000 + 1000), "--against-topic")[0] == 0
    report = inspect(Location(copy.root), copy.history, [], None, Progress())
    found = [(it.fault, it.path) for it in report.findings]
    assert found == [(Fault.UNKNOWN_FILE, str(foreign.relative_to(copy.root))), (Fault.DAMAGED, copy.files[1])]
    assert report.findings[1].event == account(copy)[1]


def test_foreign_files_are_one_line_unless_all_are_asked_for(copy: Copy) -> None:
    paths = [copy.path(0).parent / f"1500000000_{number:03d}.g3" for number in range(30)]
    for path in paths:
        path.write_bytes(scan(1))
    done = copy.recorder.command("verify", into=copy.root)
    assert done.returncode == 1
    [said, verdict] = done.stdout.splitlines()
    assert "30 unknown files" in said
    assert str(paths[0].relative_to(copy.root)) in said
    assert "archiver adopt" in said
    assert verdict.endswith(": 30 unknown")
    done = copy.recorder.command("verify", "--verbose", into=copy.root)
    assert done.returncode == 1
    assert [path.name for path in paths if path.name in done.stdout] == [path.name for path in paths]
    flip(copy.path(1), 0.5)
    done = copy.recorder.command("verify", into=copy.root)
    assert done.stdout.endswith("1 wrong, 30 unknown\n")
    assert "`archiver repair` can repair 1 of these" in done.stdout


def test_what_is_in_quarantine_is_said_in_a_line(kafka: str, stream: str, tmp_path: Path) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder:
        recorder.create_topic()
        source = Source(kafka, stream, epochs=0)
        source.start()
        source.scans(5, every=100)
        source.end()
        archiver = recorder.archiver(*SETTINGS)
        eventually(lambda: recorder.committed() == source.sent, "all committed")
        assert archiver.stop() == 0
        producer = Producer({"bootstrap.servers": kafka})
        producer.produce(frames_topic(stream), b"from the console", partition=0)
        assert producer.flush(SECONDS) == 0
        assert "quarantine" not in recorder.command("verify").stdout
        offset = str(source.sent)
        done = run_archiver(kafka, "quarantine", "--stream", stream, "--offset", offset)
        assert done.returncode == 0
        done = recorder.command("verify", "--against-topic")
        assert done.returncode == 0
        assert f"in quarantine, and so in no file: 1 records ({stream} 1)\n" in done.stdout


def test_bad_input_is_no_traceback(copy: Copy, tmp_path: Path) -> None:
    done = copy.recorder.command("verify", into=tmp_path / "nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nowhere" in done.stderr
    done = copy.recorder.command("verify", "--since", "soon", into=copy.root)
    assert done.returncode == 2
    done = copy.recorder.command("verify", "--stream", "nobody", into=copy.root)
    assert done.returncode == 1
    assert "nothing is known of nobody" in done.stderr
    hostile = os.fsencode(copy.path(0).parent) + b"/\xff\n.g3"
    Path(os.fsdecode(hostile)).write_bytes(b"\x01\x01\x00\x00\x00" + b"\xff" * 100)
    for flags in ([], ["--verbose"]):
        done = copy.recorder.command("verify", *flags, into=copy.root)
        assert done.returncode == 1
        assert "\\n.g3" in done.stdout
        assert "Traceback" not in done.stderr
    assert copy.verify()[1]["findings"][0]["fault"] == "foreign"


# -- what only the events, or the topic, can show -------------------------------------------------------------


def account(copy: Copy) -> list[FileFinished]:
    return list(FileCatalog.from_events(copy.history.events()).files[copy.recorder.stream])


def with_other_events(copy: Copy, events: Sequence[FileFinished | FileSalvaged]) -> Copy:
    """The archive of another group, that has published this."""
    name = f"other-{secrets.token_hex(4)}"
    producer = Producer({"bootstrap.servers": copy.recorder.servers})
    for event in events:
        event = replace(event, group=f"{copy.recorder.stream}.{name}")
        producer.produce(FILES_TOPIC, msgspec.json.encode(event), event.key.encode(), partition=0)
    assert producer.flush(SECONDS) == 0
    return Copy(copy.recorder, copy.root, copy.files, name)


def test_an_event_is_missing(copy: Copy) -> None:
    events = account(copy)
    copy = with_other_events(copy, [events[0], *events[2:]])
    assert copy.found() == [("foreign", copy.files[1]), ("event", copy.files[2])]
    found = copy.found(against_topic=True)
    assert found == [("not in a file", ""), ("foreign", copy.files[1]), ("event", copy.files[2])]


def test_there_are_no_events(copy: Copy) -> None:
    copy = with_other_events(copy, [])
    code, report = copy.verify()
    assert code == 1
    assert [it["fault"] for it in report["findings"]] == ["foreign"] * 4
    assert "is --group right?" in report["notes"][0]


def test_an_event_that_leads_out_of_the_archive(copy: Copy) -> None:
    (copy.root.parent / "1700000000_000.g3").write_bytes(scan(1))
    events = account(copy)
    events.append(replace(events[3], path="../1700000000_000.g3", number=5))
    assert with_other_events(copy, events).found() == [("event", "")]


def test_a_salvaged_file(copy: Copy) -> None:
    *events, last = account(copy)
    salvaged = FileSalvaged(
        last.group, last.stream, last.path, last.frames + len(last.carry), last.bytes, last.sha256, "lost", "host"
    )
    other = with_other_events(copy, [*events, salvaged])
    code, report = other.verify()
    assert (code, report["findings"], report["counts"]["salvaged"]) == (0, [], 1)
    flip(copy.path(3), 0.9)
    assert other.found() == [("damaged", copy.files[3])]
    copy.path(3).unlink()
    assert other.found() == [("missing", copy.files[3])]


def test_an_untold_gap(copy: Copy) -> None:
    events = [replace(event, missing=0) for event in account(copy)]
    assert with_other_events(copy, events).found() == [("untold gap", copy.files[2])]


@contextmanager
def changed(copy: Copy, number: int) -> Iterator[list[bytes]]:
    """Change a file's frames, and everything else that describes its bytes, but not the topic."""
    frames = decode_frames(copy.path(number).read_bytes())
    yield frames
    copy.path(number).write_bytes(b"".join(frames))


def retold(copy: Copy, *numbers: int) -> Copy:
    events = account(copy)
    for number in numbers:
        data = copy.path(number).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        frames = len(decode_frames(data)) - len(events[number].carry)
        events[number] = replace(events[number], sha256=sha256, bytes=len(data), frames=frames)
        name = copy.path(number).name
        copy.sums.write_text(without_a_line(copy, name) + f"{sha256}  {name}\n")
    return with_other_events(copy, events)


@pytest.mark.parametrize("what", ["less", "more", "other", "at the end"])
def test_a_file_has_not_the_frames_of_the_topic(copy: Copy, what: str) -> None:
    with changed(copy, 2) as frames:
        another = scan(45, 1008, session_id=SESSION - 1)
        if what == "less":
            del frames[4]
        elif what == "more":
            frames.insert(4, another)
        elif what == "other":
            frames[4] = another
        else:
            frames.append(another)
    copy = retold(copy, 2)
    expected = [("untold gap", copy.files[2])] if what == "less" else []
    assert copy.found() == expected or what == "other"
    assert ("unlike topic", copy.files[2]) in copy.found(against_topic=True)


def test_frames_of_another_file(copy: Copy) -> None:
    others = decode_frames(copy.path(1).read_bytes())
    with changed(copy, 3) as frames:
        frames += others[-3:]
    copy = retold(copy, 3)
    assert copy.found() == [("frames twice", copy.files[3])]


def test_the_topic_begins_in_the_midst_of_a_file(kafka: str, stream: str, tmp_path: Path) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder:
        recorder.create_topic()
        source = Source(kafka, stream, epochs=0)
        source.start()
        source.scans(25, every=100)
        source.end()
        archiver = recorder.archiver(*SETTINGS)
        eventually(lambda: recorder.committed() == source.sent, "all committed")
        assert archiver.stop(signal.SIGTERM) == 0
        copy = Copy(recorder, recorder.data(), [str(it.relative_to(recorder.data())) for it in recorder.files()])
        assert len(copy.files) == 3
        assert copy.verify("--against-topic")[1]["counts"]["same"] == 26
        delete_before(kafka, frames_topic(stream), 5)
        code, report = copy.verify("--against-topic")
        assert (code, report["findings"], report["counts"]["same"]) == (0, [], 26 - 4)
        with changed(copy, 0) as frames:
            frames[-1], frames[-2] = frames[-2], frames[-1]
        copy = retold(copy, 0)
        assert copy.found(against_topic=True) == [("unlike topic", copy.files[0])]
        topic = frames_topic(stream)
        admin = admin_client(kafka)
        admin.delete_topics([topic])[topic].result(SECONDS)
        eventually(lambda: stream not in copy.history.streams(), "the topic gone")
        code, report = copy.verify("--against-topic")
        assert (code, report["findings"]) == (0, [])
        assert "no longer has a topic" in report["notes"][0]
