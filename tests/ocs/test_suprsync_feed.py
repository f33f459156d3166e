"""The agent registers its files with socs' SupRsync agent, and says up to when they are final as that does."""

import time

import pytest
from agents import Observatory, data
from processes import eventually

from compose.simulator import Simulator

pytest.importorskip("socs", reason="the package socs isn't installed: pip install 'g3-recorder[socs]'")

from socs.db.suprsync import SupRsyncFilesManager  # after the skip
from transfer import rows


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
    # The same names as in SupRsync's own feed, for whoever reads them from the HK archive.
    assert set(stats) <= set(SupRsyncFilesManager(str(db)).get_archive_stats("timestreams"))
    [until] = stats["finalized_until"]
    assert begun - 3600 < until < time.time()
    assert stats["last_file_added"] == [row.local_path]
    shown = data(client.record)
    assert shown["warnings"] == []
    assert (shown["suprsync"]["num_files"], shown["suprsync"]["last_file_added"]) == (1, row.local_path)
