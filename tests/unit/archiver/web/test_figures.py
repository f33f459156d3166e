"""The geometry of figures: everything is inside, ticks are round, gaps stay gaps."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from archiver.web.quicklook.figures import (
    Scale,
    area,
    line,
    linear_scale,
    linear_ticks,
    log_scale,
    log_ticks,
    unit_of,
    with_unit,
)

NUMBERS = st.floats(-1e6, 1e6).filter(lambda it: it == 0 or abs(it) > 1e-12)
POSITIVE = st.floats(1e-9, 1e6)


@given(st.lists(NUMBERS, min_size=1))
@example([1e-9])
def test_a_linear_scale_has_all_values_inside_and_some_ticks(values: list[float]) -> None:
    scale = linear_scale(values)
    assert scale is not None
    assert all(0 <= scale.at(value) <= 100 for value in values)
    ticks = linear_ticks(scale)
    assert 2 <= len(ticks) <= 8
    assert all(scale.low <= value <= scale.high for value, _, _ in ticks)


@given(st.lists(POSITIVE, min_size=1))
def test_a_log_scale_has_all_values_inside_and_a_tick_that_a_phone_shows(values: list[float]) -> None:
    scale = log_scale(values)
    assert scale is not None
    assert all(0 <= scale.at(value) <= 100 for value in values)
    ticks = log_ticks(scale)
    assert sum(is_major for _, _, is_major in ticks) >= 2


def test_without_values_there_is_no_scale() -> None:
    assert linear_scale([None]) is None
    assert log_scale([None, 0.0, -1.0]) is None


def test_a_line_is_broken_where_there_is_no_value() -> None:
    x, y = Scale(0, 4, is_log=False), Scale(1, 100, is_log=True)
    assert line([(0, 1.0), (1, 10.0), (2, None), (3, 0.0), (4, 100.0)], x, y) == "M0.0 100.0L25.0 50.0M100.0 0.0"


def test_an_area_is_closed_and_leaves_out_what_is_unknown() -> None:
    x = y = Scale(0, 4, is_log=False)
    found = area([0, 2, 4], [1, None, 1], [3, 3, 3], x, y)
    assert re.findall(r"[\d.]+ [\d.]+", found) == ["0.0 25.0", "100.0 25.0", "100.0 75.0", "0.0 75.0"]
    assert found.endswith("Z")
    assert area([0], [None], [1], x, y) == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.234e-5, "12.3 µrad"),
        (0.0, "0 rad"),
        (0.0056, "5.6 mrad"),
        (-2.5e-4, "-250 µrad"),
        (1234.5, "1234 rad"),
        (3e-9, "3 nrad"),
        (2e-11, "0.02 nrad"),
    ],
)
def test_values_have_a_readable_unit(value: float, shown: str) -> None:
    assert with_unit(value, "rad") == shown


def test_the_unit_is_that_of_the_largest_value() -> None:
    assert unit_of([1e-6, None, -2e-3]) == (1e-3, "m")
    assert unit_of([]) == (1.0, "")
