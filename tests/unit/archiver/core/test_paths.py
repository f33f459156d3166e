"""Paths and names of files."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.core.paths import (
    ID,
    LATEST_START,
    NameFormat,
    PartialName,
    file_path,
    start_and_number,
    start_second,
)

NOON = 1_546_344_000
STARTS = st.integers(0, LATEST_START)


def test_a_file_is_where_the_recorder_this_replaces_puts_it() -> None:
    assert file_path(NOON, "crate1slot2", 0, NameFormat.DATE) == "15463/crate1slot2/2019-01-01-12-00-00_000.g3"
    assert file_path(NOON, "crate1slot2", 1, NameFormat.CTIME) == "15463/crate1slot2/1546344000_001.g3"


def test_a_partial_is_named_for_its_file() -> None:
    path = "15463/crate1slot2/2019-01-01-12-00-00_012.g3"
    partial = PartialName(path, 1546344000123, "0123abcd")
    assert str(partial) == "15463.crate1slot2.2019-01-01-12-00-00_012.1546344000123.0123abcd"


@given(
    STARTS,
    st.from_regex(ID, fullmatch=True),
    st.integers(0, 10**6),
    st.sampled_from(NameFormat),
    st.integers(-(2**63), 2**63 - 1),
)
def test_a_partial_knows_its_file_and_that_its_start(
    start: int, stream_id: str, number: int, name_format: NameFormat, first: int
) -> None:
    path = file_path(start, stream_id, number, name_format)
    partial = PartialName(path, first, "0123abcd")
    assert PartialName.parse(str(partial)) == partial
    assert start_and_number(path) == (start, number)


@pytest.mark.parametrize(
    "name", ["", "x", "15463.x.1546344000_012.0123abcd", "15463.x/y.1546344000_012.1.0123abcd", "a.b.c.1.d"]
)
def test_other_names_are_no_partials(name: str) -> None:
    assert PartialName.parse(name) is None


@pytest.mark.parametrize(
    ("start", "directory", "date"),
    [
        (0, "00000", "1970-01-01-00-00-00"),
        (99_999, "00000", "1970-01-02-03-46-39"),
        (100_000, "00001", "1970-01-02-03-46-40"),
        (999_999_999, "09999", "2001-09-09-01-46-39"),
        (LATEST_START, "99999", "2286-11-20-17-46-39"),
    ],
)
def test_directories_are_the_first_five_of_ten_digits(start: int, directory: str, date: str) -> None:
    assert file_path(start, "x", 0, NameFormat.DATE) == f"{directory}/x/{date}_000.g3"


@pytest.mark.parametrize(("number", "suffix"), [(0, "000"), (999, "999"), (1000, "1000"), (1234567, "1234567")])
def test_numbers_have_three_digits_or_more(number: int, suffix: str) -> None:
    assert file_path(NOON, "x", number, NameFormat.DATE).endswith(f"_{suffix}.g3")


@pytest.mark.parametrize(
    ("ms", "second"),
    [
        (0, 0),
        (999, 0),
        (1000, 1),
        (1999, 1),
        (-1, 0),
        (-(2**63), 0),
        (9_999_999_999_999, LATEST_START),
        (2**63, LATEST_START),
    ],
)
def test_a_start_is_a_whole_second_that_can_be_named(ms: int, second: int) -> None:
    assert start_second(ms) == second


@given(STARTS, st.integers(0, 10**6), st.sampled_from(NameFormat))
def test_a_name_says_its_start_and_number(start: int, number: int, name_format: NameFormat) -> None:
    directory, stream_id, name = file_path(start, "x", number, name_format).split("/")
    text, _, suffix = name.removesuffix(".g3").rpartition("_")
    if name_format is NameFormat.DATE:
        at = datetime.strptime(text, "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC).timestamp()
    else:
        at = int(text)
    assert (at, int(suffix), stream_id) == (start, number, "x")
    assert int(directory) == start // 100_000


@given(STARTS, STARTS)
def test_dates_sort_as_their_seconds_do(one: int, other: int) -> None:
    names = [file_path(start, "x", 0, NameFormat.DATE) for start in (one, other)]
    assert (names[0] < names[1]) == (one < other)
