"""When a timecode is complete, and what its file says."""

import pytest

from archiver.suprsync import timecodes
from archiver.suprsync.timecodes import is_complete, is_file_of, summary

TIMECODE = 17_000
END = (TIMECODE + 1) * 100_000.0


@pytest.mark.parametrize(
    ("newest", "now", "until", "directories", "complete"),
    [
        pytest.param(TIMECODE, END + 50_000, END + 49_990, (), False, id="the day after, and nothing newer: not yet"),
        pytest.param(TIMECODE, END + 100_000, END + 99_990, (), True, id="as socs: more than a day away"),
        pytest.param(TIMECODE + 1, END + 50, END + 40, (), True, id="a later one has files"),
        pytest.param(TIMECODE + 1, END + 5, END - 5, (), False, id="what came before midnight isn't final"),
        pytest.param(TIMECODE + 1, END + 50, END + 40, (TIMECODE,), False, id="an acquisition goes on over midnight"),
        pytest.param(TIMECODE + 1, END + 50, END + 40, (TIMECODE + 1,), True, id="one goes on in the next"),
        pytest.param(TIMECODE, END - 50, END - 60, (), False, id="it isn't over"),
    ],
)
def test_when_it_is_complete(
    newest: int, now: float, until: float, directories: tuple[int, ...], complete: bool
) -> None:
    assert is_complete(TIMECODE, newest, now, until, directories) is complete


def test_its_file_lies_where_it_is_written_as_socs_has_it() -> None:
    path = timecodes.file_path(TIMECODE, "timestreams", "archiver-1", 1_700_123_456.7)
    assert path == "17001/suprsync/archiver-1/1700123456_timestreams_17000_finalized.yaml"
    name = path.rpartition("/")[2]
    assert is_file_of(name, TIMECODE, "timestreams")
    assert not is_file_of(name, TIMECODE, "smurf")
    assert not is_file_of(name, 7000, "timestreams")


def test_its_summary_names_each_subdirectory_once() -> None:
    paths = ["17000/b/1_000.g3", "17000/a/1_000.g3", "17000/a/1_001.g3", "17000/stray"]
    assert summary(TIMECODE, "timestreams", "me", paths, 2.5, 1.5) == {
        "timecode": TIMECODE,
        "num_files": 4,
        "subdirs": ["a", "b"],
        "finalized_at": 2.5,
        "finalized_until": 1.5,
        "archive_name": "timestreams",
        "instance_id": "me",
    }
