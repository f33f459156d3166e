"""`archiver retire`: what a clean-up job deleted is not missing, and isn't made again; what is lost still is."""

import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from archiver.archive.location import Location
from archiver.console.progress import Progress
from archiver.core.checkpoint import CheckpointError
from archiver.core.events import Event
from archiver.kafka.topic_reader import TopicReader
from archiver.verify.checks import Fault
from archiver.verify.verifier import inspect
from g3stream.contract.topics import frames_topic
from tests.integration.commands.test_replay import ROTATING, Night, assert_no_difference
from tests.support.archives import Source, continuous_acquisitions
from tests.support.processes import Recorder, eventually
from tests.support.recorded_archive import Archive, clean_up

COPIES = "two copies elsewhere"


@pytest.fixture(scope="module")
def night(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    with Recorder(kafka, f"retire-{secrets.token_hex(4)}", tmp_path_factory.mktemp("night")) as started:
        yield Night(started)


@pytest.fixture
def archive(night: Night, tmp_path: Path) -> Archive:
    """A copy of the night's archive, to be cleaned up."""
    return Archive(night.recorder, tmp_path / "data")


@pytest.mark.slow
def test_what_a_clean_up_job_deleted_is_not_missing_once_it_is_told(archive: Archive) -> None:
    files = archive.files
    clean_up(archive.root, files[:4])
    done = archive.command("verify")
    assert done.returncode == 1
    assert "`archiver retire`" in done.stdout
    assert [fault for fault, _ in archive.faults()] == ["missing"] * 4

    assert "4 files would be retired" in archive.command("retire", "--missing", "--dry-run").stdout
    done = archive.command("retire", "--missing", "--reason", COPIES, "--who", "cleanup@daq")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:5]] == files[:4]
    assert "4 files retired" in done.stdout
    assert "5 that exist, and so not retired" in done.stdout
    assert [(it.path, it.who, it.reason) for it in archive.operator_events] == [
        (path, "cleanup@daq", COPIES) for path in files[:4]
    ]

    code, report = archive.verify("--against-topic")
    assert (code, report["findings"], report["counts"]["retired"], report["counts"]["files"]) == (0, [], 4, 5)
    done = archive.command("verify")
    assert "4 files retired, and not there: nothing is wrong" in done.stdout
    done = archive.command("repair")
    assert (done.returncode, archive.files) == (0, files[4:])
    done = archive.command("files")
    assert [path for path in files if f"{path} (retired)" in done.stdout] == files[:4]
    assert "4 files retired" in done.stdout.splitlines()[-1]
    done = archive.command("files", "--retired")
    assert done.returncode == 0
    assert [line.split()[2] for line in done.stdout.splitlines()[1:5]] == files[:4]
    assert COPIES in done.stdout

    # What isn't retired is missed as ever, and made again.
    (archive.root / files[6]).unlink()
    assert archive.faults() == [("missing", files[6])]
    assert archive.command("repair").returncode == 0
    assert archive.files == files[4:]
    # Again: nothing is retired twice.
    done = archive.command("retire", "--missing")
    assert done.returncode == 0
    assert "0 files retired; 4 retired before; 5 that exist" in done.stdout
    assert len(archive.operator_events) == 4


@pytest.mark.slow
def test_a_replay_makes_no_retired_file_unless_it_is_told_to(archive: Archive, night: Night, tmp_path: Path) -> None:
    files = archive.files
    assert archive.command("retire", *files[2:5]).returncode == 0
    rebuilt = tmp_path / "rebuilt"

    def replay(*arguments: str) -> tuple[int, str]:
        done = archive.command("replay", "--data-dir", str(rebuilt), *arguments)
        return done.returncode, done.stdout + done.stderr

    code, said = replay("--dry-run", "--stream", night.recorder.stream)
    assert code == 0
    assert "6 files\n" in said
    assert "3 more are retired" in said
    code, said = replay("--stream", night.recorder.stream)
    assert code == 0
    assert "6 written, 3 retired, so not rebuilt" in said
    made = sorted(str(path.relative_to(rebuilt)) for path in rebuilt.glob("[0-9]*/*/*.g3"))
    assert made == files[:2] + files[5:]
    code, said = replay("--only", files[3], "--only", files[6])
    assert code == 1
    assert f"{files[3]}: it was retired by " in said
    code, said = replay("--retired", "--stream", night.recorder.stream)
    assert code == 0
    assert "3 written, 6 already there" in said
    assert_no_difference(night.recorder.data(), rebuilt)
    shorter = tmp_path / "shorter"
    done = archive.command(
        "replay", "--data-dir", str(shorter), "--stream", night.recorder.stream, "--time-per-file", "4"
    )
    assert done.returncode == 0
    assert "retired" not in done.stdout


