"""Each event of an archive counts once, however often it was published; none is left out."""

import pytest
from msgspec.structs import replace

from archiver.core.catalog import FileCatalog, FileEvent, events_for_replay
from archiver.core.checkpoint import Checkpoint, CheckpointError, RecordId
from archiver.core.events import Event, FileAdopted, FileFinished, FileRetired, FileSalvaged, RecordsLost
from archiver.core.segmentation import CloseReason, Settings, State

STREAM = "crate1slot2"
FIRST = RecordId(5, "a" * 16, 5, 1_546_344_000_000)


def finished(number: int, **changed: object) -> FileFinished:
    """The number-th file of a stream, of 10 s."""
    first = RecordId(5 + 10 * number, "a" * 16, 5 + 10 * number, FIRST.time + 10_000 * number)
    last = replace(first, offset=first.offset + 9, seq=first.seq + 9, time=first.time + 9_000)
    closing = replace(last, offset=last.offset + 1, seq=last.seq + 1, time=last.time + 1_000)
    path = f"15463/{STREAM}/2019-01-01-12-00-00_{number:03d}.g3"
    made = FileFinished(
        "archiver", STREAM, path, number + 1, STREAM, 1_546_344_000, number, Settings(),
        CloseReason.TIME, 10, 1000, "0" * 64,
        (), first, last, closing, closing.offset, Checkpoint(State(STREAM)), "host",
    )  # fmt: skip
    return replace(made, **changed)


def lost(offset: int, until: int, what: str = "a:1 to a:3", **changed: object) -> RecordsLost:
    """A loss of three records."""
    return replace(RecordsLost("archiver", STREAM, 3, what, offset, until - 500, until, "host"), **changed)


SALVAGED = FileSalvaged(
    "archiver", STREAM, f"15463/{STREAM}/2019-01-01-13-00-00_000.g3", 7, 700, "1" * 64, "gone", "h"
)


def retired(file: FileEvent, **changed: object) -> FileRetired:
    """A file that was retired."""
    made = FileRetired(
        file.group, file.stream, file.path, file.sha256, file.bytes, FIRST.time + 10**9, "ops@daq1", "daq1", "at home"
    )
    return replace(made, **changed)


def adopted(path: str, **changed: object) -> FileAdopted:
    """A file that was there before."""
    made = FileAdopted("archiver", STREAM, path, 7, 700, "2" * 64, FIRST.time, "ops@daq1", "daq1", "of 2018")
    return replace(made, **changed)


def test_what_is_published_twice_counts_once_in_its_first_place() -> None:
    files = [finished(0), finished(1), finished(0), finished(2), finished(1)]
    assert FileCatalog.from_events(files).files == {STREAM: (finished(0), finished(1), finished(2))}
    loss = lost(7, FIRST.time)
    assert FileCatalog.from_events([loss, SALVAGED, loss, SALVAGED]) == FileCatalog({}, (SALVAGED,), (loss,))


def test_what_is_published_last_of_a_file_counts() -> None:
    """Published again by another host, after the first was killed."""
    again = finished(0, host="other")
    assert FileCatalog.from_events([finished(0), finished(1), again]).files == {STREAM: (again, finished(1))}


def test_two_losses_that_one_record_shows_are_two() -> None:
    """As when an ingest's host went down, and its predecessor's records are missing besides."""
    both = (lost(7, FIRST.time), lost(7, FIRST.time, "the ingest host went down unasked", records=None))
    assert FileCatalog.from_events(both).losses == both


def test_losses_at_the_same_offset_of_a_topic_created_again_are_two() -> None:
    both = (lost(7, FIRST.time), lost(7, FIRST.time + 86_400_000))
    assert FileCatalog.from_events(both).losses == both


def test_what_was_salvaged_hides_no_finished_file_of_that_name() -> None:
    file = finished(0)
    salvaged = replace(SALVAGED, path=file.path)
    assert FileCatalog.from_events([file, salvaged]) == FileCatalog({STREAM: (file,)}, (salvaged,), ())


