"""bench.wide: its frames, and the computation of a frame's lag."""

import pytest
from spt3g import core

from bench.load.numbered import Numbered
from bench.measure.cost_over_time import slope
from bench.measure.lags import Lag, MissingError, between, by_second, lags, late_until, quantiles
from g3stream.frame_format.reader import read_frame

SECOND = 1_000_000_000


@pytest.mark.parametrize("number", [0, 1, 255, 65_536, 2**31 - 1])
def test_a_frame_is_loaded_by_spt3g_and_has_its_number_and_the_common_length(number: int) -> None:
    frames = Numbered("crate1slot2", 5000)
    made = frames.frame(number)
    assert len(made) == frames.length
    assert read_frame(made, ()) is not None
    frame = core.G3Frame()
    frame._cereal_loads(made)
    assert (frame["sostream_id"], frame["session_id"], frame["frame_num"]) == ("crate1slot2", 1, number)
    assert len(frame["data"]) == 5000


def test_a_frame_is_readable_when_a_file_has_its_last_byte_whichever_file_it_is_in() -> None:
    sent = {"a": {"bytes": 100, "sent": [10 * SECOND, 11 * SECOND, 12 * SECOND]}}
    first = [(10 * SECOND + 1_000_000, 50), (10 * SECOND + 2_000_000, 120), (11 * SECOND + 3_000_000, 200)]
    second = [(12 * SECOND + 500_000_000, 100)]
    assert [lag.seconds for lag in lags(sent, {"a": [first, second]})] == pytest.approx([0.002, 0.003, 0.5])


@pytest.mark.parametrize("sizes", [[100], [100, 300]])
def test_missing_frames_and_frames_that_were_never_sent_are_errors(sizes: list[int]) -> None:
    grown = {"a": [[(SECOND, size) for size in sizes]]}
    with pytest.raises(MissingError, match="a: "):
        lags({"a": {"bytes": 100, "sent": [0, 0]}}, grown)


def test_lags_are_grouped_by_the_time_at_which_frames_were_sent() -> None:
    found = [Lag("a", 1.0, 0.1), Lag("b", 1.9, 3.0), Lag("a", 2.5, 0.2), Lag("b", 9.0, 0.3)]
    assert between(found, 1.5, 9.0) == found[1:3]
    assert quantiles(found) == {"p50": 0.3, "p99": 3.0, "max": 3.0}
    assert by_second(found, 1.0) == [(0, 3.0), (1, 0.2), (8, 0.3)]
    assert late_until(found, after=2.0, seconds=1.0) == pytest.approx(2.9)
    assert late_until(found, after=6.0, seconds=1.0) == 0.0


def test_the_slope_of_a_line_is_found_in_noise() -> None:
    xs = [float(x) for x in range(100)]
    assert slope(xs, [3 * x + (-1) ** x for x in range(100)]) == pytest.approx(3, abs=0.01)
    assert slope([], []) == 0.0
