"""A disk that stops answering during recording: /healthz reports it at once, and answers whatever hangs."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from g3stream.contract.headers import Kind
from testbed.child_process import free_port
from tests.support.archives import Source, all_committed, assert_same_tree
from tests.support.health import await_health, await_healthy
from tests.support.injection.shims import compiled
from tests.support.processes import SECONDS, RawSender, Recorder, eventually, flow, get, scan

Hang = Callable[[str, str], "Disk"]


class Disk:
    """A disk that can be made to hang."""

    def __init__(self, switch: Path) -> None:
        self._switch = switch

    @contextmanager
    def dead(self) -> Iterator[None]:
        """Make its calls hang within the `with` block."""
        self._switch.touch()
        try:
            yield
        finally:
            self._switch.unlink()


@pytest.fixture
def disk_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hang:
    """Return a disk, for paths that contain `part`, of which these calls may hang in programs started from now on."""

    def preload(part: str, calls: str) -> Disk:
        switch = tmp_path / "hang"
        monkeypatch.setenv("LD_PRELOAD", compiled("hang", tmp_path))
        monkeypatch.setenv("HANG_FILE", str(switch))
        monkeypatch.setenv("HANG_PATH", part)
        monkeypatch.setenv("HANG_CALLS", calls)
        return Disk(switch)

    return preload


@pytest.mark.parametrize("call", ["write", "sync"])
def test_the_spools_disk_hangs(recorder: Recorder, disk_of: Hang, call: str) -> None:
    disk, port = disk_of("/spool/", f"{call},statvfs"), free_port()
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port, "--http", str(port))
        ingest.await_line("health at")
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(0))
            await_healthy(port)
            assert "g3_ingest_spool_disk_free_bytes" in get(port, "/metrics")[1]
            with disk.dead():
                connection.sendall(scan(1))
                await_health(port, "the spool's disk doesn't answer", f"a {call} ", " has taken 1")
                status, text = get(port, "/metrics")
                assert status == 200
                assert "g3_ingest_spool_disk_free_bytes" not in text, "it can't be measured now"
            await_healthy(port)
            connection.sendall(scan(2))
            eventually(lambda: len(recorder.records()) >= 6, "all of it in Kafka")
            assert ingest.stop() == 0
    recorded = [value for headers, _, value in recorder.records() if headers.kind is Kind.FRAME]
    assert recorded == [scan(number) for number in range(3)]


@pytest.mark.parametrize("call", ["write", "sync"])
def test_the_data_disk_hangs(recorder: Recorder, disk_of: Hang, call: str) -> None:
    recorder.create_topic()
    source, port = Source(recorder.servers, recorder.stream), free_port()
    undisturbed = recorder.archiver(archive="undisturbed")
    disk = disk_of(f"/archive/.archiver/{recorder.stream}/", f"{call},statvfs")
    archiver = recorder.archiver("--http", str(port))
    source.start()
    source.scans(20)
    eventually(lambda: all_committed(recorder, [source]), "all committed")
    await_healthy(port)
    with disk.dead():
        source.scans(20)
        await_health(port, "the data disk doesn't answer", f"a {call} ", " has taken 1", recorder.stream)
        assert get(port, "/metrics")[0] == 200
    await_healthy(port)
    source.end()
    for program in (undisturbed, archiver):
        program.await_line(r"finished .* \(end\)")
    assert_same_tree(recorder.tree(), recorder.tree("undisturbed"))
    assert archiver.stop() == 0


FINISHING = {
    "making durable": "/archive/.archiver/{stream}/",
    "publishing": "/{stream}/20",
    "adding to SHA256SUMS": "/SHA256SUMS",
}
"""The step of finishing that syncs such a path."""


@pytest.mark.slow
@pytest.mark.parametrize("step", FINISHING)
def test_the_data_disk_hangs_while_a_file_is_finished(recorder: Recorder, disk_of: Hang, step: str) -> None:
    recorder.create_topic()
    source, port = Source(recorder.servers, recorder.stream), free_port()
    undisturbed = recorder.archiver(archive="undisturbed")
    disk = disk_of(FINISHING[step].format(stream=recorder.stream), "sync")
    archiver = recorder.archiver("--http", str(port))
    source.start()
    source.scans(20)
    eventually(lambda: all_committed(recorder, [source]), "all committed")
    with disk.dead():
        source.end()
        reason = f"the data disk doesn't answer: finishing a file ({step}) has taken "
        await_health(port, reason, recorder.stream, seconds=2 * SECONDS)
    await_healthy(port)
    for program in (undisturbed, archiver):
        program.await_line(r"finished .* \(end\)")
    assert_same_tree(recorder.tree(), recorder.tree("undisturbed"))
    assert archiver.stop() == 0


def test_the_data_disk_hangs_at_the_start(recorder: Recorder, disk_of: Hang) -> None:
    recorder.create_topic()
    source, port = Source(recorder.servers, recorder.stream), free_port()
    disk = disk_of("/archive/.archiver/", "sync")
    with disk.dead():
        archiver = recorder.archiver("--http", str(port))
        archiver.await_line("health at")
        await_health(port, "the data disk doesn't answer: the check of its file system has taken 1")
    source.start()
    source.scans(20)
    eventually(lambda: all_committed(recorder, [source]), "all committed")
    await_healthy(port)
    assert archiver.stop() == 0


def test_the_spools_disk_hangs_at_the_start_and_a_stop_waits_for_no_disk(recorder: Recorder, disk_of: Hang) -> None:
    disk, port = disk_of("/spool/", "sync,write"), free_port()
    with disk.dead(), RawSender() as sender:
        ingest = recorder.ingest(sender.port, "--http", str(port))
        ingest.await_line("ERROR +the spool's disk doesn't answer: opening the spool of .* has taken 1")
        await_health(port, "the spool's disk doesn't answer: opening the spool", " has taken 1")
        assert ingest.stop() == 0
        ingest.await_line("stopped before opening the spool")
        file = recorder.directory / "streams.toml"
        file.write_text(f'[[stream]]\nname = "{recorder.stream}"\nport = {sender.port}\n')
        spool = ("--spool-dir", str(recorder.directory / "spool"), "--http", str(port))
        several = recorder.start("ingest", "--streams", str(file), *spool)
        several.await_line("the spool's disk doesn't answer: opening the spool")
        await_health(port, "the spool's disk doesn't answer: opening the spool", " has taken 1")
        assert several.stop() == 0
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port)
        sender.accept().close()
        assert ingest.stop() == 0


def test_an_archiver_whose_disk_hangs_at_the_start_can_be_stopped(recorder: Recorder, disk_of: Hang) -> None:
    with disk_of("/.archiver", "sync").dead():
        archiver = recorder.archiver()
        archiver.await_line("ERROR +the data disk doesn't answer: the check of its file system has taken 1")
        assert archiver.stop() == 0
    archiver = recorder.archiver()
    archiver.await_line("recording to")
    assert archiver.stop() == 0


def test_a_sync_that_hangs_delays_only_its_own_stream(recorder: Recorder, disk_of: Hang) -> None:
    hangs, other = sources = [Source(recorder.servers, f"{recorder.stream}-{name}") for name in ("a", "b")]
    for source in sources:
        recorder.create_topic(source.stream)
        source.start()
    flags = [word for source in sources for word in ("--stream", source.stream)]
    undisturbed, port = recorder.archiver(*flags, archive="undisturbed"), free_port()
    disk = disk_of(f"/archive/.archiver/{hangs.stream}/", "sync")
    archiver = recorder.archiver(*flags, "--http", str(port))
    eventually(lambda: all_committed(recorder, sources), "all committed")
    with disk.dead():
        hangs.scans(20)
        for _ in range(3):
            other.scans(20)
            eventually(lambda: all_committed(recorder, [other]), "the other one's committed")
        assert not all_committed(recorder, [hangs])
        other.end()
        archiver.await_line(rf"{other.stream}: finished .* \(end\)")
        line = await_health(port, "the data disk doesn't answer: a sync has taken 1", hangs.stream)
        assert other.stream not in line
    hangs.end()
    for program in (undisturbed, archiver):
        program.await_line(rf"{hangs.stream}: finished .* \(end\)")
    await_healthy(port)
    assert_same_tree(recorder.tree(), recorder.tree("undisturbed"))
    assert archiver.stop() == 0


def test_an_archiver_whose_disk_hangs_reports_that_when_stopped_and_commits_all_else(
    recorder: Recorder, disk_of: Hang
) -> None:
    hangs, other = sources = [Source(recorder.servers, f"{recorder.stream}-{name}") for name in ("a", "b")]
    for source in sources:
        recorder.create_topic(source.stream)
        source.start()
    flags = [word for source in sources for word in ("--stream", source.stream)]
    disk = disk_of(f"/archive/.archiver/{hangs.stream}/", "sync")
    archiver = recorder.archiver(*flags)
    eventually(lambda: all_committed(recorder, sources), "all committed")
    with disk.dead():
        for source in sources:
            source.scans(20)
        eventually(lambda: all_committed(recorder, [other]), "the other one's committed")
        archiver.send(signal.SIGTERM)
        archiver.await_line(f"{hangs.stream}: its disk hasn't synced its file for .* kill -9 is safe")
        assert not all_committed(recorder, [hangs])
    assert archiver.exit_code() == 0
    undisturbed, archiver = recorder.archiver(*flags, archive="undisturbed"), recorder.archiver(*flags)
    for source in sources:
        source.end()
    for program in (undisturbed, archiver):
        program.await_line(r"finished .* \(end\)", count=2)
    assert_same_tree(recorder.tree(), recorder.tree("undisturbed"))
