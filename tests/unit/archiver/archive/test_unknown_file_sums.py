"""Unknown files get their lines once they are whole, and a skipped file is logged once."""

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.archive.location import Location
from archiver.archive.unknown_file_sums import UnknownFileChecksums
from archiver.core.paths import PRIVATE_DIRECTORY, SUMS
from archiver.storage.directory import Directory
from archiver.storage.sha256sums import read
from tests.support.processes import eventually

PARENT = "15463/crate1slot2"
OURS = f"{PARENT}/2019-01-01-12-00-00_000.g3"


class Archive:
    """One directory of an archive, and the thread that adds lines for unknown files."""

    def __init__(self, root: Path) -> None:
        (root / PRIVATE_DIRECTORY / "x1").mkdir(parents=True)
        self.place = root / PARENT
        self.place.mkdir(parents=True)
        self.root = root

    def put(self, name: str, content: bytes = b"", written_to: float = 0.0) -> str:
        """Write a file with that mtime, in s since 1970; returns its SHA-256."""
        (self.place / name).write_bytes(content)
        os.utime(self.place / name, (written_to, written_to))
        return hashlib.sha256(content).hexdigest()

    def look(self, sums: UnknownFileChecksums) -> dict[str, str]:
        """Add all missing lines; returns all lines."""
        for name in sums.missing_lines(PARENT):
            sums.add("x1", PARENT, name)
        with Directory(self.root, PARENT) as directory:
            return read(directory)[0]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """A new one."""
    return Archive(tmp_path)


def test_files_without_a_line_get_one_and_nothing_else_does(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    expected = {name: archive.put(name, name.encode()) for name in ("a.g3", "a copy.g3")}
    for name in ("notes.txt", "\udcff.g3", "a\nb.g3", "back\\slash.g3"):
        archive.put(name)
    (archive.place / "directory.g3").mkdir()
    (archive.place / "link.g3").symlink_to("/etc/passwd")
    os.mkfifo(archive.place / "pipe.g3")
    for name in ("directory.g3", "pipe.g3"):
        os.utime(archive.place / name, (0, 0))
    os.utime(archive.place / "link.g3", (0, 0), follow_symlinks=False)
    sums = UnknownFileChecksums(Location(archive.root))
    for _ in range(3):
        assert archive.look(sums) == expected
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert sorted(warnings) == [
        f"no line in SHA256SUMS for the unknown file '{PARENT}/{name}': it isn't a regular file; "
        "no recorded file is affected"
        for name in ("directory.g3", "link.g3", "pipe.g3")
    ]


def test_one_that_is_still_copied_waits_until_it_is_whole(archive: Archive) -> None:
    now = time.time()
    sums = UnknownFileChecksums(Location(archive.root))
    archive.put("a.g3", b"ha", now)
    assert archive.look(sums) == {}
    half = archive.put("a.g3", b"half", now - 65)
    assert archive.look(sums) == {"a.g3": half}
    archive.put("a.g3", b"half and half", now)  # the copying had only paused
    assert archive.look(sums) == {"a.g3": half}
    whole = archive.put("a.g3", b"half and half", now - 64)
    assert archive.look(sums) == {"a.g3": whole}


def test_one_that_changes_while_it_is_read_waits(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.put("a.g3", b"before")
    sums = UnknownFileChecksums(Location(archive.root))
    blocks = Directory.blocks

    def changing(directory: Directory, name: str) -> Iterator[bytes]:
        yield from blocks(directory, name)
        archive.put("a.g3", b"afterwards")

    with monkeypatch.context() as changes:
        changes.setattr(Directory, "blocks", changing)
        assert archive.look(sums) == {}
    assert archive.look(sums) == {"a.g3": hashlib.sha256(b"afterwards").hexdigest()}


def test_one_that_is_too_large_is_not_read(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    archive.put("a.g3")
    os.truncate(archive.place / "a.g3", 1 << 40)
    os.utime(archive.place / "a.g3", (0, 0))
    assert archive.look(UnknownFileChecksums(Location(archive.root))) == {}
    assert "it has 1.1 TB, more than 100.0 GB" in caplog.text


def test_an_error_of_one_directory_is_logged_once_and_others_are_processed(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    sha = archive.put("a.g3")
    sums = UnknownFileChecksums(Location(archive.root))
    other = "15463/gone/2019-01-01-12-00-00_000.g3"
    with caplog.at_level(logging.INFO):
        for path in (other, other, OURS):
            sums.enqueue("x1", path)
        eventually((archive.place / SUMS).exists, "its checksum is there")
        sums.close()
    assert (archive.place / SUMS).read_text() == f"{sha}  a.g3\n"
    assert caplog.text.count("15463/gone: unknown files get no line in SHA256SUMS") == 1
