"""`archiver adopt`: files that were there before are proved from then on; what can't be is left, and said."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.core.events import FileAdopted
from g3stream.contract.topics import FILES_TOPIC
from testbed.kafka.broker import Broker
from tests.integration.commands.test_replay import ROTATING, Night
from tests.support.archives import Source, continuous_acquisitions
from tests.support.processes import SECONDS, Recorder, admin_client, eventually
from tests.support.recorded_archive import Archive, clean_up, events_of

DATA = Path(__file__).parents[2] / "data"
OLD = "15463/crate1slot2/1546344000_000.g3", "15463/crate1slot2/2019-01-01-13-00-00_001.g3"


@pytest.fixture(scope="module")
def night(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    with Recorder(kafka, f"adopt-{secrets.token_hex(4)}", tmp_path_factory.mktemp("night")) as started:
        yield Night(started)


@pytest.fixture
def archive(night: Night, tmp_path: Path) -> Archive:
    """A copy of the night's archive."""
    return Archive(night.recorder, tmp_path / "data")


def old_file(root: Path, path: str, data: bytes) -> Path:
    """A file of another recorder, as it was written an hour ago."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    an_hour_ago = file.stat().st_mtime - 3600
    os.utime(file, (an_hour_ago, an_hour_ago))
    return file


def another_recorders(root: Path) -> list[Path]:
    """Real files, named in the two ways in which earlier recorders named them."""
    return [
        old_file(root, path, (DATA / name).read_bytes())
        for path, name in zip(OLD, ("smurf-session.g3", "smurf-slot.g3"), strict=True)
    ]


@pytest.mark.slow
def test_another_recorders_files_are_proved_from_then_on(archive: Archive) -> None:
    first, second = another_recorders(archive.root)
    assert archive.faults() == [("foreign", path) for path in OLD]
    done = archive.command("adopt", "--all", "--dry-run")
    assert done.returncode == 0
    assert "2 files would be adopted" in done.stdout
    assert (archive.operator_events, (first.parent / "SHA256SUMS").exists()) == ([], False)

    done = archive.command("adopt", "--all", "--reason", "of the recorder before", "--who", "ops")
    assert done.returncode == 0
    assert "2 files adopted" in done.stdout
    assert [(it.path, it.who, it.reason) for it in archive.operator_events] == [
        (path, "ops", "of the recorder before") for path in OLD
    ]
    code, report = archive.verify("--against-topic")
    assert (code, report["findings"], report["counts"]["adopted"], report["counts"]["files"]) == (0, [], 2, 11)
    assert subprocess.run(["/usr/bin/sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=first.parent).returncode == 0
    done = archive.command("files", "--until", "2020-01-01")
    assert [path for path in OLD if path in done.stdout] == list(OLD)
    assert "2 files adopted" in done.stdout
    done = archive.command("adopt", "--all")
    assert (done.returncode, done.stdout) == (0, "0 files adopted, 0 B\n")
    done = archive.command("adopt", *OLD, *archive.files)
    assert (done.returncode, done.stdout) == (0, "0 files adopted, 0 B; 11 recorded already\n")
    assert len(archive.operator_events) == 2

    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    second.unlink()
    assert archive.faults() == [("damaged", OLD[0]), ("missing", OLD[1])]
    assert archive.command("repair").returncode == 1
    first.unlink()
    assert archive.command("retire", "--missing").returncode == 0
    assert archive.verify()[0] == 0


def test_what_is_not_adopted_stays_as_it_is_and_is_said(archive: Archive) -> None:
    good, _ = another_recorders(archive.root)
    data, directory = good.read_bytes(), OLD[0].rpartition("/")[0]
    ours = archive.files[0] if not archive.files[0].startswith("15463") else archive.files[2]
    refused = {
        f"{directory}/1546347600_000.g3": (data[:-7], "it isn't whole frames"),
        f"{directory}/1546347601_000.g3": (data[:-1] + b"\x00", "it isn't whole frames"),
        f"{directory}/1600000000_000.g3": (data, "by the time in its name it belongs in 16000/"),
        f"{directory}/calibration.g3": (data, "its name must be"),
        f"{directory}/1546347602_000.g3": ((archive.root / ours).read_bytes(), "it is a copy of"),
    }
    for path, (content, _) in refused.items():
        old_file(archive.root, path, content)
    (archive.root / directory / "1546347603_000.g3").symlink_to(good)
    (archive.root / directory / "1546347604_000.g3").write_bytes(data)  # just now
    (archive.root / "elsewhere.g3").write_bytes(data)
    done = archive.command("adopt", "--all")
    assert done.returncode == 1
    for path, (_, why) in refused.items():
        assert f"{path} " in done.stdout
        assert why in done.stdout
    for why in ("it is a link", "changed less than a minute ago"):
        assert why in done.stdout
    assert "2 files adopted" in done.stdout
    assert "7 not adopted" in done.stdout
    assert {it.path for it in archive.operator_events} == set(OLD)
    for path, (content, _) in refused.items():
        assert (archive.root / path).read_bytes() == content
    done = archive.command("adopt", "elsewhere.g3", "nowhere", str(archive.root / directory / "nothing_000.g3"))
    assert done.returncode == 1
    assert "3 not adopted" in done.stdout
    assert len(archive.operator_events) == 2


def test_a_file_that_a_crash_cut_off_is_adopted_as_it_is_if_that_is_asked_for(archive: Archive) -> None:
    cut = old_file(archive.root, OLD[0], (DATA / "smurf-session.g3").read_bytes()[:-7])
    assert archive.command("adopt", OLD[0]).returncode == 1
    done = archive.command("adopt", OLD[0], "--damaged")
    assert done.returncode == 0
    [event] = archive.operator_events
    assert isinstance(event, FileAdopted)
    assert "it would end beyond byte" in event.damage
    assert archive.verify()[0] == 0
    assert archive.command("retire", OLD[0]).returncode == 0
    assert archive.command("adopt", OLD[0]).returncode == 0
    assert (archive.verify()[0], archive.catalog.retired) == (0, {})
    cut.write_bytes(cut.read_bytes()[:-7])
    assert [path for _, path in archive.faults()] == [OLD[0]]


def test_a_retired_file_that_is_restored_must_be_there_from_then_on(archive: Archive, night: Night) -> None:
    files = archive.files
    clean_up(archive.root, files)
    assert archive.command("retire", "--missing", "--yes").returncode == 0
    for path in files[:2]:
        (archive.root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(night.recorder.data() / path, archive.root / path)
    (archive.root / files[2]).write_bytes(b"not what it was")
    done = archive.command("adopt", files[0].rpartition("/")[0])
    assert done.returncode == 1
    assert "2 files adopted" in done.stdout
    assert "its bytes aren't those recorded before it was retired" in done.stdout
    assert set(archive.catalog.retired) == set(files[2:])
    (archive.root / files[2]).unlink()
    assert archive.verify()[0] == 0
    (archive.root / files[1]).unlink()
    assert archive.faults() == [("missing", files[1])]
    assert archive.command("repair").returncode == 0
    assert archive.files == files[:2]


def test_where_no_archiver_of_the_group_has_recorded_nothing_is_adopted(archive: Archive, tmp_path: Path) -> None:
    other = tmp_path / "other"
    another_recorders(other)
    done = archive.command("adopt", "--all", "--data-dir", str(other))
    assert done.returncode == 1
    assert "start its archiver once" in done.stderr
    (other / ".archiver").mkdir()
    (other / ".archiver" / "archive.identity").write_text(f"{'0' * 16} another\n")
    done = archive.command("adopt", "--all", "--data-dir", str(other))
    assert done.returncode == 1
    assert "the archive of the group another" in done.stderr
    assert (archive.operator_events, archive.command("adopt").returncode) == ([], 2)
    assert archive.command("adopt", "--all", OLD[0]).returncode == 2


@pytest.mark.slow
def test_after_g3_files_was_lost_its_files_are_recorded_again(tmp_path: Path) -> None:
    """On a broker of its own, as others record to g3.files of the one for all tests."""
    with (
        Broker(tmp_path / "kafka") as broker,
        Recorder(broker.bootstrap_servers, "lost", tmp_path) as recorder,
    ):
        night = Night(recorder)
        admin = admin_client(recorder.servers)
        admin.delete_topics([FILES_TOPIC])[FILES_TOPIC].result(SECONDS)
        eventually(lambda: FILES_TOPIC not in admin.list_topics(timeout=SECONDS).topics, "the topic gone")
        done = recorder.command("adopt", "--all", "--dry-run")
        assert done.returncode == 1
        assert done.stdout.count("changed less than a minute ago") == 9
        for path in recorder.files():
            an_hour_ago = path.stat().st_mtime - 3600
            os.utime(path, (an_hour_ago, an_hour_ago))
        archiver = recorder.archiver(*ROTATING)
        archiver.await_line("recording lost")
        night.source.start()
        night.source.scans(20, every=100)
        archiver.await_line("opened")
        done = recorder.command("adopt", "--all")
        assert done.returncode == 0
        assert "9 files adopted" in done.stdout
        assert recorder.command("verify").returncode == 0
        night.source.end()
        archiver.await_line("finished")
        assert archiver.stop() == 0
        done = recorder.command("verify")
        assert done.returncode == 0
        assert "10 files of 1 stream" in done.stdout
        assert "9 of the files adopted" in done.stdout


@pytest.mark.slow
def test_while_an_archiver_records_and_is_killed_none_of_its_files_is_adopted(
    kafka: str, stream: str, tmp_path: Path
) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder:
        recorder.create_topic()
        source = Source(kafka, stream, epochs=0)
        archiver = recorder.archiver(*ROTATING, "--checksums", "private")
        archiver.await_line(f"recording {stream}")
        with continuous_acquisitions(source):
            for look in range(6):
                archiver.await_line("finished")
                if look % 3 == 2:
                    archiver.kill()
                    archiver = recorder.archiver(*ROTATING, "--checksums", "private")
                path = f"15463/{stream}/15463440{look:02d}_000.g3"
                old_file(recorder.data(), path, (DATA / "smurf-slot.g3").read_bytes()[look:] if look else b"")
                done = recorder.command("adopt", "--all")
                assert done.returncode == (1 if look else 0)
                assert done.stdout.count(": it ") == (1 if look else 0), "one of ours was taken for another's"
                (recorder.data() / path).unlink()
        eventually(lambda: recorder.committed() == len(recorder.records()), "all recorded")
        assert archiver.stop() == 0
        published = events_of(recorder, f"{stream}.archive")
        assert [event.path for event in published if isinstance(event, FileAdopted)] == [
            f"15463/{stream}/1546344000_000.g3"
        ]
        assert recorder.command("retire", "--missing").returncode == 0
        assert recorder.command("verify", "--against-topic").returncode == 0
        another = old_file(recorder.data(), OLD[0], (DATA / "smurf-slot.g3").read_bytes())
        assert recorder.command("adopt", str(another), "--stream", "crate1slot2").returncode == 0
        assert not list(recorder.data().glob("*/*/SHA256SUMS"))
        assert recorder.command("verify", "--against-topic", "--stream", "crate1slot2").returncode == 0
