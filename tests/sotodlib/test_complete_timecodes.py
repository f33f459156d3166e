"""A timecode that our agent says is complete is found so by sotodlib, in the archive itself: without a transfer."""

import pytest

from tests.sotodlib.analysis import ARCHIVE, Analysis
from tests.support.archives import Source
from tests.support.processes import Recorder, eventually

pytest.importorskip("socs", reason="the package socs isn't installed: pip install '.[socs]'")

from tests.socs.transfer import rows  # after the skip

DAY_MS = 86_400_000


def test_index_timecodes_finds_what_the_agent_says(recorder: Recorder, analysis: Analysis) -> None:
    recorder.create_topic()
    source = Source(recorder.servers, recorder.stream, epochs=0)
    source.now -= 4 * DAY_MS
    source.restart()
    timecode = source.now // 100_000_000
    db = recorder.directory / "suprsync.db"
    clean = "--private-dir", str(recorder.directory / "private"), "--checksums", "private"
    names = "--name-format", "session", "--instance-id", "archiver-1"
    recorder.archiver("--suprsync-db", str(db), *clean, *names, archive=ARCHIVE)
    source.start()
    source.scans(3)
    source.lost()
    eventually(lambda: len(rows(db)) == 1, "its file is registered")

    def is_said() -> bool:
        return any((recorder.data(ARCHIVE)).glob("*/suprsync/archiver-1/*.yaml"))

    eventually(is_said, "its timecode is complete")
    assert analysis.timecodes(recorder.directory) == [[recorder.stream, timecode, "archiver-1"]]
