"""Finished files are registered in socs' own database: once each, as its agents do it, however it is locked."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.unit.archiver.core.test_catalog import SALVAGED, finished, lost

pytest.importorskip("socs", reason="the package socs isn't installed: pip install '.[socs]'")

from socs.db.suprsync import SupRsyncFilesManager, TimecodeDir  # after the skip

from archiver.archive.location import Location
from archiver.core.events import FileFinished, FileSalvaged, encode
from archiver.handover.sink import PendingEvent, SinkError
from archiver.suprsync.database import DatabaseError, SupRsyncDatabase
from archiver.suprsync.sink import RegistrationOutcome, SupRsyncSink
from tests.socs.transfer import locked, rows

NOW = 1_700_000_000.5


class Site:
    """A data directory with files, and the database of its transfer."""

    def __init__(self, directory: Path) -> None:
        self.data, self.db = directory / "data", directory / "db" / "suprsync.db"
        (self.data / ".archiver").mkdir(parents=True)

    def sink(self, archive_name: str = "timestreams") -> SupRsyncSink:
        """As of an agent that was started just now."""
        return SupRsyncSink(Location(self.data), SupRsyncDatabase(self.db, archive_name), now=lambda: NOW)

    def write(self, event: FileFinished | FileSalvaged, data: bytes) -> FileFinished | FileSalvaged:
        """The file of an event; gives the event with its SHA-256."""
        path = self.data / event.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return replace(event, sha256=hashlib.sha256(data).hexdigest())

    def rows(self) -> list[Any]:
        """All that is registered, in order."""
        return rows(self.db)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def deliver(sink: SupRsyncSink, event: FileFinished | FileSalvaged, abort: threading.Event | None = None) -> None:
    sink.deliver(PendingEvent(event, encode(event), 0, 0), abort or threading.Event())


def md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_a_file_is_registered_as_the_agents_of_socs_do_it(site: Site) -> None:
    event = site.write(finished(0), b"frames")
    deliver(site.sink(), event)
    (row,) = site.rows()
    assert row.local_path == str(site.data / event.path)
    assert row.remote_path == event.path == "/".join((site.data / event.path).parts[-3:])
    assert row.archive_name == "timestreams"
    assert row.local_md5sum == md5_of(b"frames")
    assert (row.timestamp, row.deletable, row.ignore) == (NOW, True, False)
    assert (row.remote_md5sum, row.copied, row.removed, row.failed_copy_attempts) == (None, None, None, 0)
    manager = SupRsyncFilesManager(str(site.db))
    with manager.Session() as session:
        (timecode,) = session.query(TimecodeDir).all()
        assert (timecode.timecode, timecode.archive_name) == (15463, "timestreams")
        (copyable,) = manager.get_copyable_files("timestreams", session=session)
        assert copyable.local_path == row.local_path


def test_salvaged_files_are_registered_and_losses_are_none_of_it(site: Site) -> None:
    sink = site.sink()
    assert not sink.wants(lost(7, 7))
    salvaged = site.write(SALVAGED, b"what was left")
    assert sink.wants(salvaged)
    deliver(sink, salvaged)
    (row,) = site.rows()
    assert (row.remote_path, row.local_md5sum) == (SALVAGED.path, md5_of(b"what was left"))


def test_the_md5_is_that_of_the_event_so_that_a_file_damaged_since_is_not_copied_as_right(site: Site) -> None:
    event = site.write(replace(finished(0), md5=md5_of(b"frames")), b"frames")
    (site.data / event.path).write_bytes(b"fra\0es")
    deliver(site.sink(), event)
    assert [row.local_md5sum for row in site.rows()] == [md5_of(b"frames")]


def test_a_damaged_file_whose_md5_nobody_took_is_not_registered(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    event = site.write(finished(0), b"frames")
    (site.data / event.path).write_bytes(b"fra\0es")
    sink = site.sink()
    deliver(sink, event)
    assert site.rows() == []
    assert sink.registered().counts[RegistrationOutcome.DIFFERENT] == 1
    assert "archiver repair" in caplog.text


def test_an_event_that_comes_again_makes_no_second_row_and_reads_no_file(site: Site) -> None:
    event = site.write(finished(0), b"frames")
    sink = site.sink()
    deliver(sink, event)
    deliver(sink, event)
    (site.data / event.path).unlink()  # as SupRsync does, once it is copied
    restarted = site.sink()
    deliver(restarted, event)
    assert len(site.rows()) == 1
    assert (
        sink.registered().counts[RegistrationOutcome.REGISTERED]
        == sink.registered().counts[RegistrationOutcome.KNOWN]
        == 1
    )
    assert restarted.registered().counts[RegistrationOutcome.KNOWN] == 1
    assert sink.registered().last == str(site.data / event.path)


def test_two_that_register_at_once_make_one_row(site: Site) -> None:
    """Two archivers of one archive: one was frozen, and thaws."""
    event = site.write(finished(0), b"frames")
    sinks = [site.sink() for _ in range(8)]
    barrier = threading.Barrier(len(sinks))

    def register(sink: SupRsyncSink) -> None:
        barrier.wait()
        while True:
            try:
                return deliver(sink, event)
            except SinkError:
                continue

    threads = [threading.Thread(target=register, args=(sink,)) for sink in sinks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site.rows()) == 1


def test_a_locked_database_is_an_error_that_is_seen_and_the_file_is_registered_once_it_is_free(site: Site) -> None:
    first, second = site.write(finished(0), b"one"), site.write(finished(1), b"two")
    sink = site.sink()
    deliver(sink, first)
    with locked(site.db), pytest.raises(SinkError, match=r"suprsync\.db: database is locked"):
        deliver(sink, second)
    assert len(site.rows()) == 1
    deliver(sink, second)
    assert [row.remote_path for row in site.rows()] == [first.path, second.path]


def test_a_file_that_is_gone_is_passed_over_but_not_if_its_disk_is(site: Site) -> None:
    event = finished(0)
    sink = site.sink()
    deliver(sink, event)
    assert site.rows() == []
    assert sink.registered().counts[RegistrationOutcome.GONE] == 1
    (site.data / ".archiver").rmdir()
    with pytest.raises(SinkError, match="is its disk mounted"):
        deliver(sink, event)


def test_a_row_with_another_md5_is_left_and_said(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    event = replace(site.write(finished(0), b"frames"), md5=md5_of(b"frames"))
    manager = SupRsyncFilesManager(str(site.db))
    manager.add_file(str(site.data / event.path), event.path, "timestreams", local_md5sum=md5_of(b"others"))
    sink = site.sink()
    deliver(sink, event)
    assert [row.local_md5sum for row in site.rows()] == [md5_of(b"others")]
    assert sink.registered().counts[RegistrationOutcome.DIFFERENT] == 1
    assert md5_of(b"others") in caplog.text


def test_of_another_database_and_another_archive_the_position_is_another(site: Site, tmp_path: Path) -> None:
    names = {site.sink().name, site.sink("other").name, SupRsyncSink(Location(site.data), _other(tmp_path)).name}
    assert len(names) == 3
    assert site.sink().name == site.sink().name
    assert all(len(name) <= 30 for name in names)


def test_a_stop_does_not_wait_for_the_md5_of_a_large_file(site: Site) -> None:
    event = site.write(finished(0), b"x" * (1 << 20))
    abort = threading.Event()
    abort.set()
    with pytest.raises(SinkError, match="stopped"):
        deliver(site.sink(), event, abort)
    assert site.rows() == []


def test_a_late_file_is_registered_and_said_to_be_late(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    event = site.write(finished(0), b"frames")
    database = SupRsyncDatabase(site.db, "timestreams")
    deliver(SupRsyncSink(Location(site.data), database, is_finalized=lambda timecode: timecode == 15463), event)
    assert len(site.rows()) == 1
    assert "after its timecode was finalized" in caplog.text


@pytest.mark.parametrize("shared", [True, False], ids=["one object", "two objects"])
def test_two_that_use_a_new_database_at_once_create_it_once(tmp_path: Path, shared: bool) -> None:
    """The registering thread and the one that writes the timecode files; SupRsync's agent beside them."""
    for turn in range(20):
        path = tmp_path / str(turn) / "suprsync.db"
        one = SupRsyncDatabase(path, "timestreams")
        other = one if shared else SupRsyncDatabase(path, "timestreams")
        both_are_ready = threading.Barrier(2)

        def use(database: SupRsyncDatabase, ready: threading.Barrier = both_are_ready) -> int:
            ready.wait()
            while True:
                try:
                    return database.count()
                except DatabaseError as error:
                    if "locked" not in str(error):  # SQLite waits for no lock while it changes the journal's mode
                        raise

        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(use, (one, other))) == [0, 0]


def _other(directory: Path) -> SupRsyncDatabase:
    return SupRsyncDatabase(directory / "other.db", "timestreams")
