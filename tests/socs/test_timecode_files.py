"""A timecode that is complete is said to be, once, in a file as socs' SupRsync agent writes it."""

from pathlib import Path

import pytest
import yaml

pytest.importorskip("socs", reason="the package socs isn't installed: pip install '.[socs]'")

from socs.db.suprsync import SupRsyncFile, SupRsyncFilesManager, TimecodeDir  # after the skip

from archiver.archive.location import Location
from archiver.suprsync.database import SupRsyncDatabase
from archiver.suprsync.finalized_until import FinalizedUntil
from archiver.suprsync.timecode_files import TimecodeFiles

TIMECODE = 17_000
END = (TIMECODE + 1) * 100_000
LATER = FinalizedUntil((END + 40) * 1000, (END + 50) * 1000)
NOW = END + 50.5


class Site:
    """A data directory, and the database of its transfer."""

    def __init__(self, directory: Path) -> None:
        self.data, self.db = directory / "data", directory / "suprsync.db"
        (self.data / ".archiver").mkdir(parents=True)

    def timecode_files(self, archive_name: str = "timestreams") -> TimecodeFiles:
        """As of an agent that was started just now."""
        return TimecodeFiles(Location(self.data), SupRsyncDatabase(self.db, archive_name), "archiver-1")

    def register(self, *remote_paths: str, archive_name: str = "timestreams") -> None:
        """These have rows."""
        for path in remote_paths:
            SupRsyncFilesManager(str(self.db)).add_file(f"/data/{path}", path, archive_name, local_md5sum="0" * 32)

    def written(self) -> list[str]:
        """What there is of such files, below the data directory."""
        return sorted(str(path.relative_to(self.data)) for path in self.data.glob("*/suprsync/*/*"))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.register("17000/b/1_000.g3", "17000/a/1_000.g3", "17000/a/1_001.g3", "17001/a/2_000.g3")
    site.register("17000/other/1.npy", "17002/other/1.npy", archive_name="smurf")
    return site


FILE = f"17001/suprsync/archiver-1/{int(NOW)}_timestreams_17000_finalized.yaml"


def test_a_complete_timecode_gets_its_file_with_the_keys_of_socs(site: Site, tmp_path: Path) -> None:
    assert site.timecode_files().write(LATER, NOW) == [TIMECODE]
    assert site.written() == [FILE]
    said = yaml.safe_load((site.data / FILE).read_text())
    assert said == {
        "timecode": TIMECODE,
        "num_files": 3,
        "subdirs": ["a", "b"],
        "finalized_at": NOW,
        "finalized_until": END + 40.0,
        "archive_name": "timestreams",
        "instance_id": "archiver-1",
    }
    assert set(said) == set(_as_socs_writes_it(tmp_path / "socs"))


def test_it_is_said_once_also_after_a_restart_and_after_clean_up_jobs_have_deleted_the_file(site: Site) -> None:
    files = site.timecode_files()
    files.write(LATER, NOW)
    assert files.is_finalized(TIMECODE)
    assert files.write(LATER, NOW + 10) == []
    assert site.timecode_files().write(LATER, NOW + 10) == []
    assert site.written() == [FILE]
    (site.data / FILE).unlink()
    restarted = site.timecode_files()
    assert restarted.write(LATER, NOW + 10) == []
    assert restarted.is_finalized(TIMECODE)
    assert site.written() == []


def test_a_kill_before_it_was_noted_has_it_written_no_second_time(site: Site) -> None:
    site.timecode_files().write(LATER, NOW)
    (site.data / ".archiver" / "suprsync.finalized").write_text("170")  # as a power cut may leave it
    assert site.timecode_files().write(LATER, NOW + 200_000) == [TIMECODE]
    assert site.written() == [FILE]


def test_nothing_is_said_while_an_acquisition_goes_on_there(site: Site) -> None:
    files = site.timecode_files()
    assert (
        files.write(FinalizedUntil(LATER.time_ms, LATER.asked_ms, "a: its file is open", frozenset([TIMECODE])), NOW)
        == []
    )
    assert site.written() == []
    assert files.write(LATER, NOW) == [TIMECODE]


def test_rows_of_suprsync_itself_are_left_as_they_are(site: Site) -> None:
    """The agent writes one of its own for the other side, once all is copied: ours is for who reads here."""
    manager = SupRsyncFilesManager(str(site.db))
    with manager.Session() as session:
        before = [(t.timecode, t.completed, t.synced, t.finalized) for t in session.query(TimecodeDir)]
        count = session.query(SupRsyncFile).count()
    site.timecode_files().write(LATER, NOW)
    with manager.Session() as session:
        assert [(t.timecode, t.completed, t.synced, t.finalized) for t in session.query(TimecodeDir)] == before
        assert session.query(SupRsyncFile).count() == count


def test_a_later_timecode_of_another_archive_counts_as_with_socs(tmp_path: Path) -> None:
    quiet = Site(tmp_path / "quiet")
    quiet.register("17000/a/1_000.g3")
    assert quiet.timecode_files().write(LATER, NOW) == []
    quiet.register("17001/a/1.npy", archive_name="smurf")
    assert quiet.timecode_files().write(LATER, NOW) == [TIMECODE]


def test_nothing_of_it_is_left_in_the_private_directory(site: Site) -> None:
    site.timecode_files().write(LATER, NOW)
    assert [path.name for path in (site.data / ".archiver").iterdir()] == ["suprsync.finalized"]


def _as_socs_writes_it(directory: Path) -> dict[str, object]:
    """By its own agent's code."""
    manager = SupRsyncFilesManager(str(directory / "suprsync.db"))
    manager.add_file("/data/17000/a/1_000.g3", "17000/a/1_000.g3", "timestreams", local_md5sum="0" * 32)
    with manager.Session.begin() as session:
        (file,) = session.query(SupRsyncFile).all()
        file.remote_md5sum = file.local_md5sum
    manager.update_all_timecode_dirs("timestreams", str(directory), "sync-1")
    (path,) = directory.glob("*/sync-1/*_timestreams_17000_finalized.yaml")
    found: dict[str, object] = yaml.safe_load(path.read_text())
    return found
