"""`archiver repair`: what verify finds broken is as it was; what was broken is kept."""

import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.commands.test_replay import Night, assert_no_difference
from tests.support.archives import published_events
from tests.support.processes import RawSender, Recorder, flow, scan


@pytest.fixture(scope="module")
def night(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    with Recorder(kafka, f"repair-{secrets.token_hex(4)}", tmp_path_factory.mktemp("night")) as started:
        yield Night(started)


@pytest.fixture
def copy(night: Night, tmp_path: Path) -> Path:
    """A copy of the night's archive, to be damaged."""
    return shutil.copytree(night.recorder.data(), tmp_path / "copy")


def damage(copy: Path, files: list[str]) -> list[str]:
    """Break these in all ways there are; gives those of which something is left to be kept."""
    flipped, cut, gone, _, swapped, other, emptied, directory, unlisted = (copy / path for path in files)
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-1000])
    gone.unlink()
    swapped.write_bytes(other.read_bytes())
    emptied.write_bytes(b"")
    directory.unlink()
    directory.mkdir()
    sums = unlisted.parent / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines() if unlisted.name not in line]
    sums.write_text("".join(line + "\n" for line in lines))
    return [str(path.relative_to(copy)) for path in (flipped, cut, swapped, emptied, directory)]


def test_all_that_is_broken_is_as_it_was(night: Night, copy: Path) -> None:
    kept = damage(copy, night.files)
    broken = {path: (copy / path).read_bytes() for path in kept if (copy / path).is_file()}
    assert night.recorder.command("verify", into=copy).returncode == 1
    done = night.recorder.command("repair", into=copy)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing is wrong" in done.stdout
    damaged = sorted(str(path.relative_to(copy)) for path in copy.glob("[0-9]*/*/*.damaged"))
    assert damaged == sorted(f"{path}.damaged" for path in kept)
    for path, data in broken.items():
        assert (copy / f"{path}.damaged").read_bytes() == data
    for path in damaged:
        if (copy / path).is_dir():
            (copy / path).rmdir()
        else:
            (copy / path).unlink()
    assert_no_difference(night.recorder.data(), copy)
    assert not list((copy / ".archiver").rglob("*.replay"))


def test_damaged_once_more(night: Night, copy: Path) -> None:
    """What was kept before isn't overwritten."""
    path = copy / night.files[0]
    for broken in (b"first", b"second"):
        path.write_bytes(broken)
        assert night.recorder.command("repair", into=copy).returncode == 0
    assert path.with_name(f"{path.name}.damaged").read_bytes() == b"first"
    assert path.with_name(f"{path.name}.damaged.2").read_bytes() == b"second"


def test_a_sound_archive_is_left_alone(night: Night, copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.glob("[0-9]*/*/*")}
    done = night.recorder.command("repair", into=copy)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in copy.glob("[0-9]*/*/*")} == before


def test_what_it_can_not_mend_is_left_and_said(kafka: str, stream: str, tmp_path: Path) -> None:
    """A foreign file; and one whose records have left the topic."""
    with Recorder(kafka, stream, tmp_path) as recorder:
        night = Night(recorder)
        night.delete_before(night.offsets[1])
        broken, mended = recorder.data() / night.files[0], recorder.data() / night.files[2]
        foreign = broken.with_name("2020-01-01-00-00-00_000.g3")
        foreign.write_bytes(scan(1))
        for path in (broken, mended):
            path.write_bytes(b"broken")
        done = recorder.command("repair")
        assert done.returncode == 1
        assert f"{night.files[0]}: can't be rebuilt: its records have left the topic" in done.stdout
        assert f"{night.files[2]}: rebuilt" in done.stdout
        assert broken.read_bytes() == b"broken"
        assert foreign.read_bytes() == scan(1)
        assert len(list(recorder.data().glob("[0-9]*/*/*.damaged"))) == 1


def test_while_it_is_recorded_into(kafka: str, stream: str, tmp_path: Path) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder:
        recorder.create_topic()
        with RawSender() as sender:
            recorder.ingest(sender.port)
            archiver = recorder.archiver()
            with sender.accept() as connection:
                connection.sendall(flow(1) + scan(1) + scan(2) + flow(2) + flow(1) + scan(3))
                archiver.await_line("opened", count=2)
                [path] = recorder.files()
                data = path.read_bytes()
                path.unlink()
                done = recorder.command("repair")
                assert done.returncode == 0
                assert path.read_bytes() == data
                connection.sendall(scan(4) + flow(2))
                archiver.await_line("finished", count=2)
        assert recorder.command("verify", "--against-topic").returncode == 0


def test_two_at_once(night: Night, copy: Path) -> None:
    """One is refused, or finds all mended; what the other has put in place isn't moved away again."""
    broken = [copy / path for path in night.files]
    for path in broken:
        path.write_bytes(b"broken")
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _: night.recorder.command("repair", into=copy), range(2)))
    assert 0 in [one.returncode for one in done]
    assert "Traceback" not in done[0].stderr + done[1].stderr
    kept = sorted(copy.glob("[0-9]*/*/*.damaged*"))
    assert kept == sorted(path.with_name(f"{path.name}.damaged") for path in broken)
    assert {path.read_bytes() for path in kept} == {b"broken"}


def test_what_a_killed_one_left_behind_is_removed(night: Night, copy: Path) -> None:
    left = copy / ".archiver" / night.recorder.stream / "begun.replay"
    left.write_bytes(b"half a file")
    (copy / night.files[0]).unlink()
    assert night.recorder.command("repair", into=copy).returncode == 0
    assert not left.exists()


def test_a_partial_of_a_finished_file_is_removed_and_one_of_no_file_is_left(night: Night, copy: Path) -> None:
    event = next(value for _, value in published_events(night.recorder) if value["event"] == "file")
    stem = event["path"].removesuffix(".g3").replace("/", ".")
    private = copy / ".archiver" / night.recorder.stream
    private.mkdir(parents=True, exist_ok=True)
    of_a_file = private / f"{stem}.{event['first']['time']}.0123abcd"
    of_none = private / "17000.x.1700000000_000.1700000000000.0123abcd"
    for partial in (of_a_file, of_none):
        partial.write_bytes(scan(1))
    assert night.recorder.command("verify", into=copy).returncode == 1
    done = night.recorder.command("repair", into=copy)
    assert done.returncode == 1
    assert f"{of_a_file.relative_to(copy)}: removed, as its file is finished" in done.stdout
    assert f"{of_none.relative_to(copy)}: an archiver salvages or removes it when it is started again" in done.stdout
    assert (of_a_file.exists(), of_none.exists()) == (False, True)
