"""What becomes of the files that a replay writes into an archive."""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from archiver.archive.archive_settings import initialize
from archiver.archive.location import Location
from archiver.archive.root import ArchiveRoot
from archiver.core.paths import SUMS
from archiver.replay.rebuilt import RebuildOutcome, RebuiltFile
from archiver.replay.sinks import DirectoryTarget, InPlaceTarget

STREAM = "crate1slot2"
PATH = f"15463/{STREAM}/2019-01-01-12-00-00_000.g3"
PARTS = [b"a" * 1000, b"b" * (300 << 10), b"c"]
CONTENT = b"".join(PARTS)


@pytest.fixture
def archive(tmp_path: Path) -> ArchiveRoot:
    return ArchiveRoot(initialize(Location(tmp_path / "data"), None), "archiver", "here")


@pytest.fixture
def target(archive: ArchiveRoot) -> Iterator[DirectoryTarget]:
    with closing(DirectoryTarget(archive, STREAM)) as target:
        yield target


def begun(target: DirectoryTarget) -> RebuiltFile:
    file = RebuiltFile(PATH, 0, target.begin(PATH, 0), None)
    for part in PARTS:
        file.append([part], 1, 0)
        target.flush(file)
    return file


def outcome(target: DirectoryTarget) -> RebuildOutcome | None:
    target.finish(begun(target))
    target.wait()
    [result] = target.results
    assert result.size_bytes == len(CONTENT)
    return result.outcome


def here(archive: ArchiveRoot) -> Path:
    return archive.location.data_dir / PATH


def put(archive: ArchiveRoot, content: bytes) -> None:
    here(archive).parent.mkdir(parents=True)
    here(archive).write_bytes(content)


def partials(archive: ArchiveRoot) -> list[str]:
    with archive.private(STREAM) as private:
        return private.names()


def test_a_file_appears_with_its_checksum(archive: ArchiveRoot, target: DirectoryTarget) -> None:
    assert outcome(target) is RebuildOutcome.WRITTEN
    assert here(archive).read_bytes() == CONTENT
    assert (here(archive).parent / SUMS).read_text().startswith(hashlib.sha256(CONTENT).hexdigest())
    assert partials(archive) == []


def test_a_file_of_the_same_bytes_is_left_and_gets_its_checksum(
    archive: ArchiveRoot, target: DirectoryTarget
) -> None:
    put(archive, CONTENT)
    before = here(archive).stat()
    assert outcome(target) is RebuildOutcome.ALREADY_THERE
    assert here(archive).stat() == before
    assert (here(archive).parent / SUMS).exists()


def test_another_file_is_left_without_a_checksum(archive: ArchiveRoot, target: DirectoryTarget) -> None:
    put(archive, b"another")
    assert outcome(target) is RebuildOutcome.NAME_TAKEN
    assert here(archive).read_bytes() == b"another"
    assert not (here(archive).parent / SUMS).exists()


def test_a_retired_file_is_left_out(archive: ArchiveRoot) -> None:
    with closing(DirectoryTarget(archive, STREAM, {PATH})) as target:
        assert outcome(target) is RebuildOutcome.RETIRED
    assert not here(archive).exists()


def test_a_repaired_file_takes_its_place_and_the_damaged_one_is_kept(archive: ArchiveRoot) -> None:
    put(archive, b"damaged")
    with closing(InPlaceTarget(archive, STREAM)) as target:
        assert outcome(target) is RebuildOutcome.WRITTEN
    assert here(archive).read_bytes() == CONTENT
    assert here(archive).with_name(f"{here(archive).name}.damaged").read_bytes() == b"damaged"


def test_the_open_file_is_kept_as_a_partial_and_others_are_removed(archive: ArchiveRoot) -> None:
    with closing(DirectoryTarget(archive, STREAM)) as target:
        begun(target)
        kept = Path(target.keep_partial(begun(target)))
    assert kept.read_bytes() == CONTENT
    assert partials(archive) == [kept.name]
