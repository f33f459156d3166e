"""The location of an archive: its settings are kept, and nothing is written to an empty mount point."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archiver.archive import archive_lock, archive_settings, checksums
from archiver.archive.archive_settings import (
    ArchiveSettings,
    SettingsError,
    choose_settings,
    format_settings,
    initialize,
    parse,
)
from archiver.archive.file_system_check import check_disk
from archiver.archive.location import Checksums, Location, Within

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
PATH = "15463/crate1slot2/2019-01-01-12-00-00_000.g3"


@pytest.fixture
def location(tmp_path: Path) -> Location:
    """A new one, with its private directory elsewhere."""
    return initialize(Location(tmp_path / "data", tmp_path / "private"), Checksums.PRIVATE)


@pytest.fixture
def other_disk() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("settings", [ArchiveSettings(), ArchiveSettings(Checksums.PRIVATE, Checksums.OFF)])
def test_settings_are_read_as_they_were_written(location: Location, settings: ArchiveSettings) -> None:
    assert parse(format_settings(settings)) == settings
    archive_settings.write(location, settings)
    assert archive_settings.read(location) == settings


@pytest.mark.parametrize(
    "text", ["", "checksums=everywhere\n", "checksums=off\nmirror=off\n", "becoming=off\n", "\0"]
)
def test_settings_of_a_later_version_are_not_guessed_at(location: Location, text: str) -> None:
    (location.private_path / "archive.settings").write_text(text)
    with pytest.raises(OSError, match=r"archive\.settings can't be understood"):
        archive_settings.with_settings(location)


def test_a_new_archive_keeps_the_settings_it_was_created_with(tmp_path: Path) -> None:
    location = Location(tmp_path / "data")
    assert initialize(location, Checksums.OFF).checksums is Checksums.OFF
    assert initialize(location, None).checksums is Checksums.OFF
    assert archive_settings.with_settings(location).checksums is Checksums.OFF


def test_an_archive_of_before_has_its_sums_beside(tmp_path: Path) -> None:
    location = Location(tmp_path / "data")
    (location.private_path / "crate1slot2").mkdir(parents=True)
    assert initialize(location, None) == location
    assert initialize(location, Checksums.BESIDE) == location
    assert os.listdir(location.private_path) == ["crate1slot2"]  # noqa: PTH208 - its names
    with pytest.raises(SettingsError, match=r"archiver relocate --data-dir \S+/data --checksums private"):
        initialize(location, Checksums.PRIVATE)


def test_private_checksums_are_found_though_the_settings_were_lost(location: Location) -> None:
    with location.data(str(Path(PATH).parent), make=True):
        checksums.add(location, "crate1slot2", PATH, EMPTY)
    (location.private_path / "archive.settings").unlink()
    lost = Location(location.data_dir, location.private_dir)
    assert archive_settings.with_settings(lost) == location
    assert initialize(lost, None) == location


def test_one_that_has_not_been_moved_yet_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "data" / ".archiver" / "crate1slot2").mkdir(parents=True)
    location = Location(tmp_path / "data", tmp_path / "private")
    for act in (choose_settings, initialize):
        with pytest.raises(SettingsError, match=rf"run: archiver relocate --data-dir \S+ --private-dir {tmp_path}"):
            act(location, None)
    assert not location.private_path.exists()


def test_writers_share_the_lock_and_a_program_that_moves_the_archive_has_it_alone(location: Location) -> None:
    ours = [archive_lock.acquire_shared(location), archive_lock.acquire_shared(location)]
    with pytest.raises(OSError, match="stop that first"):
        archive_lock.acquire_exclusive(location)
    for lock in ours:
        os.close(lock)
    alone = archive_lock.acquire_exclusive(location)
    with pytest.raises(OSError, match="being moved by `archiver relocate`"):
        archive_lock.acquire_shared(location)
    os.close(alone)


def test_a_moved_data_directory_is_taken_another_one_beside_it_is_not(location: Location, tmp_path: Path) -> None:
    os.close(archive_lock.acquire_shared(location))
    location.data_dir.rename(tmp_path / "moved")
    moved = Location(tmp_path / "moved", location.private_dir)
    lock = archive_lock.acquire_shared(moved)
    (tmp_path / "other").mkdir()
    with pytest.raises(OSError, match=f"another archiver records to {tmp_path}/moved now"):
        archive_lock.acquire_shared(Location(tmp_path / "other", location.private_dir))
    os.close(lock)


def test_checksums_are_proved_from_the_data_directory(location: Location) -> None:
    paths = [PATH, PATH.replace("_000", "_001"), PATH.replace("slot2", "slot3")]
    for path in (paths[1], paths[0], paths[2], paths[0]):
        with location.data(str(Path(path).parent), make=True):
            (location.data_dir / path).touch()
        checksums.add(location, "crate1slot2", path, EMPTY)
    files = sorted(str(it) for it in location.private_path.glob("sha256sums.d/*/*.sha256"))
    assert [it.removeprefix(f"{location.private_dir}/") for it in files] == [
        "sha256sums.d/15463/crate1slot2.sha256",
        "sha256sums.d/15463/crate1slot3.sha256",
    ]
    assert Path(files[0]).read_text() == f"{EMPTY}  {paths[0]}\n{EMPTY}  {paths[1]}\n"
    check = [shutil.which("sha256sum") or "sha256sum", "--strict", "--check", *files]
    done = subprocess.run(check, cwd=location.data_dir, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{path}: OK" for path in paths]
    parent = str(Path(PATH).parent)
    assert checksums.lines(location, parent) == {Path(path).name: EMPTY for path in paths[:2]}
    assert checksums.private_parents(location) == {parent, parent.replace("slot2", "slot3")}


def test_a_file_of_the_private_directory_is_named_as_a_shell_needs_it(location: Location) -> None:
    within = Within("crate1slot2", private=True)
    assert location.shown(within, "x") == f"{location.private_dir}/crate1slot2/x"
    assert Location(location.data_dir).shown(within, "x") == ".archiver/crate1slot2/x"


def test_nothing_is_made_below_an_empty_mount_point(location: Location, other_disk: Path) -> None:
    """As after an unmount: the data directory's path is on another file system."""
    unmounted = Location(other_disk, location.private_dir)
    with pytest.raises(OSError, match=r"is on another mount than .*: is its disk mounted"):
        unmounted.data("15463/crate1slot2", make=True)
    (location.private_path / "archive.settings").unlink()
    with pytest.raises(OSError, match=r"no archive\.settings in it: is its disk mounted"):
        location.private("crate1slot2", make=True)
    assert list(other_disk.iterdir()) == []


