"""What a file system can't do is reported before anything is recorded on it; the check leaves nothing behind."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path

import pytest

from archiver.archive.file_system_check import check_disk
from archiver.archive.location import Location
from archiver.storage import no_replace
from tests.support.disk import mount, small_disk, unmount

NAME = "check.host-0123abcd"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data" / ".archiver").mkdir(parents=True)
    return tmp_path / "data"


def refusal(root: Path) -> str:
    """The reason of the refusal; the check leaves nothing behind."""
    try:
        check_disk(Location(root), NAME)
    except OSError as error:
        assert list(root.rglob("*")) == [root / ".archiver"]
        return str(error.strerror)
    pytest.fail("it isn't refused")


@pytest.mark.usefixtures("links")
def test_it_leaves_nothing_behind_and_says_nothing(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        check_disk(Location(root), NAME)
    assert list(root.rglob("*")) == [root / ".archiver"]
    assert caplog.text == ""


def test_what_a_killed_check_has_left_is_removed(root: Path) -> None:
    left = root / ".archiver" / NAME
    (left / "to").mkdir(parents=True)
    for name in ("a", "b", "to/final"):
        (left / name).write_bytes(b"x")
    (left / "to" / "link").symlink_to("final")
    check_disk(Location(root), NAME)
    assert list(root.rglob("*")) == [root / ".archiver"]


def test_without_locks_it_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert "no locks (flock: Function not implemented); mount it with them" in refusal(root)


def test_locks_that_protect_nothing_are_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert "protect nothing" in refusal(root)


def test_where_no_file_can_be_finished_it_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_link)
    real = no_replace.renameat2
    monkeypatch.setattr(no_replace, "renameat2", lambda a, b, c, d, f: errno.EINVAL if f else real(a, b, c, d, 0))
    assert "no file can be finished there: link: Operation not permitted; rename" in refusal(root)


def test_a_rename_that_replaces_though_it_must_not_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_link)
    real = no_replace.renameat2
    monkeypatch.setattr(no_replace, "renameat2", lambda a, b, c, d, _: real(a, b, c, d, 0))
    assert "without replacing another" in refusal(root)


def test_a_directory_that_cannot_be_synced_is_warned_of_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = os.fsync

    def of_files_only(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").is_dir():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(fd)

    monkeypatch.setattr(os, "fsync", of_files_only)
    check_disk(Location(root), NAME)
    (line,) = caplog.messages
    assert line.startswith(f"the file system of {root} can't sync a directory")


def test_a_full_disk_is_no_reason_not_to_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        (disk / ".archiver").mkdir()
        with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(bytes(1 << 12)):
                pass
        check_disk(Location(disk), NAME)
        assert sorted(path.name for path in disk.rglob("*")) == [".archiver", "filler"]
    assert "is full" in caplog.text


def test_a_private_directory_on_another_mount_is_refused(root: Path) -> None:
    """Of the same file system, so st_dev doesn't reveal it."""
    (root / "elsewhere").mkdir()
    mount("--bind", str(root / "elsewhere"), str(root / ".archiver"))
    try:
        with pytest.raises(OSError, match=r"\.archiver is on another mount") as refused:
            check_disk(Location(root), NAME)
        assert refused.value.errno == errno.EXDEV
    finally:
        unmount(root / ".archiver")
