"""`archiver --suprsync-db`: every finished file is registered, once and in order, whatever happens to whom."""

import hashlib
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.child_process import free_port
from tests.support.archives import FileEvents, Source, quick_session
from tests.support.processes import Program, Recorder, eventually, get

pytest.importorskip("socs", reason="the package socs isn't installed: pip install '.[socs]'")

from tests.socs.transfer import locked, rows  # after the skip

KILLED = str(Path(__file__).with_name("killed_after_registering.py"))
DAY_MS = 86_400_000


class Site:
    """A stream and its archive, whose files are registered in `db`."""

    def __init__(self, recorder: Recorder, directory: Path) -> None:
        self.recorder = recorder
        self.db = directory / "suprsync.db"
        self.flags = ("--suprsync-db", str(self.db), *quick_session(directory))
        recorder.create_topic()
        self.source = Source(recorder.servers, recorder.stream, epochs=0)
        self.group = f"{recorder.stream}.archive"

    def archiver(self, *arguments: str) -> Program:
        """Start one that registers."""
        return self.recorder.archiver(*self.flags, *arguments)

    def record(self, count: int = 1) -> None:
        """An acquisition each."""
        for _ in range(count):
            self.source.now += 1000
            self.source.start()
            self.source.scans(3)
            self.source.end()

    @property
    def paths(self) -> list[str]:
        """What is registered, in order."""
        return [str(row.local_path) for row in rows(self.db)]

    def await_registered(self, count: int) -> None:
        """That many are, each once, in the order of their recording."""
        eventually(lambda: len(self.paths) >= count, f"{count} files are registered")
        files = self.recorder.files()
        assert self.paths == [str(file) for file in files]
        assert [row.local_md5sum for row in rows(self.db)] == [_md5(file) for file in files]


@pytest.fixture
def site(recorder: Recorder, tmp_path: Path) -> Site:
    return Site(recorder, tmp_path)


def _md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def _metric(port: int, name: str) -> float | None:
    lines = [line for line in get(port, "/metrics")[1].splitlines() if line.startswith(f"g3_archiver_{name}")]
    return float(lines[0].rpartition(" ")[2]) if lines else None


def test_files_are_registered_with_the_md5_of_their_events_and_said_to_be_final(site: Site) -> None:
    port = free_port()
    site.source.now -= 3_600_000
    before = time.time()
    archiver = site.archiver("--http", str(port))
    archiver.await_line(f"recording {site.recorder.stream}$")
    events = FileEvents(site.recorder.servers)
    site.source.restart()
    site.record(3)
    ended = site.source.now / 1000
    site.await_registered(3)
    published = [event for _, event in events.of(site.group)]
    assert [event["md5"] for event in published] == [row.local_md5sum for row in rows(site.db)]
    assert all(row.archive_name == "timestreams" and row.timestamp >= before for row in rows(site.db))
    data = site.recorder.data()
    assert [data / row.remote_path for row in rows(site.db)] == site.recorder.files()
    # The sender is connected: what came after its END may be on its way.
    eventually(lambda: _metric(port, "finalized_until") == ended - 10, "up to the END, less the margin")
    site.source.lost()
    eventually(lambda: (_metric(port, "finalized_until") or 0) >= before - 10, "it goes with the clock")
    key, event = _finalized(site, events)
    assert key == f"finalized:{site.group}"
    assert (event["v"], event["group"]) == (1, site.group)
    assert _metric(port, 'suprsync_files_total{outcome="registered"}') == 3
    events.close()


def test_what_was_recorded_before_is_registered_too_and_what_is_gone_is_not(site: Site) -> None:
    without = site.recorder.archiver()
    site.record(3)
    without.await_line(r"finished .* \(end\)", count=3)
    assert without.stop() == 0
    first, *others = site.recorder.files()
    first.unlink()
    archiver = site.archiver()
    archiver.await_line(f"{first.name} doesn't exist any more: not registered")
    site.record()
    eventually(lambda: len(site.paths) == 3, "the others are registered")
    assert site.paths == [str(file) for file in site.recorder.files()]
    assert site.paths[:2] == [str(file) for file in others]
    assert [row.local_md5sum for row in rows(site.db)] == [_md5(file) for file in site.recorder.files()]


def test_a_locked_database_holds_up_no_recording_and_is_seen(site: Site) -> None:
    port = free_port()
    archiver = site.archiver("--http", str(port))
    site.record()
    site.await_registered(1)
    with locked(site.db):
        site.record(2)
        archiver.await_line(r"finished .* \(end\)", count=3)
        eventually(lambda: "database is locked" in get(port, "/healthz")[1], "that is a warning")
        assert get(port, "/healthz")[0] == 200, "it is none of the recording's troubles"
        eventually(lambda: _metric(port, "sink_backlog_events") == 2, "two wait")
        held = _metric(port, "finalized_until")
        assert held is None or held < site.source.now / 1000
        assert len(site.paths) == 1
    site.await_registered(3)
    eventually(lambda: _metric(port, "sink_backlog_events") == 0, "none waits")