def test_a_private_directory_on_another_file_system_is_refused(location: Location, other_disk: Path) -> None:
    with pytest.raises(OSError, match=f"the private directory {location.private_dir} is on another mount"):
        check_disk(Location(other_disk, location.private_dir), "check.x")


@pytest.mark.parametrize("nameless", [True, False])
def test_the_check_leaves_nothing(location: Location, monkeypatch: pytest.MonkeyPatch, nameless: bool) -> None:
    if not nameless:
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_WRONLY)  # EISDIR, as where there are no such files
        (location.data_dir / ".check.x").touch()  # of one that was killed
    check_disk(location, "check.x")
    assert list(location.data_dir.iterdir()) == []
    assert [path.name for path in location.private_path.iterdir()] == ["archive.settings"]


def test_a_data_directory_that_takes_no_files_is_refused(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    """As between two quotas of XFS, between which nothing can be moved."""
    link = os.link

    def refused(source: str, target: str, **more: Any) -> None:
        if target == "between":
            raise OSError(18, "Invalid cross-device link")
        link(source, target, **more)

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(OSError, match=f"files can't be moved from {location.private_dir} to {location.data_dir}"):
        check_disk(location, "check.x")


OF_ANOTHER_USER = """
import os, sys
from pathlib import Path
from archiver.verify import tree_scan
from archiver.archive.location import Location
os.setuid(65534)
location = Location(Path(sys.argv[1]), Path(sys.argv[2]))
print(tree_scan.partials(location), tree_scan.unlocked_partials_of(location, "crate1slot2", []))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_for_another_user_there_is_no_private_directory(location: Location) -> None:
    """`verify` continues without it."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        private = shutil.move(location.private_path, Path(place) / "private")
        command = [sys.executable, "-c", OF_ANOTHER_USER, str(location.data_dir), str(private)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "None []\n"
