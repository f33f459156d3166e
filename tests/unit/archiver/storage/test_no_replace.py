"""A file gets a name without ever replacing another; if the file system can't do that, the error says why."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from archiver.storage import no_replace
from archiver.storage.directory import Directory
from tests.support.disk import small_disk


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Directory, Directory]]:
    """Two directories, the first of which holds `ours`."""
    with ExitStack() as stack:
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
        (tmp_path / "one" / "ours").write_bytes(b"ours")
        one, other = (stack.enter_context(Directory(tmp_path / name, "")) for name in ("one", "other"))
        yield one, other


def test_it_gets_its_name_and_loses_the_old_one_only_without_hard_links(
    two: tuple[Directory, Directory], links: str
) -> None:
    one, other = two
    one.publish("ours", other, "final")
    assert other.read("final", 99) == b"ours"
    assert one.names() == (["ours"] if links == "hard links" else [])


@pytest.mark.usefixtures("links")
def test_nothing_is_replaced(two: tuple[Directory, Directory]) -> None:
    one, other = two
    (other.path / "final").write_bytes(b"another's")
    (other.path / "to nothing").symlink_to("nowhere")
    for name in ("final", "to nothing"):
        with pytest.raises(FileExistsError):
            one.publish("ours", other, name)
    assert other.read("final", 99) == b"another's"
    assert one.read("ours", 99) == b"ours"


@pytest.mark.usefixtures("links")
def test_a_file_that_is_not_there_is_reported_missing(two: tuple[Directory, Directory]) -> None:
    one, other = two
    with pytest.raises(FileNotFoundError):
        one.publish("gone", other, "final")


@pytest.mark.parametrize("failed", [errno.EINVAL, errno.ENOSYS])
def test_where_neither_way_works_both_reasons_are_reported(
    two: tuple[Directory, Directory], monkeypatch: pytest.MonkeyPatch, failed: int
) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    one, other = two
    monkeypatch.setattr(os, "link", no_link)
    monkeypatch.setattr(no_replace, "renameat2", lambda *_: failed)
    message = f"link: Operation not permitted; rename without replacing: {os.strerror(failed)}"
    with pytest.raises(OSError, match=message) as refused:
        one.publish("ours", other, "final")
    assert refused.value.filename == str(other.path / "final")
    assert one.read("ours", 99) == b"ours"


def test_between_two_mounts_the_error_says_that_they_are_two(
    two: tuple[Directory, Directory], tmp_path: Path
) -> None:
    one, _ = two
    with small_disk(tmp_path / "disk", "1m") as disk, Directory(disk, "") as other:
        with pytest.raises(OSError, match="must be on one mount"):
            one.publish("ours", other, "final")
        assert other.names() == []
        with Directory(tmp_path, "") as parent, Directory(tmp_path, "one") as same:
            assert no_replace.on_other_mounts(same.fd, other.fd)
            assert not no_replace.on_other_mounts(same.fd, parent.fd)
