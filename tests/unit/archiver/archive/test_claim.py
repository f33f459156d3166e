"""Archivers that record a stream into a directory share its files; a process that rebuilds them has them alone."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from archiver.archive.location import Location
from archiver.archive.root import ArchiveRoot

CLAIM = """
import sys
from pathlib import Path
from archiver.archive.location import Location
from archiver.archive.root import ArchiveRoot
try:
    ArchiveRoot(Location(Path(sys.argv[1])), "archiver", "host").claim(sys.argv[2], alone=sys.argv[3] == "alone")
except OSError as error:
    print(error.strerror, flush=True)
else:
    print("claimed", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def archive(tmp_path: Path) -> ArchiveRoot:
    (tmp_path / "data" / ".archiver").mkdir(parents=True)
    return ArchiveRoot(Location(tmp_path / "data"), "archiver", "host")


@contextmanager
def other(archive: ArchiveRoot, stream: str, how: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Another process that claims, and its answer; it keeps the claim until it ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(archive.location.data_dir), stream, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def test_recorders_share_a_claim(archive: ArchiveRoot) -> None:
    """As when a stream moves from one archiver to another, of one host or two."""
    ours = [archive.claim("a", alone=False), archive.claim("a", alone=False)]
    with other(archive, "a", "shared") as (answer, _):
        assert answer == "claimed"
    for claim in ours:
        os.close(claim)


@pytest.mark.parametrize(
    ("first", "then", "why"),
    [
        ("shared", "alone", "it is being recorded"),
        ("alone", "shared", "it is being rebuilt"),
        ("alone", "alone", "rebuilt"),
    ],
)
def test_who_rebuilds_has_it_alone(archive: ArchiveRoot, first: str, then: str, why: str) -> None:
    with other(archive, "a", first) as (answer, process):
        assert answer == "claimed"
        with pytest.raises(OSError, match=why) as refused:
            archive.claim("a", alone=then == "alone")
        assert refused.value.errno == errno.EBUSY
        assert refused.value.filename == str(archive.location.data_dir)
        process.kill()
        process.wait()
        os.close(archive.claim("a", alone=then == "alone"))  # a kill leaves no claim behind


def test_a_claim_lasts_until_its_descriptor_is_closed(archive: ArchiveRoot) -> None:
    claim = archive.claim("a", alone=True)
    with pytest.raises(OSError, match="rebuilt"):
        archive.claim("a", alone=True)
    os.close(claim)
    with other(archive, "a", "alone") as (answer, _):
        assert answer == "claimed"


def test_a_refused_claim_leaves_no_descriptor_open(archive: ArchiveRoot) -> None:
    claim = archive.claim("a", alone=True)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(OSError, match="rebuilt"):
            archive.claim("a", alone=False)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    os.close(claim)


def test_another_stream_is_another_claim(archive: ArchiveRoot) -> None:
    with other(archive, "a", "alone") as (answer, _):
        assert answer == "claimed"
        os.close(archive.claim("b", alone=True))


def test_a_link_in_place_of_the_lock_is_not_followed(archive: ArchiveRoot, tmp_path: Path) -> None:
    os.close(archive.claim("a", alone=False))
    (lock,) = (archive.location.data_dir / ".archiver" / "a").iterdir()
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links") as refused:
        archive.claim("a", alone=False)
    assert refused.value.errno == errno.ELOOP
    assert not (tmp_path / "elsewhere").exists()
