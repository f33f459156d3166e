"""The disk of the data directory is full, read-only, gone, or fails: recording pauses, and continues by itself."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.archives import Gate, Source, assert_same_tree, disturbed, left_behind, quick_session
from tests.support.disk import mount, small_disk, unmount
from tests.support.processes import SECONDS, Program, Recorder, admin_client, eventually

SIZE = "8m"
SECONDS_OF_TROUBLE = 3.0
"""Seconds; the group expires a member after 10."""
TROUBLE = "ERROR|WARN"


@pytest.fixture
def recorder(recorder: Recorder) -> Recorder:
    """Whose stream has its topic already."""
    recorder.create_topic()
    return recorder


@contextmanager
def data_disk(recorder: Recorder) -> Iterator[Path]:
    """A small file system as the data directory, until the recorder's programs have ended."""
    with small_disk(recorder.data(), SIZE, in_use=True) as directory:
        try:
            yield directory
        finally:
            recorder.kill()


def fill(directory: Path) -> Path:
    """A file that fills the disk."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 16)):
            pass
    return filler


def fill_in_mid_file(directory: Path, recorder: Recorder, source: Source, archiver: Program) -> Path:
    """A file that fills the disk once an acquisition has begun, and some of it is committed."""
    source.start()
    source.scans(10, 200_000)
    archiver.await_line("opened")
    eventually(lambda: recorder.committed() >= source.sent, "a commit")
    return fill(directory)


def lines_of_trouble(archiver: Program) -> list[str]:
    """What it has logged about it, without the release of the stream."""
    logged = [line for _, line in archiver.lines if any(word in line for word in TROUBLE.split("|"))]
    return [line for line in logged if ": released: " not in line]


def assert_same(recorder: Recorder, undisturbed: Program, archiver: Program, files: int) -> None:
    """All is finished, as without the trouble, which was logged once or twice, not at each attempt."""
    undisturbed.await_line(r"finished .* \(end\)", count=files)
    archiver.await_line(r"finished .* \(end\)", count=files)
    assert_same_tree(without_filler(recorder.tree()), recorder.tree("undisturbed"))
    assert left_behind(recorder, "archive") == []
    assert 1 <= len(lines_of_trouble(archiver)) <= 2, lines_of_trouble(archiver)
    assert "LOST" not in archiver.log


def without_filler(tree: dict[str, bytes]) -> dict[str, bytes]:
    """The finished files."""
    return {name: data for name, data in tree.items() if name != "filler"}


def members(recorder: Recorder) -> int:
    """The number of members of the archive's group."""
    admin, group = admin_client(recorder.servers), f"{recorder.stream}.archive"
    return len(admin.describe_consumer_groups([group])[group].result(SECONDS).members)


def trouble() -> None:
    """Time enough for the archiver to log the same line repeatedly, if it did."""
    time.sleep(SECONDS_OF_TROUBLE)


def test_full_in_mid_file_it_continues_when_there_is_room(recorder: Recorder) -> None:
    source = Source(recorder.servers, recorder.stream)
    with data_disk(recorder) as directory:
        undisturbed, archiver = recorder.archiver(archive="undisturbed"), recorder.archiver()
        filler = fill_in_mid_file(directory, recorder, source, archiver)
        source.scans(10, 200_000)
        archiver.await_line("can't write: .*No space left on device")
        source.end()
        trouble()
        assert archiver.pid
        filler.unlink()
        archiver.await_line("writing again")
        assert_same(recorder, undisturbed, archiver, 1)


def test_full_while_the_stream_is_given_away_and_back_it_continues(recorder: Recorder) -> None:
    """The archiver is frozen past its session; what it had paused must be delivered again."""
    source = Source(recorder.servers, recorder.stream)
    with data_disk(recorder) as directory:
        undisturbed, archiver = recorder.archiver(archive="undisturbed"), recorder.archiver()
        filler = fill_in_mid_file(directory, recorder, source, archiver)
        source.scans(10, 200_000)
        archiver.await_line("can't write: .*No space left on device")
        archiver.send(signal.SIGSTOP)
        eventually(lambda: members(recorder) == 0, "its session has timed out")
        archiver.send(signal.SIGCONT)
        archiver.await_line(": released: ")
        archiver.await_line(f"recording {recorder.stream}", count=2)
        source.end()
        filler.unlink()
        assert_same(recorder, undisturbed, archiver, 1)


def test_without_room_for_a_copy_it_is_not_filled(recorder: Recorder, tmp_path: Path) -> None:
    """A frozen archiver has the open file locked; the one that takes over its stream needs a copy."""
    source, quick, gate = Source(recorder.servers, recorder.stream), quick_session(tmp_path), Gate(tmp_path)
    with data_disk(recorder) as directory:
        undisturbed = recorder.archiver(archive="undisturbed")
        frozen = recorder.archiver("--instance-id", "frozen", *quick)
        filler = fill_in_mid_file(directory, recorder, source, frozen)
        frozen.send(signal.SIGSTOP)
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - 1_000_000)
        archiver = disturbed(recorder, gate.at("copy_file_range "), *quick, archive="archive")
        archiver.await_line(r"can't write: .*a copy of it needs 2.0 MB, [\d.]+ kB are free")
        trouble()
        assert not archiver.times_of("^stopped_at")
        source.end()
        filler.unlink()
        archiver.await_line("^stopped_at: hold")
        gate.open()
        archiver.await_line("writing again")
        frozen.kill()
        undisturbed.await_line(r"finished .* \(end\)")
        archiver.await_line(r"finished .* \(end\)")
        assert_same_tree(recorder.tree(), recorder.tree("undisturbed"))
        assert len(lines_of_trouble(archiver)) == 2, "that there is no room, and that it continues in a copy"