@pytest.mark.slow
def test_a_repair_that_is_told_to_makes_them_again_and_from_then_on_they_must_be_there(
    archive: Archive, night: Night
) -> None:
    files = archive.files
    clean_up(archive.root, files)
    done = archive.command("retire", "--missing")
    assert done.returncode == 1
    assert "none of the 9 recorded files is there" in done.stderr
    assert archive.operator_events == []
    assert archive.command("retire", "--missing", "--yes").returncode == 0
    assert (archive.verify()[0], archive.command("repair").returncode, archive.files) == (0, 0, [])

    done = archive.command("repair", "--retired", "--reason", "the copies are gone", "--who", "ops")
    assert done.returncode == 0
    assert_no_difference(night.recorder.data(), archive.root)
    assert archive.catalog.retired == {}
    assert {(it.path, it.who, it.reason) for it in archive.operator_events[9:]} == {
        (path, "ops", "the copies are gone") for path in files
    }
    (archive.root / files[0]).unlink()
    assert archive.faults() == [("missing", files[0])]
    assert archive.command("retire", "--missing").returncode == 0
    assert archive.verify()[0] == 0


def test_of_a_topic_that_has_not_all_of_them_those_are_back_that_it_has(
    kafka: str, stream: str, tmp_path: Path
) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder:
        night = Night(recorder)
        archive = Archive(recorder, tmp_path / "data")
        clean_up(archive.root, night.files[:7])
        assert archive.command("retire", "--missing").returncode == 0
        night.delete_before(night.offsets[3])
        done = archive.command("repair", "--retired")
        assert done.returncode == 0
        assert f"{night.files[0]}: can't be rebuilt: its records have left the topic" in done.stdout
        assert archive.files == night.files[6:]
        assert set(archive.catalog.retired) == set(night.files[:6])
        assert archive.command("repair").returncode == 0


@pytest.mark.slow
def test_files_are_named_on_stdin_or_by_their_directory_before_they_are_deleted(archive: Archive) -> None:
    files = archive.files
    named = [str(archive.root / files[0]), files[1], f"{archive.root}/x/../{files[2]}", "17000/x/y.g3", "SHA256SUMS"]
    done = archive.command("retire", "-", stdin="\n".join([*named, ""]))
    assert done.returncode == 1
    assert "3 files retired" in done.stdout
    assert "3 of them still there" in done.stdout
    assert "2 not recorded by this group" in done.stdout
    assert set(archive.catalog.retired) == set(files[:3])
    # What is there is verified as ever.
    assert archive.verify()[0] == 0
    (archive.root / files[1]).write_bytes(b"x")
    [(fault, path)] = archive.faults()
    assert (fault, path) == ("truncated", files[1])
    clean_up(archive.root, files[:3])
    assert (archive.verify()[0], archive.command("repair").returncode, archive.files) == (0, 0, files[3:])

    done = archive.command("retire", "-", stdin="\0".join([files[3], files[0], ""]))
    assert done.returncode == 0
    assert "1 file retired" in done.stdout
    directories = sorted({path.rpartition("/")[0] for path in files})
    clean_up(archive.root, files[3:])
    assert archive.command("retire", *directories, "--reason", "all").returncode == 0
    assert (archive.verify()[0], set(archive.catalog.retired)) == (0, set(files))
    done = archive.command("retire", "-", stdin="")
    assert (done.returncode, done.stdout) == (0, "no PATH came from stdin: nothing to retire\n")


