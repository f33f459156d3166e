"""An archiver that reads a large file, for its SHA-256, when it is stopped: it ends all the same."""

import os
import signal
from pathlib import Path

import pytest
from archives import Source, assert_same_tree, left_behind
from processes import Program, Recorder, eventually

LARGE = 1 << 40
"""Bytes, of which the disk has none: 20 minutes at 1 GB/s."""
PATIENCE = 30.0
"""Seconds; those who stop an archiver wait for 60 or 90."""


def reads(archiver: Program, path: Path) -> bool:
    """Whether it has the file open."""
    opened = []
    for link in Path(f"/proc/{archiver.pid}/fd").iterdir():
        try:
            opened.append(os.readlink(link))  # noqa: PTH115 - a socket's is no path
        except FileNotFoundError:
            continue
    return str(path) in opened


@pytest.mark.parametrize("has", ["no line in SHA256SUMS", "the name of the file"])
def test_it_ends_and_the_next_one_finishes_its_file(recorder: Recorder, has: str) -> None:
    recorder.create_topic()
    source = Source(recorder.servers, recorder.stream)
    undisturbed, archiver = recorder.archiver(archive="undisturbed"), recorder.archiver()
    source.start()
    source.scans(10)
    path = archiver.await_line(r"opened (\S+)")[1]
    foreign = recorder.data() / (path if has == "the name of the file" else path.replace("_000", "_000-copy"))
    foreign.parent.mkdir(parents=True)
    with foreign.open("wb") as file:
        file.truncate(LARGE)
    source.end()
    eventually(lambda: reads(archiver, foreign), "it reads the foreign file")
    archiver.send(signal.SIGTERM)
    assert archiver.exit_code(PATIENCE) == 0
    foreign.unlink()
    archiver = recorder.archiver()
    archiver.await_line(rf"finished {path} \(end\)")
    undisturbed.await_line(rf"finished {path} \(end\)")
    assert_same_tree(recorder.tree(), recorder.tree("undisturbed"))
    assert left_behind(recorder, "archive") == []
