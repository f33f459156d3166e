"""The page of a night, besides its timeline: which hours have data."""

from archiver.web.records.night_view import HourLink, night_view, night_window
from archiver.web.records.timeline import OpenFile, Window
from tests.unit.archiver.web.recorded import FILE, HOUR, LOSS, MINUTE, NIGHT, NOON, files, recorded


def hours(
    *spans: tuple[int, int], opened: tuple[OpenFile, ...] = (), now_ms: int = NOON + 48 * HOUR
) -> tuple[HourLink, ...]:
    window = night_window(NIGHT)
    return night_view(NIGHT, window, recorded(files(1)), (), opened, spans, now_ms).hours


def test_hours_in_which_something_was_recorded_look_different_from_others() -> None:
    found = hours((FILE.begin_ms, FILE.end_ms), (NOON + 11 * HOUR + 50 * MINUTE, NOON + 12 * HOUR + MINUTE))
    assert [it.text for it in found if it.has_data] == ["21", "23", "00"]
    assert found[9].title == "21 h: recorded"
    assert found[10].title == "22 h: nothing was recorded"


def test_hours_to_come_do_not_count_as_without_data() -> None:
    now_ms = NOON + 2 * HOUR + MINUTE
    found = hours(opened=(OpenFile("s", "x.g3", NOON + HOUR + MINUTE),), now_ms=now_ms)
    assert [it.title for it in found[:4]] == [
        "12 h: nothing was recorded",
        "13 h: recorded",
        "14 h: recorded",
        "15 h: still to come",
    ]


def test_a_file_of_any_length_has_the_hours_of_the_night_only() -> None:
    assert all(it.has_data for it in hours((-(2**62), 2**62)))
    assert not any(it.has_data for it in hours((NOON - 2 * HOUR, NOON - HOUR), (NOON + 25 * HOUR, NOON + 26 * HOUR)))


def test_of_a_file_that_is_cut_by_the_view_only_the_part_inside_counts() -> None:
    window = Window(FILE.begin_ms - HOUR, FILE.begin_ms + 6 * MINUTE)
    view = night_view(NIGHT, window, recorded(files(1)), (LOSS,), (), (), NOON + 48 * HOUR)
    assert view.streams[0].recorded == "6 min"
    assert [what for _, what in view.sums] == ["stream", "file", "recorded", "frames missing", "loss"]