def test_before_a_time_and_a_dry_run(archive: Archive, night: Night) -> None:
    files = archive.files
    clean_up(archive.root, [*files[:3], *files[6:8]])
    before = str(night.began[2] // 1000)
    for _ in range(2):
        done = archive.command("retire", "--before", before, "--dry-run")
        assert done.returncode == 0
        assert "3 files would be retired" in done.stdout
    assert archive.operator_events == []
    assert archive.command("retire", "--before", before).returncode == 0
    assert set(archive.catalog.retired) == set(files[:3])
    assert archive.faults() == [("missing", path) for path in files[6:8]]


def test_a_directory_that_may_not_be_the_archive_retires_nothing(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    other = shutil.copytree(archive.root, tmp_path / "other")
    identity = other / ".archiver" / "archive.identity"
    identity.write_text(identity.read_text().replace(archive.group, "another"))
    (other / archive.files[0]).unlink()
    for root, why in ((tmp_path / "empty", "isn't mounted"), (other, "the archive of the group another")):
        done = archive.command("retire", "--missing", "--data-dir", str(root))
        assert done.returncode == 1
        assert why in done.stderr
        assert done.stdout == ""
    done = archive.command("retire", "--missing", "--data-dir", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert archive.operator_events == []


class _Meanwhile(TopicReader):
    """Of an archive to which something happens just after its events were read for the first time."""

    def __init__(self, archive: Archive, act: Callable[[], None]) -> None:
        super().__init__({"bootstrap.servers": archive.servers}, archive.group)
        self._act: Callable[[], None] | None = act

    def events(self, streams: Collection[str] = ()) -> Iterator[Event | CheckpointError]:
        yield from super().events(streams)
        act, self._act = self._act, None
        if act:
            act()


@pytest.mark.parametrize("retired_first", [True, False])
def test_while_an_archive_is_verified_files_are_deleted_and_retired(archive: Archive, retired_first: bool) -> None:
    """A verify reads for hours, and a repair begins with one."""
    files = archive.files
    foreign = archive.root / files[0].replace("_000", "_017")
    shutil.copy(archive.root / files[0], foreign)

    def clean() -> None:
        if retired_first:
            assert archive.command("retire", *files[:3]).returncode == 0
        clean_up(archive.root, [*files[:5], str(foreign.relative_to(archive.root))])
        if not retired_first:
            assert archive.command("retire", *files[:3]).returncode == 0

    report = inspect(Location(archive.root), _Meanwhile(archive, clean), [], None, Progress())
    found = [(it.fault, it.path) for it in report.findings if it.path]
    assert found == [(Fault.MISSING, path) for path in files[3:5]]
    assert (report.counts.retired, report.counts.files) == (3, 4)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--missing", "17000/x/y.g3"],
        ["--before", "-1d", "17000/x/y.g3"],
        ["--missing", "--reason", "x" * 1001],
        ["--missing", "--who", ""],
        ["--missing", "--reason", "\x1b[31m"],
    ],
)
def test_wrong_usage(archive: Archive, arguments: list[str]) -> None:
    assert archive.command("retire", *arguments).returncode == 2
    assert archive.operator_events == []


@pytest.mark.slow
def test_while_an_archiver_records_and_a_job_deletes(kafka: str, stream: str, tmp_path: Path) -> None:
    """Each file is retired as soon as it is deleted, or before; nothing is ever wrong but between the two."""
    with Recorder(kafka, stream, tmp_path) as recorder:
        recorder.create_topic()
        source = Source(kafka, stream, epochs=0)
        archiver = recorder.archiver(*ROTATING)
        deleted: list[str] = []
        with continuous_acquisitions(source):
            for look in range(6):
                archiver.await_line("finished", count=4 * (look + 1))
                paths = [str(path.relative_to(recorder.data())) for path in recorder.files()[:-1]]
                if look % 2:  # the one first, or the other
                    clean_up(recorder.data(), paths)
                    assert recorder.command("retire", *paths).returncode in (0, 1)  # the last event may not be there
                    assert recorder.command("retire", "--missing").returncode == 0
                else:
                    assert recorder.command("retire", *paths[:-1]).returncode == 0
                    clean_up(recorder.data(), paths[:-1])
                deleted += paths
                done = recorder.command("repair")
                assert done.returncode == 0, "a file was missing that was retired"
                assert "rebuilt" not in done.stdout
        eventually(lambda: recorder.committed() == len(recorder.records(frames_topic(stream))), "all recorded")
        assert archiver.stop() == 0
        assert recorder.command("verify", "--against-topic").returncode == 0
        assert deleted