@pytest.mark.parametrize("nth", [1, 2])
def test_a_kill_between_a_row_and_the_commit_makes_no_second_row(site: Site, nth: int) -> None:
    data = ["--data-dir", str(site.recorder.data()), "--group", site.group, "--stream", site.recorder.stream]
    killed = site.recorder.start(KILLED, str(nth), "--", *data, *site.flags)
    site.record(3)
    assert killed.exit_code() == -signal.SIGKILL
    assert len(site.paths) == nth
    site.archiver()
    site.await_registered(3)
    assert len(set(site.paths)) == 3


def test_a_stop_and_a_start_go_on_where_it_was(site: Site) -> None:
    archiver = site.archiver()
    site.record(2)
    site.await_registered(2)
    assert archiver.stop() == 0
    site.record(2)
    again = site.archiver()
    site.await_registered(4)
    site.record()
    site.await_registered(5)
    assert again.log.count("registered /") == 3


def test_of_two_archivers_one_registers_for_both_and_the_other_takes_over(site: Site) -> None:
    """What one of them has open holds back what the other says."""
    recorder = site.recorder
    other = f"{recorder.stream}-b"
    recorder.create_topic(other)
    second = Source(recorder.servers, other, epochs=0)
    port, other_port = free_port(), free_port()
    first = site.archiver("--http", str(port), "--instance-id", "one")
    first.await_line("hands over the events")
    data = ["--data-dir", str(recorder.data()), "--group", site.group]
    recorder.start(
        *("archiver", *data, "--stream", other, *site.flags),
        *("--http", str(other_port), "--instance-id", "two", "--gap", "60"),
    ).await_line(f"recording {other}$")
    second.now = site.source.now = site.source.now - 3_600_000
    opened = second.now / 1000
    second.start()
    second.scans(3)
    site.source.now += 60_000
    site.record()
    site.source.lost()
    site.await_registered(1)
    eventually(lambda: _metric(port, "finalized_until") == opened - 10, "the other's open file holds it back")
    assert _metric(other_port, "finalized_until") is None, "one of them says it"
    first.kill()
    second.end()
    second.lost()
    eventually(lambda: len(site.paths) == 2, "the other has taken over")
    eventually(lambda: (_metric(other_port, "finalized_until") or 0) > time.time() - 600, "and says it now")
    assert sorted(site.paths) == sorted(map(str, recorder.files()))


def test_a_timecode_that_is_over_is_said_to_be_complete_once_its_acquisition_is(site: Site) -> None:
    site.source.now -= 3 * DAY_MS
    site.source.restart()
    timecode = site.source.now // 1000 // 100_000
    archiver = site.archiver("--instance-id", "archiver-1")
    site.record()
    site.source.start()
    site.source.scans(3)
    archiver.await_line("opened", count=2)
    site.await_registered(1)
    # While a file is open there, nothing is said.
    assert _finalized_files(site) == []
    site.source.lost()
    eventually(lambda: _finalized_files(site) != [], "its file is written")
    [path] = _finalized_files(site)
    day, suprsync, instance, name = path.relative_to(site.recorder.data()).parts
    assert (suprsync, instance) == ("suprsync", "archiver-1")
    assert name.endswith(f"_timestreams_{timecode}_finalized.yaml")
    said = yaml.safe_load(path.read_text())
    assert (int(day), int(name.split("_")[0])) == (int(said["finalized_at"] // 1e5), int(said["finalized_at"]))
    assert (said["timecode"], said["num_files"], said["subdirs"]) == (timecode, 2, [site.recorder.stream])
    assert (said["archive_name"], said["instance_id"]) == ("timestreams", "archiver-1")
    assert said["finalized_until"] >= (timecode + 1) * 100_000
    assert archiver.stop() == 0
    # What comes late is registered all the same, and that it is late is said; the timecode isn't finalized again.
    late = site.archiver("--instance-id", "archiver-1")
    site.source.restart()
    site.record()
    late.await_line("was finished after its timecode was finalized")
    site.source.lost()
    assert len(site.paths) == 3
    assert _finalized_files(site) == [path]


def _finalized_files(site: Site) -> list[Path]:
    return sorted(site.recorder.data().glob("*/suprsync/*/*.yaml"))


def _finalized(site: Site, events: FileEvents) -> tuple[str, dict[str, Any]]:
    found: list[tuple[str, dict[str, Any]]] = []

    def is_there() -> bool:
        found[:] = events.with_key(f"finalized:{site.group}")
        return bool(found)

    eventually(is_there, "that it is final is on g3.files")
    return found[-1]
