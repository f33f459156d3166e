"""Durations as people read them."""

import pytest

from g3stream.host.durations import format_duration


@pytest.mark.parametrize(("ms", "text"), [(8_700, "9 s"), (400, "0 s"), (10_400, "10 s"), (303_000, "5 min 3 s")])
def test_without_tenths_seconds_are_whole(ms: int, text: str) -> None:
    assert format_duration(ms, tenths=False) == text
