"""The geometry of a night's timeline."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.catalog.recorded import Acquisition, Loss
from archiver.web.records.night_view import night_window
from archiver.web.records.timeline import MAX_FILE_BARS, OpenFile, Timeline, Window, timeline
from tests.unit.archiver.web.recorded import FILE, HOUR, LOSS, MINUTE, NIGHT, NOON, RETIRED, files, recorded

WHOLE = night_window(NIGHT)


def drawn(
    *acquisitions: Acquisition,
    window: Window = WHOLE,
    losses: tuple[Loss, ...] = (),
    opened: tuple[OpenFile, ...] = (),
    now_ms: int = NOON + 48 * HOUR,
) -> Timeline:
    return timeline(window, recorded(*acquisitions), losses, opened, now_ms)


def test_a_file_is_a_bar_at_its_time_that_says_what_it_is() -> None:
    (lane,) = drawn(files(1)).lanes
    (bar,) = lane.bars
    assert (bar.x, bar.width) == (37.5, round(100 / 144, 3))
    assert bar.href == f"/file/{FILE.path}"
    assert bar.title == f"21:00:00 to 21:10:00, {FILE.path}, 123.5 MB, END"
    assert lane.text == "s: 1 acquisition, 1 file"


def test_with_many_files_a_bar_is_an_acquisition_with_cuts() -> None:
    many = [files(70, stream=f"s{n}", begin_ms=NOON + HOUR) for n in range(10)]
    assert MAX_FILE_BARS < 700
    found = drawn(*many)
    assert not found.by_file
    assert [lane.stream for lane in found.lanes] == [f"s{n}" for n in range(10)]
    (bar,) = found.lanes[0].bars
    assert bar.href == "/acquisition/s0/7"
    assert len(bar.cuts) == 69
    assert "70 files, 8.6 GB" in bar.title
    hour = Window(NOON + 2 * HOUR, NOON + 3 * HOUR)
    zoomed = drawn(*many, window=hour)
    assert zoomed.by_file
    assert [len(lane.bars) for lane in zoomed.lanes] == [6] * 10


@pytest.mark.parametrize(("closed", "marks"), [("end", ["end"]), ("gap", ["gap"]), ("lost", ["disconnected"])])
def test_how_an_acquisition_ended_is_marked_at_its_end(closed: str, marks: list[str]) -> None:
    (lane,) = drawn(files(2, closed=closed)).lanes
    assert [mark.kind for mark in lane.marks] == marks
    assert lane.marks[0].x == WHOLE.x(FILE.begin_ms + 20 * MINUTE)


def test_a_gap_says_for_how_long_no_frames_came() -> None:
    before = files(2, closed="gap")
    (lane,) = drawn(before, files(1, begin_ms=before.files[-1].end_ms + 3 * MINUTE)).lanes
    assert lane.marks[0].title == "21:20:00 gap: no frames for 3 min"
    assert drawn(before).lanes[0].marks[0].title == "21:20:00 gap"


@pytest.mark.parametrize("closed", ["start", "time"])
def test_the_next_start_and_a_file_that_is_continued_need_no_mark(closed: str) -> None:
    assert drawn(files(2, closed=closed)).lanes[0].marks == ()


def test_losses_and_missing_frames_are_marked() -> None:
    missing = Acquisition((replace(FILE, missing=3),))
    (lane,) = drawn(missing, losses=(LOSS,)).lanes
    lost, absent = (next(it for it in lane.marks if it.kind == kind) for kind in ("loss", "missing"))
    assert lost.title == "21:04:00, 12 records lost"
    assert lost.href == "#loss-s-99-" + str(LOSS.until_ms)
    assert lost.x == WHOLE.x(NOON + 9 * HOUR + 3 * MINUTE)
    assert lost.x + lost.width == pytest.approx(WHOLE.x(LOSS.until_ms))
    assert absent.title == f"3 frames missing in {FILE.path}"
    assert "1 loss" in lane.text


def test_a_stream_of_which_only_a_loss_is_known_has_a_lane() -> None:
    (lane,) = drawn(losses=(replace(LOSS, records=None, since_ms=None),)).lanes
    assert lane.bars == ()
    assert lane.marks[0].title == "21:04:00, an unknown number of records lost"
    assert lane.marks[0].width == 0


def test_what_is_being_recorded_reaches_to_the_present() -> None:
    now_ms = NOON + 6 * HOUR
    found = drawn(opened=(OpenFile("s", "x.g3", NOON + 3 * HOUR),), now_ms=now_ms)
    (bar,) = found.lanes[0].bars
    assert (bar.kind, bar.x, bar.width) == ("open", 12.5, 12.5)
    assert found.now_x == 25
    assert drawn(now_ms=NOON - 1).now_x is None


def test_files_that_are_gone_or_unusual_look_so() -> None:
    retired = Acquisition((replace(FILE, retired=RETIRED),))
    salvaged = replace(FILE, kind="salvaged", number=None, acquisition=None, first_ms=None, last_ms=None)
    found = timeline(WHOLE, recorded(retired, others=(salvaged,)), (), (), NOON)
    assert [bar.kind for bar in found.lanes[0].bars] == ["retired", "salvaged"]


def test_the_axis_has_the_hours_and_an_hour_its_minutes() -> None:
    assert [tick.text for tick in drawn().ticks][:4] == ["12:00", "13:00", "14:00", "15:00"]
    assert [tick.text for tick in drawn().ticks if tick.is_major][:2] == ["12:00", "15:00"]
    hour = drawn(window=Window(NOON, NOON + HOUR)).ticks
    assert [tick.text for tick in hour] == ["12:00", "12:10", "12:20", "12:30", "12:40", "12:50"]


times = st.integers(-(10**12), 10**13)


@given(times, times, times, st.booleans())
def test_all_is_within_the_chart(begin_ms: int, length_ms: int, now_ms: int, with_loss: bool) -> None:
    file = replace(FILE, begin_ms=begin_ms, end_ms=begin_ms + abs(length_ms), missing=1, closed="end")
    losses = (replace(LOSS, since_ms=begin_ms, until_ms=begin_ms + length_ms),) if with_loss else ()
    found = drawn(Acquisition((file,)), losses=losses, opened=(OpenFile("s", "x", begin_ms),), now_ms=now_ms)
    for lane in found.lanes:
        spans = [(bar.x, bar.width) for bar in lane.bars] + [(mark.x, mark.width) for mark in lane.marks]
        for x, width in spans:
            assert 0 <= x <= 100
            assert 0 <= width <= 100
            assert x + width <= 100.001
        assert all(bar.width > 0 for bar in lane.bars)
