"""SHA256SUMS verifies every finished file of its directory, with a standard tool."""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.core.paths import SUMS
from archiver.storage import sha256sums
from archiver.storage.directory import Directory

EMPTY = hashlib.sha256(b"").hexdigest()


def put(directory: Path, name: str, content: bytes = b"") -> str:
    """Write a file; returns its SHA-256."""
    (directory / name).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def add(directory: Path, name: str, sha256: str) -> None:
    """Add that file's line."""
    with Directory(directory, "") as opened:
        sha256sums.add(opened, name, sha256, opened)


def read(directory: Path) -> dict[str, str]:
    """SHA-256 by name."""
    with Directory(directory, "") as opened:
        return sha256sums.read(opened)[0]


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
    (tmp_path / SUMS).mkdir()
    with Directory(tmp_path, "") as opened, pytest.raises(OSError, match=SUMS):
        opened.replace_file(SUMS, b"")
    assert [entry.name for entry in tmp_path.iterdir()] == [SUMS]


def test_there_are_none_before_the_first(tmp_path: Path) -> None:
    assert read(tmp_path) == {}
    with pytest.raises(FileNotFoundError):
        add(tmp_path / "missing", "a.g3", EMPTY)


ADDER = """
import hashlib, sys
from pathlib import Path
from archiver.storage import sha256sums
from archiver.storage.directory import Directory
directory, mine = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for n in range(10):
    content = f"{mine}{n}".encode()
    name = f"{mine}_{n:03d}.g3"
    (directory / "whole").with_suffix(f".{mine}").write_bytes(content)
    (directory / "whole").with_suffix(f".{mine}").rename(directory / name)  # a file appears whole
    with Directory(directory, "") as opened:
        sha256sums.add(opened, name, hashlib.sha256(content).hexdigest(), opened)
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


def test_a_file_that_is_moved_away_at_once_gets_its_line(tmp_path: Path) -> None:
    add(tmp_path, "a.g3", EMPTY)
    assert read(tmp_path) == {"a.g3": EMPTY}


@pytest.mark.parametrize("there", ["a directory", "a named pipe", "a link", "a device"])
def test_what_is_no_file_takes_no_line_and_is_left(tmp_path: Path, there: str) -> None:
    path = tmp_path / SUMS
    match there:
        case "a directory":
            path.mkdir()
        case "a named pipe":
            os.mkfifo(path)
        case "a link":
            path.symlink_to("elsewhere")
        case "a device":
            try:
                os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            except OSError:
                pytest.skip("no devices can be made here")
    before = path.lstat()
    with pytest.raises(sha256sums.ChecksumsUnusable, match=SUMS):
        add(tmp_path, "a.g3", EMPTY)
    assert path.lstat().st_ino == before.st_ino
    assert [entry.name for entry in tmp_path.iterdir()] == [SUMS]
    if there != "a directory":
        with pytest.raises(OSError, match=SUMS):
            read(tmp_path)


def test_one_of_8_gigabytes_takes_a_line_and_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / SUMS
    with path.open("wb") as file:
        file.truncate(8 << 30)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({1 << 30}, {1 << 30}));"
    script = (
        "import pathlib, archiver.storage.directory, archiver.storage.sha256sums\n"
        "here = archiver.storage.directory.Directory(pathlib.Path('.'), '')\n"
        f"archiver.storage.sha256sums.add(here, 'a.g3', '{EMPTY}', here)"
    )
    done = subprocess.run([sys.executable, "-c", limit + script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line = f"\n{EMPTY}  a.g3\n".encode()
    with path.open("rb") as file:
        file.seek(8 << 30)
        assert file.read() == line
    with pytest.raises(OSError, match="8589934"):
        read(tmp_path)


def test_a_line_of_millions_of_characters_is_no_line(tmp_path: Path) -> None:
    (tmp_path / SUMS).write_bytes(f"{EMPTY}  ".encode() + b"x" * 20_000_000 + f"\n{EMPTY}  a.g3\n".encode())
    add(tmp_path, "b.g3", EMPTY)
    assert list(read(tmp_path)) == ["a.g3", "b.g3"]


# A line that is appended, or put in its place


def lines(*names: str) -> bytes:
    """Those of empty files."""
    return "".join(f"{EMPTY}  {name}\n" for name in names).encode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(b"", lines("m.g3"), id="nothing"),
        pytest.param(lines("a.g3"), lines("a.g3", "m.g3"), id="at the end"),
        pytest.param(lines("a.g3", "z.g3"), lines("a.g3", "m.g3", "z.g3"), id="between others"),
        pytest.param(lines("a.g3")[:-1], lines("a.g3", "m.g3"), id="after a line without its end"),
        pytest.param(lines("a.g3", "m.g3")[:-30], lines("a.g3", "m.g3"), id="where a part of it was written"),
        pytest.param(lines("a.g3", "m.g3")[:-1], lines("a.g3", "m.g3"), id="where all but its end was written"),
        pytest.param(b"f" * 64 + b"  m.g3\n", lines("m.g3"), id="for a wrong one"),
        pytest.param(
            b"f" * 64 + b"  m.g3\n" + lines("n.g3", "m.g3"), lines("m.g3", "n.g3"), id="for a wrong and a right one"
        ),
        pytest.param(
            b"# by hand\n" + lines("z.g3"), b"# by hand\n" + lines("m.g3", "z.g3"), id="what is no line stays"
        ),
        pytest.param(
            lines("xm.g3", "a.g3"), lines("xm.g3", "a.g3", "m.g3"), id="a name that ends like it is another"
        ),
        pytest.param(lines("m.g3", "z.g3"), lines("m.g3", "z.g3"), id="it is there"),
        pytest.param(f"{EMPTY} *m.g3\n".encode(), f"{EMPTY} *m.g3\n".encode(), id="it is there, in binary mode"),
    ],
)
def test_a_line_gets_its_place_and_others_stay(tmp_path: Path, before: bytes, after: bytes) -> None:
    if before:
        (tmp_path / SUMS).write_bytes(before)
    for _ in range(2):
        add(tmp_path, "m.g3", EMPTY)
        assert (tmp_path / SUMS).read_bytes() == after


NAMES = st.sampled_from(["a.g3", "b.g3", "c.g3", "2019-01-01-12-00-00_000.g3", "2019-01-01-12-00-00_1000.g3"])


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, st.sampled_from([EMPTY, "f" * 64]))))
def test_any_lines_in_any_order_are_the_latest_of_each_sorted(added: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        for name, sha256 in added:
            add(Path(place), name, sha256)
        text = (Path(place) / SUMS).read_text() if added else ""
    assert text == "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(dict(added).items()))


def test_a_line_more_costs_little_where_there_are_many(tmp_path: Path) -> None:
    """Counted: with 50,000 lines nothing is replaced, and one line is written."""
    text = lines(*(f"2019-01-01-12-00-00_{n:06d}.g3" for n in range(50_000)))
    (tmp_path / SUMS).write_bytes(text)
    inode = (tmp_path / SUMS).stat().st_ino
    add(tmp_path, "2019-01-01-12-00-00_050000.g3", EMPTY)
    assert (tmp_path / SUMS).stat().st_ino == inode
    assert (tmp_path / SUMS).read_bytes() == text + lines("2019-01-01-12-00-00_050000.g3")
