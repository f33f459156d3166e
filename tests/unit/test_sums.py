"""SHA256SUMS proves every finished file of its directory, with the tool that everybody has."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from archiver import sums
from archiver.abandoned import Abandoned
from archiver.directory import Directory
from archiver.layout import SUMS

EMPTY = hashlib.sha256(b"").hexdigest()


def put(directory: Path, name: str, content: bytes = b"") -> str:
    """A file; gives its SHA-256."""
    (directory / name).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def add(directory: Path, name: str, sha256: str) -> None:
    """Give that file its line."""
    with Directory(directory, "") as opened:
        sums.add(opened, name, sha256, opened, Abandoned())


def read(directory: Path) -> dict[str, str]:
    """SHA-256 by name."""
    with Directory(directory, "") as opened:
        return sums.read(opened)


def test_the_usual_tool_accepts_it(tmp_path: Path) -> None:
    tool = shutil.which("sha256sum")
    if tool is None:
        pytest.skip("no sha256sum here")
    for name in ("2019-01-01-12-00-01_000.g3", "2019-01-01-12-00-00_000.g3", "2019-01-01-12-00-00_001.g3"):
        add(tmp_path, name, put(tmp_path, name, name.encode()))
    checked = subprocess.run([tool, "--strict", "-c", SUMS], cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(": OK") == 3
    (tmp_path / "2019-01-01-12-00-00_001.g3").write_bytes(b"damaged")
    assert subprocess.run([tool, "-c", SUMS], cwd=tmp_path, capture_output=True).returncode == 1


def test_lines_are_sorted_by_name(tmp_path: Path) -> None:
    for name in ("c.g3", "a.g3", "b.g3"):
        add(tmp_path, name, put(tmp_path, name))
    assert (tmp_path / SUMS).read_text() == "".join(f"{EMPTY}  {name}\n" for name in ("a.g3", "b.g3", "c.g3"))


def test_adding_again_changes_nothing(tmp_path: Path) -> None:
    sha = put(tmp_path, "a.g3", b"a")
    add(tmp_path, "a.g3", sha)
    before = (tmp_path / SUMS).stat()
    add(tmp_path, "a.g3", sha)
    after = (tmp_path / SUMS).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_every_finished_file_without_a_line_gets_one_and_nothing_else(tmp_path: Path) -> None:
    expected = {name: put(tmp_path, name, name.encode()) for name in ("a.g3", "b.g3", "c.g3")}
    put(tmp_path, "notes.txt")
    (tmp_path / "directory.g3").mkdir()
    add(tmp_path, "b.g3", expected["b.g3"])
    assert read(tmp_path) == expected


def test_lines_of_files_that_were_moved_away_stay(tmp_path: Path) -> None:
    for name in ("a.g3", "b.g3"):
        add(tmp_path, name, put(tmp_path, name, b"x"))
        (tmp_path / name).rename(tmp_path / f"{name}.moved")
    add(tmp_path, "c.g3", put(tmp_path, "c.g3"))
    assert list(read(tmp_path)) == ["a.g3", "b.g3", "c.g3"]


def test_a_wrong_line_is_put_right(tmp_path: Path) -> None:
    sha = put(tmp_path, "a.g3", b"a")
    (tmp_path / SUMS).write_text(f"{EMPTY}  a.g3\n")
    add(tmp_path, "a.g3", sha)
    assert read(tmp_path) == {"a.g3": sha}


def test_lines_in_binary_mode_are_read_and_garbage_is_not(tmp_path: Path) -> None:
    (tmp_path / SUMS).write_bytes(
        f"{EMPTY} *a.g3\nnot a line\n\xff\n{EMPTY}  b.g3\n{EMPTY[1:]}  c.g3\n".encode("latin-1")
    )
    assert read(tmp_path) == {"a.g3": EMPTY, "b.g3": EMPTY}


def test_it_is_readable_by_all_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    add(tmp_path, "a.g3", put(tmp_path, "a.g3"))
    assert (tmp_path / SUMS).stat().st_mode & 0o777 == 0o644
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [SUMS, "a.g3"]


def test_what_cannot_be_put_in_place_leaves_nothing_behind(tmp_path: Path) -> None:
    sha = put(tmp_path, "a.g3")
    (tmp_path / SUMS).mkdir()
    with pytest.raises(OSError, match=SUMS):
        add(tmp_path, "a.g3", sha)
    with Directory(tmp_path, "") as opened, pytest.raises(OSError, match=SUMS):
        sums._replace(opened, {"a.g3": sha}, opened)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [SUMS, "a.g3"]


def test_there_are_none_before_the_first(tmp_path: Path) -> None:
    assert read(tmp_path) == {}
    with pytest.raises(FileNotFoundError):
        add(tmp_path / "missing", "a.g3", EMPTY)


ADDER = """
import hashlib, sys
from pathlib import Path
from archiver import sums
from archiver.abandoned import Abandoned
from archiver.directory import Directory
directory, mine = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for n in range(10):
    content = f"{mine}{n}".encode()
    name = f"{mine}_{n:03d}.g3"
    (directory / "whole").with_suffix(f".{mine}").write_bytes(content)
    (directory / "whole").with_suffix(f".{mine}").rename(directory / name)  # a file appears whole
    with Directory(directory, "") as opened:
        sums.add(opened, name, hashlib.sha256(content).hexdigest(), opened, Abandoned())
"""


def test_two_archivers_at_once_leave_every_file_with_its_line(tmp_path: Path) -> None:
    adders = [
        subprocess.Popen(
            [sys.executable, "-c", ADDER, str(tmp_path), mine], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for mine in ("one", "two")
    ]
    for adder in adders:
        assert adder.stdout
        adder.stdout.readline()
    for adder in adders:
        assert adder.stdin
        adder.stdin.write(b"go\n")
        adder.stdin.flush()
    for adder in adders:
        adder.communicate(timeout=60)
        assert adder.returncode == 0
    found = read(tmp_path)
    assert found == {
        f"{mine}_{n:03d}.g3": hashlib.sha256(f"{mine}{n}".encode()).hexdigest()
        for mine in ("one", "two")
        for n in range(10)
    }
    assert len(list(tmp_path.iterdir())) == 21, "no temporary file is left"


def add_elsewhere(directory: Path) -> subprocess.CompletedProcess[bytes]:
    """Add an empty a.g3 in another process, so that one which never ends can be ended."""
    script = (
        "import pathlib, archiver.abandoned, archiver.directory, archiver.sums\n"
        "here = archiver.directory.Directory(pathlib.Path('.'), '')\n"
        f"archiver.sums.add(here, 'a.g3', '{EMPTY}', here, archiver.abandoned.Abandoned())"
    )
    return subprocess.run([sys.executable, "-c", script], cwd=directory, capture_output=True, timeout=30)


def test_a_foreign_file_with_a_blank_in_its_name_holds_nothing_up(tmp_path: Path) -> None:
    put(tmp_path, "a.g3")
    put(tmp_path, "a copy.g3")
    assert add_elsewhere(tmp_path).returncode == 0
    assert read(tmp_path)["a.g3"] == EMPTY


def test_a_foreign_file_whose_name_is_no_text_holds_nothing_up(tmp_path: Path) -> None:
    put(tmp_path, "a.g3")
    put(tmp_path, "\udcff.g3")
    assert add_elsewhere(tmp_path).returncode == 0
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(f"{SUMS}.")]


def test_a_file_that_is_moved_away_at_once_gets_its_line(tmp_path: Path) -> None:
    add(tmp_path, "a.g3", EMPTY)
    assert read(tmp_path) == {"a.g3": EMPTY}
