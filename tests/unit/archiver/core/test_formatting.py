"""Times as operators type and read them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.core.formatting import format_bytes, format_iso, format_time
from g3stream.host.durations import format_duration
from g3stream.host.times import parse_time

NOW = 1_795_383_000_000  # 2026-11-22T21:30:00Z
MOMENTS = st.integers(0, 253_402_300_799_999)  # ms, to the end of 9999


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-22T21:30:00", NOW),
        ("2026-11-22T21:30:00Z", NOW),
        ("2026-11-22 21:30:00", NOW),
        ("2026-11-22T23:30:00+02:00", NOW),
        ("2026-11-22T21:30:00.250", NOW + 250),
        ("2026-11-22", NOW - (21 * 3600 + 30 * 60) * 1000),
        ("2026-11-22-21-30-00", NOW),
        ("1795383000", NOW),
        ("1795383000.5", NOW + 500),
        ("1546344000", 1_546_344_000_000),
        ("-0s", NOW),
        ("-90s", NOW - 90_000),
        ("-1.5m", NOW - 90_000),
        ("-2h", NOW - 7_200_000),
        ("-1d", NOW - 86_400_000),
        ("-1w", NOW - 7 * 86_400_000),
        ("-1h30m", NOW - 5_400_000),
        ("-1d12h", NOW - 36 * 3_600_000),
        ("today", NOW - (21 * 3600 + 30 * 60) * 1000),
        ("yesterday", NOW - (45 * 3600 + 30 * 60) * 1000),
        ("21:30", NOW),
        ("10:00", NOW - (11 * 3600 + 30 * 60) * 1000),
        ("9:05", NOW - (12 * 3600 + 25 * 60) * 1000),
        ("22:00", NOW - (23 * 3600 + 30 * 60) * 1000),
        ("10:00:30", NOW - (11 * 3600 + 29 * 60 + 30) * 1000),
    ],
)
def test_a_time_may_be_given_in_many_ways(text: str, ms: int) -> None:
    assert parse_time(text, NOW) == ms


ZONE = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-22T23:30:00", NOW),
        ("2026-11-22T21:30:00Z", NOW),
        ("2026-11-22-21-30-00", NOW),
        ("today", NOW - (23 * 3600 + 30 * 60) * 1000),
        ("23:00", NOW - 1_800_000),
    ],
)
def test_times_without_an_offset_are_of_the_zone_that_was_asked_for(text: str, ms: int) -> None:
    assert parse_time(text, NOW, ZONE) == ms
    assert format_time(NOW, ZONE) == "2026-11-22 23:30:00"


@pytest.mark.parametrize(
    "text",
    ["24:00", "9:5", "10:60", "-h", "-1h30", "tomorrow", "", "now",
      "2h", "-2", "-2y", "--2h", "-2 h", "2026-13-01", "2026-02-30", "2026-11-22T25:00:00",
     "2026-11-22-21-30-61", "22.11.2026", "12345678", "12345678901", "nan", "-1e3s", "١٧٩٥٣٨٣٠٠٠", "-99999999999h",
     "\n", "2026-11-22\n"],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_what_is_valid(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time; (say 2026-11-22T21:30:00|did you mean -2h\?)"):
        parse_time(text, NOW)


@given(st.text(max_size=25) | st.from_regex(r"-?[0-9]{1,12}[.]?[0-9]{0,4}[smhdw]?", fullmatch=True))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        assert isinstance(parse_time(text, NOW), int)
    except ValueError as error:
        assert "is no time" in str(error)  # noqa: PT017 - anything else may be raised by nothing


@given(MOMENTS, st.integers(-12, 14))
def test_what_is_shown_can_be_parsed(ms: int, hours: int) -> None:
    assert parse_time(format_time(ms), NOW) == ms - ms % 1000
    text = format_iso(ms)
    assert text is not None
    assert parse_time(text, NOW) == ms
    if 10**9 <= ms // 1000 < 10**10:
        assert parse_time(f"{ms / 1000:.3f}", NOW) == ms
    elsewhere = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    if 1 < elsewhere.year < 9999:
        assert parse_time(elsewhere.astimezone(timezone(timedelta(hours=hours))).isoformat(), NOW) == ms


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_time_of_a_record_can_be_shown(ms: int) -> None:
    """Kafka is untrusted input: a record may have any time."""
    assert format_time(ms)
    assert format_iso(ms) is None or format_iso(ms).endswith("Z")  # type: ignore[union-attr]  # just seen
    assert format_duration(ms)


def test_a_time_that_no_calendar_has_is_shown_as_it_is() -> None:
    assert format_time(2**62) == f"{2**62} ms"
    assert format_iso(2**62) is None


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0.0 s"),
        (420, "0.4 s"),
        (9_400, "9.4 s"),
        (9_499, "9.5 s"),
        (12_300, "12 s"),
        (59_499, "59 s"),
        (59_600, "1 min"),
        (303_000, "5 min 3 s"),
        (3_600_000, "1 h"),
        (7_500_000, "2 h 5 min"),
        (86_400_000 * 3 + 4 * 3_600_000, "3 d 4 h"),
        (-1500, "-1.5 s"),
    ],
)
def test_durations(ms: int, text: str) -> None:
    assert format_duration(ms) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (20_000, "20.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (1_500_000, "1.5 MB"),
        (36_000_000_000, "36.0 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert format_bytes(count) == text
