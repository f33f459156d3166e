"""The agent registers its files with socs' SupRsync agent, and says up to when they are final as that does."""

import os
import shutil
import time
from pathlib import Path

import pytest

from testbed.debian_packages import FetchError, unpack_package
from testbed.smurf.simulator import Simulator
from tests.ocs.agents import Observatory, data
from tests.support.processes import eventually

pytest.importorskip("socs", reason="the package socs isn't installed: pip install '.[socs]'")

from socs.db.suprsync import SupRsyncFilesManager  # after the skip

from tests.socs.transfer import rows


def test_files_are_registered_and_finalized_until_is_in_the_feed_as_suprsync_has_it(observatory: Observatory) -> None:
    db = observatory.directory / "suprsync.db"
    begun = time.time()
    with Simulator(stream_id=observatory.stream, alive=True) as simulator:
        observatory.recorder(simulator.port, "--suprsync-db", str(db))
        with observatory.listening("recorder") as feeds:
            client = observatory.client("recorder")
            simulator.command("wait")
            simulator.command("start")
            simulator.command("frames 20 --rate 100")
            simulator.command("end")
            eventually(lambda: len(rows(db)) == 1, "its file is registered")
            [row] = rows(db)
            assert [row.local_path] == [str(file) for file in observatory.files()]
            message = feeds.await_message("archive_stats", lambda m: m["timestreams"]["data"]["num_files"] == [1])
    stats = message["timestreams"]["data"]
    # The same names as in SupRsync's own feed, for readers of the HK archive.
    assert set(stats) <= set(SupRsyncFilesManager(str(db)).get_archive_stats("timestreams"))
    [until] = stats["finalized_until"]
    assert begun - 3600 < until < time.time()
    assert stats["last_file_added"] == [row.local_path]
    shown = data(client.record)
    assert shown["warnings"] == []
    assert (shown["suprsync"]["num_files"], shown["suprsync"]["last_file_added"]) == (1, row.local_path)


@pytest.fixture
def rsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That a program `rsync` is on PATH."""
    if shutil.which("rsync"):
        return
    try:
        home = unpack_package("rsync", "rsync", "libpopt0", "libxxhash0", "liblz4-1", "libzstd1", "libacl1")
    except FetchError as why:
        pytest.skip(f"no rsync: {why}")
    libraries = ":".join(str(path) for path in home.rglob("*-linux-gnu*") if path.is_dir())
    script = tmp_path / "bin" / "rsync"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {home}/usr/bin/rsync "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")


@pytest.mark.usefixtures("rsync")
def test_their_agent_copies_what_ours_registers_proves_it_by_its_md5_and_deletes_it(observatory: Observatory) -> None:
    db, remote = observatory.directory / "suprsync.db", observatory.directory / "remote"
    remote.mkdir()
    observatory.block(
        {
            "agent-class": "SupRsync",
            "instance-id": "timestream-sync",
            "arguments": [
                ["--archive-name", "timestreams"],
                ["--db-path", str(db)],
                ["--remote-basedir", str(remote)],
                ["--suprsync-file-root", str(observatory.directory / "finalized")],
                ["--sleep-time", "0.2"],
                ["--delete-local-after", "5"],
            ],
        }
    )
    with Simulator(stream_id=observatory.stream, alive=True) as simulator:
        recorder = observatory.recorder(simulator.port, "--suprsync-db", str(db))
        observatory.agent("timestream-sync")
        simulator.command("wait")
        kept: dict[str, bytes] = {}
        for count in range(1, 4):
            simulator.command("start")
            simulator.command("frames 20 --rate 100")
            simulator.command("end")
            eventually(lambda: len(rows(db)) == count, f"{count} are registered")  # noqa: B023 - called in this turn
            row = rows(db)[-1]
            kept[row.remote_path] = Path(row.local_path).read_bytes()
        eventually(lambda: all(row.remote_md5sum == row.local_md5sum for row in rows(db)), "all are copied")
        eventually(lambda: observatory.files() == [], "it has deleted them here")
        assert {name: (remote / name).read_bytes() for name in kept} == kept
        assert [row.failed_copy_attempts for row in rows(db)] == [0, 0, 0]
        # What is gone by then is no new file to a recorder that is started again.
        assert recorder.stop() == 0
        observatory.agent("recorder")
        simulator.command("wait")
        simulator.command("start")
        simulator.command("frames 20 --rate 100")
        simulator.command("end")
        eventually(lambda: len(rows(db)) > 3, "the next one is registered")
        paths = [row.local_path for row in rows(db)]
        assert len(set(paths)) == len(paths)