def test_full_while_a_file_is_finished_it_is_finished_when_there_is_room(recorder: Recorder) -> None:
    source = Source(recorder.servers, recorder.stream)
    with data_disk(recorder) as directory:
        undisturbed, archiver = recorder.archiver(archive="undisturbed"), recorder.archiver()
        filler = fill_in_mid_file(directory, recorder, source, archiver)
        source.end()
        source.now += 1000
        source.start()
        source.scans(5, 200_000)
        source.end()
        archiver.await_line("No space left on device")
        trouble()
        filler.unlink()
        assert_same(recorder, undisturbed, archiver, 2)


def test_read_only_for_a_while_nothing_is_skipped(recorder: Recorder) -> None:
    source, data = Source(recorder.servers, recorder.stream), recorder.data()
    with data_disk(recorder):
        undisturbed, archiver = recorder.archiver(archive="undisturbed"), recorder.archiver()
        source.start()
        source.scans(5)
        source.end()
        archiver.await_line(r"finished .* \(end\)")
        source.now += 1000
        # A disk with files open for writing can't be made read-only, but a second view of it, in front of the first.
        mount("--bind", "-o", "ro", str(data), str(data))
        try:
            source.start()
            source.scans(5)
            source.end()
            archiver.await_line("can't write: .*Read-only file system")
            trouble()
        finally:
            unmount(data, in_use=True)
        archiver.await_line("writing again")
        assert_same(recorder, undisturbed, archiver, 2)


def test_gone_for_a_while_nothing_is_written_where_it_was(recorder: Recorder) -> None:
    source, data = Source(recorder.servers, recorder.stream), recorder.data()
    with small_disk(recorder.directory / "disk", SIZE, in_use=True) as kept:
        data.mkdir()
        mount("--bind", str(kept), str(data))
        mounted = True
        try:
            undisturbed, archiver = recorder.archiver(archive="undisturbed"), recorder.archiver()
            source.start()
            source.scans(10)
            archiver.await_line("opened")
            eventually(lambda: recorder.committed() >= source.sent, "a commit")
            unmount(data, in_use=True)
            mounted = False
            source.end()
            source.now += 1000
            source.start()
            source.scans(10)
            source.end()
            eventually(lambda: bool(lines_of_trouble(archiver)), "a word about it")
            trouble()
            assert list(data.iterdir()) == []
            mount("--bind", str(kept), str(data))
            mounted = True
            assert_same(recorder, undisturbed, archiver, 2)
        finally:
            recorder.kill()
            if mounted:
                unmount(data, in_use=True)


FAILING = {
    "a-write": ("EIO", r"pwritev "),
    "a-write-to-a-disk-that-turns-read-only": ("EROFS", r"pwritev "),
    "its-identity": ("ENOSPC", r"fsync .*/\.archiver/archive\.identity"),
    "the-first-partial": ("ENOSPC", r"fsync .*/\.archiver/(?!identity)"),
    "the-sync-at-the-end": ("EIO", r"fdatasync "),
    "the-link": ("ENOSPC", r"link .*\.g3$"),
    "the-sync-of-the-file": ("EIO", r"fsync .*\.g3$"),
    "the-line-in-SHA256SUMS": ("ENOSPC", r"append .*SHA256SUMS$"),
    "the-sync-of-SHA256SUMS": ("EIO", r"fsync .*/SHA256SUMS$"),
    "the-unlink": ("EROFS", r"unlink .*_000\."),
}


@pytest.mark.slow
def test_an_error_of_the_disk_is_logged_once_and_retried(recorder: Recorder) -> None:
    # All at the same time, as most of it is waiting.
    source = Source(recorder.servers, recorder.stream)
    source.start()
    source.scans(50, 20_000)
    source.end()
    undisturbed = recorder.archiver(archive="undisturbed")
    archivers = {
        what: disturbed(recorder, [error, "before", call, "--times", "3"], archive=what)
        for what, (error, call) in FAILING.items()
    }
    undisturbed.await_line(r"finished .* \(end\)")
    left: dict[str, list[str]] = {}
    for what, archiver in archivers.items():
        archiver.await_line(r"finished .* \(end\)")
        assert len(archiver.times_of("^stopped_at")) == 3, what
        assert 1 <= len(lines_of_trouble(archiver)) <= 2, (what, archiver.log)
        assert_same_tree(recorder.tree(what), recorder.tree("undisturbed"))
        left[what] = left_behind(recorder, what)
    assert not any(left.values()), left


@pytest.mark.parametrize(
    "pace",
    [
        pytest.param(["--pace", "0.05"], id="in-mid-file"),
        pytest.param([], id="at-the-end"),
    ],
)
def test_what_a_failed_sync_may_have_lost_is_written_again(recorder: Recorder, pace: list[str]) -> None:
    # After it a disk may have lost what can still be read until the kernel drops it: see injection/stopped_at.py.
    source = Source(recorder.servers, recorder.stream, epochs=0)  # at this pace they would take minutes
    source.start()
    source.scans(40, 20_000)
    source.end()
    undisturbed = recorder.archiver(archive="undisturbed")
    archiver = disturbed(recorder, ["EIO", "before", "fdatasync ", *pace], archive="archive")
    archiver.await_line("^stopped_at: EIO")
    assert_same(recorder, undisturbed, archiver, 1)
