"""Salvage: how much of a partial is whole frames, and what is published and kept of it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.archive.location import Location
from archiver.archive.root import ArchiveRoot
from archiver.core.events import Event, FileSalvaged
from archiver.core.paths import PartialName
from archiver.recovery.salvage import CompleteFrames, complete_frames, salvage
from archiver.storage.directory import Directory
from g3stream.service.cancellation import CancellationToken
from tests.support.disk import small_disk
from tests.support.frames import ANY_FRAME, frame

PATH = "15463/crate1slot2/2019-01-01-12-00-00_000.g3"
PARTIAL = str(PartialName(PATH, 1546344000123, "0123abcd"))
LENGTH_AT = 13 + 8 + 1
"""Of the only blob in each of these."""
FRAMES = [frame([(b"n", bytes([n]) * 100)]) for n in range(5)]


@settings(deadline=None, max_examples=50)
@given(st.lists(ANY_FRAME, max_size=6), st.data())
def test_it_is_whole_frames_up_to_where_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, frames: list[bytes], data: st.DataObject
) -> None:
    everything = b"".join(frames)
    size = data.draw(st.integers(0, len(everything)))
    path = tmp_path_factory.mktemp("cut")
    (path / "x").write_bytes(everything[:size])
    whole = [n for n in range(len(frames) + 1) if len(b"".join(frames[:n])) <= size]
    end, last_start = (len(b"".join(frames[:n])) for n in (whole[-1], max(0, whole[-1] - 1)))
    with Directory(path, "") as directory:
        found = complete_frames(directory, "x", CancellationToken())
    assert found == CompleteFrames(whole[-1], end, last_start, size)


@pytest.mark.parametrize("at", [0, 1, 5, 13, 20, 25, 60, -1])
def test_after_a_changed_byte_nothing_is_trusted(tmp_path: Path, at: int) -> None:
    data = bytearray(b"".join(FRAMES))
    data[2 * len(FRAMES[0]) + (at if at >= 0 else len(FRAMES[0]) - 1)] ^= 4
    (tmp_path / "x").write_bytes(data)
    with Directory(tmp_path, "") as directory:
        found = complete_frames(directory, "x", CancellationToken())
    assert (found.frames, found.bytes, found.size_bytes) == (2, 2 * len(FRAMES[0]), len(data))


class Publisher:
    """Records the published events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def archive(tmp_path: Path) -> ArchiveRoot:
    """An archive with an empty directory for partials."""
    (tmp_path / ".archiver" / "crate1slot2").mkdir(parents=True)
    return ArchiveRoot(Location(tmp_path), "group", "host")


def left(archive: ArchiveRoot, data: bytes) -> Path:
    """A partial that holds that."""
    path = archive.location.data_dir / ".archiver" / "crate1slot2" / PARTIAL
    path.write_bytes(data)
    return path


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("torn", [b"", FRAMES[3][:50]], ids=["whole", "torn"])
def test_its_whole_frames_get_its_name_and_an_event(archive: ArchiveRoot, torn: bytes) -> None:
    partial, publisher = left(archive, b"".join(FRAMES[:3]) + torn), Publisher()
    event = salvage(archive, publisher.publish, "crate1slot2", PARTIAL, "why", CancellationToken())
    assert (archive.location.data_dir / PATH).read_bytes() == b"".join(FRAMES[:3])
    assert PATH.rpartition("/")[2] in (archive.location.data_dir / PATH).with_name("SHA256SUMS").read_text()
    assert publisher.events == [event]
    assert isinstance(event, FileSalvaged)
    assert (event.path, event.frames, event.what) == (PATH, 3, "why")
    kept = {file.name: file.read_bytes() for file in partial.parent.iterdir()}
    assert kept == ({f"{PARTIAL}.damaged": torn} if torn else {})
    assert salvage(archive, publisher.publish, "crate1slot2", PARTIAL, "why", CancellationToken()) is None, (
        "there is nothing left"
    )


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("at", [len(FRAMES[0]) + 40, len(FRAMES[0]) + LENGTH_AT + 5], ids=["blob", "length"])
def test_from_the_damage_on_it_is_kept_beside(archive: ArchiveRoot, at: int) -> None:
    """With another length, its second frame seems to end beyond the file; and good ones follow."""
    data = bytearray(b"".join(FRAMES))
    data[at] ^= 1
    partial = left(archive, bytes(data))
    event = salvage(archive, Publisher().publish, "crate1slot2", PARTIAL, "why", CancellationToken())
    assert event
    assert event.frames == 1
    (kept,) = partial.parent.iterdir()
    assert (kept.name, kept.read_bytes()) == (f"{PARTIAL}.damaged", bytes(data[len(FRAMES[0]) :]))


def test_one_without_a_whole_frame_is_not_published(archive: ArchiveRoot) -> None:
    partial = left(archive, FRAMES[0][:-1])
    assert salvage(archive, Publisher().publish, "crate1slot2", PARTIAL, "why", CancellationToken()) is None
    assert [file.name for file in partial.parent.iterdir()] == [f"{PARTIAL}.damaged"]
    assert not (archive.location.data_dir / PATH).exists()


def test_without_room_for_its_whole_frames_the_disk_is_not_filled(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        (disk / ".archiver" / "crate1slot2").mkdir(parents=True)
        archive = ArchiveRoot(Location(disk), "group", "host")
        partial = left(archive, frame([(b"n", bytes(700_000))]) + FRAMES[0][:-1])
        with pytest.raises(OSError, match=r"a copy of it needs 70\d\.\d kB"):
            salvage(archive, Publisher().publish, "crate1slot2", PARTIAL, "why", CancellationToken())
        assert list(partial.parent.iterdir()) == [partial]


@pytest.mark.usefixtures("links")
def test_another_files_name_is_not_taken(archive: ArchiveRoot) -> None:
    (archive.location.data_dir / PATH).parent.mkdir(parents=True)
    (archive.location.data_dir / PATH).write_bytes(b"another")
    left(archive, FRAMES[0])
    event = salvage(archive, Publisher().publish, "crate1slot2", PARTIAL, "why", CancellationToken())
    assert event
    assert event.path == PATH.replace("_000", "_001")
    assert (archive.location.data_dir / PATH).read_bytes() == b"another"


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("torn", [b"", FRAMES[3][:50]], ids=["whole", "torn"])
@pytest.mark.parametrize("published", [False, True])
def test_a_kill_in_between_doubles_nothing(archive: ArchiveRoot, published: bool, torn: bytes) -> None:
    class Killed(Exception):
        pass

    class Killer(Publisher):
        def publish(self, event: Event) -> None:
            super().publish(event)
            raise Killed

    partial = left(archive, b"".join(FRAMES[:3]) + torn)
    if published:
        with pytest.raises(Killed):
            salvage(archive, Killer().publish, "crate1slot2", PARTIAL, "why", CancellationToken())
    assert partial.exists()
    publisher = Publisher()
    salvage(archive, publisher.publish, "crate1slot2", PARTIAL, "why", CancellationToken())
    assert [file.name for file in (archive.location.data_dir / PATH).parent.glob("*.g3")] == [PATH.rpartition("/")[2]]
    assert len(publisher.events) == 1
    # What the kill left is handled by the next start in the same way.
    for left_over in filter(lambda file: PartialName.parse(file.name), list(partial.parent.iterdir())):
        salvage(archive, publisher.publish, "crate1slot2", left_over.name, "why", CancellationToken())
    assert [file.name for file in (archive.location.data_dir / PATH).parent.glob("*.g3")] == [PATH.rpartition("/")[2]]