def test_streams_are_apart() -> None:
    other = finished(0, stream="other")
    assert FileCatalog.from_events([finished(0), other]).files == {STREAM: (finished(0),), "other": (other,)}


def test_what_cannot_be_understood_is_kept_in_words() -> None:
    found = FileCatalog.from_events([CheckpointError("a record of g3.files is no event: x"), finished(0)])
    assert found.unreadable == ("a record of g3.files is no event: x",)
    assert found.files == {STREAM: (finished(0),)}


def test_of_what_was_before_a_time_only_the_last_file_is_kept() -> None:
    """Acquisitions of three, two and two files; the requested time is in the second one's last file."""
    ends = (2, 4, 6)
    files = [finished(n, why=CloseReason.END if n in ends else CloseReason.TIME) for n in range(7)]
    assert list(events_for_replay(files, files[4].first.time)) == files[2:]
    assert list(events_for_replay(files, files[0].first.time)) == files
    assert list(events_for_replay(files, files[6].closing.time + 1)) == files[6:]


def test_what_was_left_out_stays_so_when_it_is_published_again() -> None:
    """By an archiver that was frozen, for longer than it took another to finish more files."""
    files = [finished(n, why=CloseReason.END) for n in range(4)]
    published = [files[0], files[1], files[0], files[2], files[3], files[1], files[3]]
    assert list(events_for_replay(published, files[3].first.time)) == files[2:]


def test_a_gap_may_be_none_in_a_replay_so_what_was_before_it_is_kept() -> None:
    files = [finished(n, why=CloseReason.GAP) for n in range(4)]
    assert list(events_for_replay(files, files[3].first.time)) == files


def test_streams_are_apart_in_what_is_kept() -> None:
    theirs = [finished(n, stream="other", why=CloseReason.END) for n in range(3)]
    ours = [finished(n, why=CloseReason.END) for n in range(3)]
    published = [event for both in zip(theirs, ours, strict=True) for event in both]
    kept = FileCatalog.from_events(events_for_replay(published, ours[2].first.time))
    assert kept.files == {"other": tuple(theirs[1:]), STREAM: tuple(ours[1:])}


# -- retired and adopted --------------------------------------------------------------------------------------

PATH = finished(0).path
BACK = adopted(PATH, sha256=finished(0).sha256)
BEFORE = adopted(f"15463/{STREAM}/1546343000_000.g3")


@pytest.mark.parametrize(
    ("events", "paths"),
    [
        ([finished(0), retired(finished(0))], {PATH}),
        ([finished(0), retired(finished(0)), retired(finished(0), reason="again")], {PATH}),
        ([finished(0), retired(finished(0)), finished(0, host="published again after a kill")], {PATH}),
        ([finished(0), retired(finished(0)), BACK], set()),
        ([finished(0), retired(finished(0)), BACK, retired(finished(0))], {PATH}),
        ([finished(0), retired(finished(0)), finished(0, sha256="5" * 64)], set()),
        ([finished(0), retired(finished(0), sha256="5" * 64)], set()),
        ([retired(finished(0))], set()),
        ([SALVAGED, retired(SALVAGED)], {SALVAGED.path}),
        ([BEFORE], set()),
        ([BEFORE, retired(BEFORE)], {BEFORE.path}),
    ],
    ids=[
        "retired", "twice", "recorded event repeated", "back", "and retired again", "another file took its path",
        "of another file", "of nothing that is known", "salvaged", "adopted", "adopted, and retired",
    ],
)  # fmt: skip
def test_the_last_event_of_a_file_decides_whether_it_is_retired(events: list[Event], paths: set[str]) -> None:
    account = FileCatalog.from_events([finished(1), *events])
    assert set(account.retired) == paths
    assert set(account.file_events()) >= paths


def test_an_adopted_file_counts_but_the_event_that_recorded_it_has_more() -> None:
    published = FileCatalog.from_events([BEFORE, finished(0), BACK]).file_events()
    assert published == {BEFORE.path: BEFORE, PATH: finished(0)}
