"""The files in a data directory, a private directory and a spool: their names and the content of small text files.

data/on-disk.txt has them, as they are after a stop with a file open; new ones are added there by hand. What differs
from run to run is written there in capital letters.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from g3stream.host.environment import host_name
from tests.support.archives import Source
from tests.support.processes import RawSender, Recorder, bytes_in, eventually, scan

DATA = Path(__file__).with_name("data") / "on-disk.txt"
MAX_BYTES = 1000
"""The content of smaller files is shown."""
NOON_MS = 1_546_344_000_000
"""2019-01-01 12:00:00 UTC."""
RANDOM = {
    r"\b[0-9a-f]{64}\b": "SHA256",
    r"\b[0-9a-f]{16}\b": "16_HEX_DIGITS",
    r"\.[0-9a-f]{8}\b": ".8_HEX_DIGITS",
    r"\b[0-9]{20}\b": "20_DIGITS",
    r'"(offset|time_ms)":[0-9]+': r'"\1":NUMBER',
}


class Shown:
    """A listing of files without what is specific to this run or machine. words: replacements."""

    def __init__(self, words: dict[str, str]) -> None:
        self._words = words

    def tree(self, root: Path) -> list[str]:
        """Return a sorted line for each file: path, whether only its user may read it, content of a small text."""
        return sorted(self._line(root, path) for path in root.rglob("*") if path.is_file())

    def _line(self, root: Path, path: Path) -> str:
        data = path.read_bytes()
        is_text = data and data.isascii() and b"\0" not in data and len(data) < MAX_BYTES
        private = "" if path.stat().st_mode & 0o077 else "  (its user's only)"
        content = f"  {_without_comments(data.decode())!r}" if is_text else ""
        return self._text(f"{path.relative_to(root)}{private}{content}")

    def _text(self, text: str) -> str:
        for found, shown in self._words.items():
            text = text.replace(found, shown)
        for pattern, shown in RANDOM.items():
            text = re.sub(pattern, shown, text)
        return text


def _without_comments(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


@pytest.fixture
def usual_umask() -> Iterator[None]:
    """The umask with which others may read files, unless these are private."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("usual_umask")
def test_on_disk(recorder: Recorder, tmp_path: Path) -> None:
    recorder.create_topic(config={"retention.ms": "-1"})  # the records are from 2019
    source = Source(recorder.servers, recorder.stream, epochs=0)
    source.now = NOON_MS
    date, ctime, private = recorder.data("date"), recorder.data("ctime"), tmp_path / "private"
    elsewhere = ("--private-dir", str(private), "--checksums", "private")
    archivers = [
        recorder.archiver("--on-file", "/bin/true", archive="date"),
        recorder.archiver("--name-format", "ctime", *elsewhere, archive="ctime"),
    ]
    source.start()
    source.scans(3)
    source.end()
    source.start()
    source.scans(3)
    for archiver in archivers:
        archiver.await_line(r"opened .*_001")
    eventually((date / ".archiver" / "on-file.position").exists, "the event handed over")
    for archiver in archivers:
        assert archiver.stop() == 0
    [finished] = recorder.files("date")
    finished.write_bytes(b"\0broken")
    assert recorder.command("repair", archive="date").returncode == 0
    assert recorder.command("replay", archive="date", into=recorder.data("rebuilt")).returncode == 0
    with RawSender() as sender:
        # Without Kafka, so that the records stay in the spool.
        ingest = recorder.ingest(sender.port, "--bootstrap-servers", "127.0.0.1:1")
        spool = tmp_path / "spool"
        with sender.accept() as connection:
            connection.sendall(scan(0, 100_000))
            eventually(lambda: bytes_in(spool) > 100_000, "the frame in the spool")
            assert ingest.stop() == 0

    host = re.sub(r"[^A-Za-z0-9._-]", "-", host_name())
    words = {
        f"{host}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}": f"HOST-8_HEX_DIGITS_OF_SHA256_OF_{of}"
        for path, of in ((date, "DATA_DIR"), (private, "PRIVATE_DIR"))
    }
    words |= {recorder.stream: "STREAM", str(tmp_path): "DIR", f"{ctime.stat().st_ino} ": "INODE "}
    shown = Shown(words)
    found = []
    for what, root in (
        ("--data-dir", date),
        ("--data-dir, with --private-dir", ctime),
        ("--private-dir", private),
        ("--data-dir of a replay", recorder.data("rebuilt")),
        ("--spool-dir", spool),
    ):
        found += [f"[{what}]", *shown.tree(root), ""]
    print("\n".join(found))
    assert "\n".join(found) == DATA.read_text()
