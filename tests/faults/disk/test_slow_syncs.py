"""A data disk whose syncs take seconds: each stream waits for its own, and none for another's."""

import time
from pathlib import Path

import pytest

from tests.support.archives import Source, all_committed, assert_same_tree
from tests.support.injection.shims import compiled
from tests.support.processes import Recorder, eventually

STREAMS = 8
SYNC_SECONDS = 3.0
SERIAL_SECONDS = STREAMS * SYNC_SECONDS
"""What one sync of each stream takes, one after another; at once, it is an eighth."""


@pytest.mark.timeout(300)
def test_streams_are_committed_and_stopped_in_the_time_of_their_own_syncs(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [Source(recorder.servers, f"{recorder.stream}-{number}") for number in range(STREAMS)]
    streams = [word for source in sources for word in ("--stream", source.stream)]
    for source in sources:
        recorder.create_topic(source.stream)
        source.start()
        source.scans(20)
    undisturbed = recorder.archiver(*streams, archive="undisturbed")
    eventually(lambda: all_committed(recorder, sources, "undisturbed"), "committed in peace")

    monkeypatch.setenv("LD_PRELOAD", compiled("slow_syncs", tmp_path))
    monkeypatch.setenv("SLOW_MS", str(round(1000 * SYNC_SECONDS)))
    archiver = recorder.archiver(*streams)
    archiver.await_line("opened", 5 * SERIAL_SECONDS, count=STREAMS)  # its start tries the file system, with syncs
    begun = time.monotonic()
    eventually(lambda: all_committed(recorder, sources), "all committed", 2 * SERIAL_SECONDS)
    assert time.monotonic() - begun < SERIAL_SECONDS, "with a sync of the directory, 6 s"

    for source in sources:
        source.scans(20)
    begun = time.monotonic()
    assert archiver.stop() == 0
    assert time.monotonic() - begun < SERIAL_SECONDS, "twice a sync, 6 s"
    archiver.await_line("stopped; everything recorded is durable and committed")

    monkeypatch.delenv("LD_PRELOAD")
    archiver = recorder.archiver(*streams)
    for source in sources:
        source.end()
    for program in (archiver, undisturbed):
        program.await_line(r"finished .* \(end\)", count=STREAMS)
    assert_same_tree(recorder.tree(), recorder.tree("undisturbed"))
