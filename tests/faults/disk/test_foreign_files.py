"""Others put things beside our files, and at their names: recording continues, and these are left alone."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.archives import Source, left_behind
from tests.support.processes import Recorder, eventually

SPARSE = 8 << 30


def sparse(path: Path) -> None:
    """A large sparse file."""
    with path.open("wb") as file:
        file.truncate(SPARSE)


# Each is planted in the directory of the file that is being recorded; the path is that file's.
PLANTED: dict[str, Callable[[Path], None]] = {
    "a terabyte beside it": lambda path: sparse(path.with_name("2019-copy_000.g3")),
    "a pipe beside it": lambda path: os.mkfifo(path.with_name("pipe_000.g3")),
    "a large file with its name": sparse,
    "a pipe with its name": os.mkfifo,
    "a SHA256SUMS of 8 GB": lambda path: sparse(path.with_name("SHA256SUMS")),
    "a SHA256SUMS that is a pipe": lambda path: os.mkfifo(path.with_name("SHA256SUMS")),
    "a SHA256SUMS that is a directory": lambda path: path.with_name("SHA256SUMS").mkdir(),
    "a SHA256SUMS that is a link": lambda path: path.with_name("SHA256SUMS").symlink_to("/nowhere"),
}


@pytest.mark.slow
def test_what_others_put_beside_a_file_does_not_keep_it_from_being_finished(recorder: Recorder) -> None:
    # All at the same time, as most of it is waiting.
    recorder.create_topic()
    source = Source(recorder.servers, recorder.stream)
    archivers = {what: recorder.archiver(archive=what.replace(" ", "-")) for what in PLANTED}
    source.start()
    source.scans(10)
    paths = {what: archiver.await_line(r"opened (\S+)")[1] for what, archiver in archivers.items()}
    there: dict[str, dict[str, os.stat_result]] = {}
    for what, plant in PLANTED.items():
        path = recorder.data(what.replace(" ", "-")) / paths[what]
        path.parent.mkdir(parents=True)
        plant(path)
        there[what] = {entry.name: entry.lstat() for entry in path.parent.iterdir()}
    source.end()
    contents = set()
    for what, archiver in archivers.items():
        name = archiver.await_line(r"finished (\S+) \(end\)")[1]
        root = recorder.data(what.replace(" ", "-"))
        contents.add((root / name).read_bytes())
        taken = "with its name" in what
        assert name == paths[what].replace("_000", "_001" if taken else "_000"), what
        for other, before in there[what].items():
            after = (root / name).with_name(other).lstat()
            assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode), (what, other)
        if what.startswith("a SHA256SUMS that"):
            archiver.await_line(rf"{name} has no line in SHA256SUMS: .*SHA256SUMS")
        elif "8 GB" in what:
            with (root / name).with_name("SHA256SUMS").open("rb") as file:
                file.seek(SPARSE)
                assert file.read().endswith(f"  {Path(name).name}\n".encode())
        else:
            assert f"  {Path(name).name}\n" in (root / name).with_name("SHA256SUMS").read_text(), what
        assert archiver.stop() == 0, what
        assert left_behind(recorder, what.replace(" ", "-")) == [], what
    assert [len(data) > 10_000 for data in contents] == [True], "all have the same, and all of it"


def test_a_foreign_file_gets_its_line_once_it_is_no_longer_written_to(recorder: Recorder) -> None:
    recorder.create_topic()
    source = Source(recorder.servers, recorder.stream)
    archiver = recorder.archiver()
    source.start()
    source.scans(3)
    path = recorder.data() / archiver.await_line(r"opened (\S+)")[1]
    path.parent.mkdir(parents=True)
    whole, copied = path.with_name("whole_000.g3"), path.with_name("copied_000.g3")
    for file in (whole, copied):
        file.write_bytes(b"foreign")
    os.utime(whole, (0, 0))
    source.end()
    sums = path.with_name("SHA256SUMS")
    eventually(lambda: sums.exists() and "whole_000.g3" in sums.read_text(), "the one that is whole has a line")
    assert "copied_000.g3" not in sums.read_text()
    os.utime(copied, (0, 0))
    source.start()
    source.scans(1)
    source.end()
    eventually(lambda: "copied_000.g3" in sums.read_text(), "the other one has, too")
    assert archiver.stop() == 0


def test_a_directory_in_the_place_of_a_temporary_file_of_ours_is_left_and_keeps_no_stream_from_being_recorded(
    recorder: Recorder,
) -> None:
    recorder.create_topic()
    source = Source(recorder.servers, recorder.stream)
    private = recorder.data() / ".archiver" / recorder.stream
    (private / "SHA256SUMS.0123abcd").mkdir(parents=True)
    (private / "SHA256SUMS.89abcdef").write_text("of a kill")
    archiver = recorder.archiver()
    source.start()
    source.scans(3)
    source.end()
    archiver.await_line(r"finished .* \(end\)")
    assert [path.name for path in private.glob("SHA256SUMS.*")] == ["SHA256SUMS.0123abcd"]
    assert archiver.stop() == 0
