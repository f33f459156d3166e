"""What people choose: channels and rates that can be monitored, and the words for others."""

from typing import Any

import pytest

from g3_agents.monitored.choice import Choice, ChoiceError


def test_a_task_changes_what_it_names_and_nothing_else() -> None:
    choice = Choice().changed({"channels": [12, 345, 12]})
    assert (choice.channels, choice.names, choice.target_rate_hz) == ((12, 345), ("r0012", "r0345"), 10.0)
    faster = choice.changed({"target_rate": 20})
    assert (faster.channels, faster.target_rate_hz, faster.period_us) == ((12, 345), 20.0, 50_000)
    assert faster.changed({"channels": []}).channels == ()


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        (12, "channels is a list of channel numbers, such as [12, 345], not 12"),
        ("12", "not '12'"),
        (None, "not None"),
        (["r0012"], "'r0012' is not a channel number from 0 to 9999"),
        ([True], "True is not a channel number"),
        ([-1], "-1 is not a channel number"),
        ([10_000], "10000 is not a channel number"),
        ([1.5], "1.5 is not a channel number"),
        ([float("nan")], "nan is not a channel number"),
        ([["x" * 1000]], "…"),
        (list(range(25)), "25 channels; at most 24 can be monitored at once"),
    ],
)
def test_other_channels_are_refused_in_one_line(channels: Any, said: str) -> None:
    with pytest.raises(ChoiceError) as refused:
        Choice().changed({"channels": channels})
    assert said in str(refused.value)
    assert len(str(refused.value)) < 120


@pytest.mark.parametrize(
    "rate", ["fast", "", None, True, 0, -1, 0.001, 101, float("nan"), float("inf"), [10], 10**400]
)
def test_other_rates_are_refused_in_one_line(rate: Any) -> None:
    with pytest.raises(ChoiceError) as refused:
        Choice().changed({"target_rate": rate})
    assert "is not a rate in Hz from 0.01 to 100" in str(refused.value)
    assert len(str(refused.value)) < 120
