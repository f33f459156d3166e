"""An archiver that reads a large file for its SHA-256 continues to record, and ends when it is stopped."""

import os
import signal
from pathlib import Path

from tests.support.archives import Source, left_behind
from tests.support.processes import Program, Recorder, eventually

LARGE = 90 * 10**9
"""Bytes, of which the disk has none: a minute and a half at 1 GB/s."""
PATIENCE = 30.0
"""Seconds; systemd and Docker wait for 60 or 90."""


def reads(archiver: Program, path: Path) -> bool:
    """Whether it has the file open."""
    opened = []
    for link in Path(f"/proc/{archiver.pid}/fd").iterdir():
        try:
            opened.append(os.readlink(link))  # noqa: PTH115 - a socket's is no path
        except FileNotFoundError:
            continue
    return str(path) in opened


def test_it_ends_while_it_reads_a_file_that_others_put_beside_its_own(recorder: Recorder) -> None:
    recorder.create_topic()
    source = Source(recorder.servers, recorder.stream)
    archiver = recorder.archiver()
    source.start()
    source.scans(10)
    path = archiver.await_line(r"opened (\S+)")[1]
    foreign = recorder.data() / path.replace("_000", "_000-copy")
    foreign.parent.mkdir(parents=True)
    with foreign.open("wb") as file:
        file.truncate(LARGE)
    os.utime(foreign, (0, 0))
    source.end()
    archiver.await_line(rf"finished {path} \(end\)")
    eventually(lambda: reads(archiver, foreign), "it reads the foreign file")
    source.start()
    source.end()
    archiver.await_line(r"finished .* \(end\)", count=2)
    assert reads(archiver, foreign), "meanwhile the next file was finished"
    archiver.send(signal.SIGTERM)
    assert archiver.exit_code(PATIENCE) == 0
    assert left_behind(recorder, "archive") == []
