"""Durable directories, also those made by a start that was killed, and private files that nobody else may open."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from archiver.archive.archive_settings import initialize
from archiver.archive.location import Location
from archiver.archive.root import ArchiveRoot
from archiver.segments.segment_file import SegmentFile
from g3stream.host.fsync import make_directory, sync_data, sync_directory
from g3stream.service.cancellation import CancellationToken
from ingest.config import MIN_SPOOL_BYTES
from ingest.spool.spool import Spool
from ingest.spool.writer import SpoolError
from tests.support.disk import small_disk

PATH = "15463/crate1slot2/2019-01-01-12-00-00_000.g3"
PARTIAL = "15463.crate1slot2.2019-01-01-12-00-00_000.1546344000123.0123abcd"
SHA256_OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the paths that fsync is called with."""
    found: list[Path] = []
    real = os.fsync

    def recording_fsync(fd: int) -> None:
        found.append(Path(f"/proc/self/fd/{fd}").readlink())
        real(fd)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    return found


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Set the umask, as a service manager does."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("made", ["now", "by a start that was killed before it synced"])
def test_all_directories_above_are_durable_whoever_made_them(tmp_path: Path, synced: list[Path], made: str) -> None:
    path = tmp_path / "a" / "b" / "c"
    if made != "now":
        path.mkdir(parents=True)
    make_directory(path)
    assert path.is_dir()
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b"} <= set(synced)


def test_nothing_is_synced_beyond_the_mount_point(tmp_path: Path, synced: list[Path]) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        make_directory(disk / "a" / "b")
        assert synced == [disk / "a", disk]


@pytest.mark.parametrize("made", ["now", "by a start that was killed before it synced"])
def test_a_published_file_is_durable_with_all_directories_above(
    tmp_path: Path, synced: list[Path], made: str
) -> None:
    root = tmp_path / "data"
    initialize(Location(root), None)
    archive = ArchiveRoot(Location(root), "archiver", "host")
    if made != "now":
        (root / PATH).parent.mkdir(parents=True)
        (root / ".archiver" / "crate1slot2").mkdir()
    synced.clear()
    os.close(archive.claim("crate1slot2", alone=False))
    assert root / ".archiver" in synced
    with archive.private("crate1slot2") as private:
        SegmentFile.create(private, PARTIAL).close()
    synced.clear()
    archive.publish("crate1slot2", PARTIAL, PATH, 0, SHA256_OF_NOTHING, CancellationToken())
    parent = (root / PATH).parent
    assert {root / PATH, parent, parent.parent, root} <= set(synced)


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o002, 0o664), (0o027, 0o640)])
def test_the_umask_applies_to_data_and_private_files_are_for_nobody_else(
    tmp_path: Path, mask: int, expected: int
) -> None:
    root = tmp_path / "data"
    with umask(mask):
        initialize(Location(root), None)
        archive = ArchiveRoot(Location(root), "archiver", "host")
        os.close(archive.claim("crate1slot2", alone=False))
        with archive.private("crate1slot2") as private:
            SegmentFile.create(private, PARTIAL).close()
        assert archive.publish("crate1slot2", PARTIAL, PATH, 0, SHA256_OF_NOTHING, CancellationToken()) == PATH
        archive.add_checksum("crate1slot2", PATH, SHA256_OF_NOTHING)
    assert mode(root / PATH) == mode((root / PATH).with_name("SHA256SUMS")) == expected
    assert mode((root / PATH).parent) == 0o777 & ~mask
    assert mode(root / ".archiver") == 0o700
    assert mode(root / ".archiver" / "crate1slot2" / "claim.lock") == 0o600


def test_directories_that_an_older_version_left_open_to_all_are_private_after_a_start(tmp_path: Path) -> None:
    spool, root = tmp_path / "spool", tmp_path / "data"
    spool.mkdir()
    spool.chmod(0o755)
    (spool / "lock").touch(0o644)
    (root / ".archiver").mkdir(parents=True)
    (root / ".archiver").chmod(0o755)
    with Spool(spool, MIN_SPOOL_BYTES):
        initialize(Location(root), None)
    assert (mode(spool), mode(spool / "lock"), mode(root / ".archiver")) == (0o700, 0o600, 0o700)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may make what is another user's")
@pytest.mark.parametrize("whose", ["spool", "archive"])
def test_a_link_that_another_user_made_in_place_of_a_private_directory_is_not_followed(
    tmp_path: Path, whose: str
) -> None:
    ours = tmp_path / "ours"
    ours.mkdir(0o755)
    link = tmp_path / ("spool" if whose == "spool" else ".archiver")
    link.symlink_to(ours)
    os.chown(link, 54321, 54321, follow_symlinks=False)
    if whose == "spool":
        with pytest.raises(SpoolError, match=r"a symbolic link that another user \(uid 54321\) has made"):
            Spool(link, MIN_SPOOL_BYTES)
    else:
        with pytest.raises(OSError, match=r"a symbolic link that another user \(uid 54321\) has made"):
            make_directory(link, private=True)
    assert mode(ours) == 0o755
    assert not list(ours.iterdir())


def test_the_administrators_link_to_another_disk_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "spool").symlink_to(tmp_path / "disk")
    with Spool(tmp_path / "spool", MIN_SPOOL_BYTES):
        assert mode(tmp_path / "disk") == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root may make what is another user's")
def test_a_private_directory_of_another_user_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".archiver").mkdir()
    os.chown(tmp_path / ".archiver", 54321, 54321)
    initialize(Location(tmp_path), None)
    assert "belongs to another user (uid 54321), who can prevent this program's start" in caplog.text


def test_a_link_in_place_of_the_spools_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpoolError, match="can't be used"):
        Spool(tmp_path / "spool", MIN_SPOOL_BYTES)
    assert not (tmp_path / "elsewhere").exists()


def test_a_spool_without_locks_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(SpoolError, match=r"no locks \(flock: No locks available\); choose a dir.* on a local disk"):
        Spool(tmp_path / "spool", MIN_SPOOL_BYTES)


def test_fsync_is_used_where_fdatasync_is_not_supported(
    tmp_path: Path, synced: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fdatasync", refused)
    with (tmp_path / "file").open("wb") as file:
        sync_data(file.fileno())
    assert synced == [tmp_path / "file"]


@pytest.mark.parametrize(("failed", "is_raised"), [(errno.EINVAL, False), (errno.ENOSYS, False), (errno.EIO, True)])
def test_a_directory_that_does_not_support_syncs_is_accepted_but_a_disk_error_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed: int, is_raised: bool
) -> None:
    def refused(_: int) -> None:
        raise OSError(failed, os.strerror(failed))

    monkeypatch.setattr(os, "fsync", refused)
    if is_raised:
        with pytest.raises(OSError, match="error"):
            sync_directory(tmp_path)
    else:
        assert not sync_directory(tmp_path)
