"""A data disk whose syncs take seconds: each stream waits for its own, and none for another's."""

import os
from pathlib import Path

import pytest

from tests.support.archives import Source, all_committed, assert_same_tree
from tests.support.injection.shims import compiled
from tests.support.processes import Recorder, eventually

STREAMS = 8
SYNC_SECONDS = 3.0
SERIAL_SECONDS = STREAMS * SYNC_SECONDS
"""The time of one sync of each stream, one after another; at the same time they take an eighth."""


def most_at_once(syncs: Path) -> int:
    """The highest number of syncs at the same time, since the last call."""
    counts = [int(line) for line in syncs.read_text().split()]
    os.truncate(syncs, 0)
    return max(counts)


@pytest.mark.slow
def test_streams_are_made_durable_all_at_once_while_recorded_and_at_a_stop(
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
    monkeypatch.setenv("SYNCS_AT_ONCE", str(syncs := tmp_path / "syncs"))
    monkeypatch.setenv("SLOW_MS", str(round(1000 * SYNC_SECONDS)))
    archiver = recorder.archiver(*streams)
    archiver.await_line("opened", 5 * SERIAL_SECONDS, count=STREAMS)  # its start tries the file system, with syncs
    eventually(lambda: all_committed(recorder, sources), "all committed", 2 * SERIAL_SECONDS)
    assert most_at_once(syncs) > 2  # a busy machine may open the files of some streams a second later

    for source in sources:
        source.scans(20)
    assert archiver.stop() == 0
    assert most_at_once(syncs) > 2
    archiver.await_line("stopped; everything recorded is durable and committed")

    monkeypatch.delenv("LD_PRELOAD")
    archiver = recorder.archiver(*streams)
    for source in sources:
        source.end()
    for program in (archiver, undisturbed):
        program.await_line(r"finished .* \(end\)", count=STREAMS)
    assert_same_tree(recorder.tree(), recorder.tree("undisturbed"))
