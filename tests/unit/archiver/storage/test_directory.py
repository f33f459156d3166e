"""Below the data directory no link is followed, and nothing is created where there is no data directory."""

import os
from pathlib import Path

import pytest

from archiver.archive.location import Location
from archiver.storage.directory import Directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data directory."""
    (tmp_path / "data" / ".archiver").mkdir(parents=True)
    return tmp_path / "data"


def put(directory: Directory, name: str, data: bytes) -> None:
    with os.fdopen(directory.open(name, os.O_WRONLY | os.O_CREAT), "wb") as file:
        file.write(data)


def test_directories_are_made_on_the_way_and_files_live_in_them(root: Path) -> None:
    for _ in range(2):
        with Location(root).data("15463/crate1slot2", make=True) as made:
            put(made, "a", b"A")
            assert made.read("a", 99) == b"A"
            assert made.names() == ["a"]
    assert (root / "15463" / "crate1slot2" / "a").read_bytes() == b"A"


def test_without_make_a_missing_one_is_missing(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="15463/crate1slot2"):
        Directory(root, "15463/crate1slot2")
    assert not (root / "15463").exists()


def test_nothing_is_made_on_an_empty_mount_point(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="is its disk mounted"):
        Location(tmp_path).data("15463/crate1slot2", make=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("planted", ["15463", "15463/crate1slot2"])
def test_a_link_on_the_way_is_not_followed(root: Path, tmp_path: Path, planted: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "crate1slot2").mkdir(parents=True)
    (root / planted).parent.mkdir(exist_ok=True)
    (root / planted).symlink_to(elsewhere if planted == "15463" else elsewhere / "crate1slot2")
    for make in (False, True):
        with pytest.raises(OSError, match="a link or a file is where a directory should be") as refused:
            Location(root).data("15463/crate1slot2", make=make)
        assert refused.value.filename == str(root / planted)
    assert not list((elsewhere / "crate1slot2").iterdir())


def test_a_link_that_is_a_file_is_not_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    with Directory(root, "") as directory:
        assert not directory.is_file("link")
        with pytest.raises(OSError, match="link"):
            directory.open("link", os.O_WRONLY)
        with pytest.raises(OSError, match="not a regular file"):
            directory.read("link", 99)
        directory.unlink("link")
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_a_link_to_the_root_itself_is_the_operators(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    with Location(tmp_path / "link").data("15463", make=True) as directory:
        put(directory, "a", b"A")
    assert (root / "15463" / "a").exists()


def test_files_are_linked_moved_and_removed_between_directories(root: Path) -> None:
    with Location(root).data("one", make=True) as one, Location(root).data("two", make=True) as two:
        put(one, "a", b"A")
        one.publish("a", two, "b")
        with pytest.raises(FileExistsError):
            one.publish("a", two, "b")
        put(one, "c", b"C")
        one.rename("c", two, "b")
        assert two.read("b", 99) == b"C"
        one.unlink("a")
        one.unlink("a")
        assert one.names() == []
        assert one.stat("a") is None
