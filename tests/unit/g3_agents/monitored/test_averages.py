"""The averages of monitored channels: of known samples, whatever frames they come in."""

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.quicklook.look import AnswerError
from archiver.quicklook.so3g_decoder.bins import binned
from archiver.quicklook.so3g_decoder.samples import Scan
from g3_agents.monitored.averages import Average, Averager, feed_messages, frame_sums
from g3_agents.monitored.choice import Choice

BEGIN_US = 1_795_986_000_000_000
NAMES = ("r0000", "r0001", "r0002")


def scan(times_us: list[int], names: tuple[str, ...] = NAMES, values: Any = None) -> Scan:
    """Return a frame in which channel k has the value 1000 k + its time in ms."""
    times = np.array(times_us, np.int64)
    known = np.array([[1000 * k + (at - BEGIN_US) // 1000 for at in times_us] for k in range(len(names))], np.int32)
    counts = known.reshape(len(names), len(times_us)) if values is None else np.array(values)
    return Scan(1, names, counts, times / 1e6, None)


def averaged(scans: list[Scan], wanted: tuple[str, ...], period_us: int) -> list[Average]:
    """Return the averages over these frames. A sample before them is in the first bin, another ends the last."""
    averager = Averager(period_us)
    before, after = scan([BEGIN_US - 10**12], ("none",)), scan([BEGIN_US + 10**12])
    answer = {"frames": [binned(it, wanted, period_us) for it in [before, *scans, after]]}
    return [average for frame in frame_sums(answer, len(scans) + 2) for average in averager.add(frame)]


@given(
    steps=st.lists(st.sampled_from([1_000, 5_000, 5_001, 70_000, 400_000]), min_size=1, max_size=60),
    cuts=st.sets(st.integers(0, 60)),
    rate_hz=st.sampled_from([1.0, 3.0, 10.0, 100.0]),
)
def test_each_sample_is_in_the_average_of_its_time_whatever_frames_it_comes_in(
    steps: list[int], cuts: set[int], rate_hz: float
) -> None:
    times_us = (BEGIN_US + np.cumsum(steps)).tolist()
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(times_us)), len(times_us)]
    frames = [scan(times_us[a:b]) for a, b in pairwise(edges)]
    period_us = Choice((0, 2), rate_hz).period_us
    expected: dict[int, list[int]] = defaultdict(list)
    for at in times_us:
        expected[at // period_us].append(at)
    found = averaged(frames, ("r0000", "r0002"), period_us)
    assert [it.time_us // period_us for it in found] == list(expected)
    for average, own in zip(found, expected.values(), strict=True):
        ms = np.mean([(at - BEGIN_US) // 1000 for at in own])
        assert average.values == pytest.approx({"r0000": ms, "r0002": 2000 + ms})
        assert average.time_us == pytest.approx(np.mean(own), abs=1)


def test_the_first_average_is_left_out_as_reading_may_have_begun_within_its_time() -> None:
    averager, frames = Averager(100_000), [scan([BEGIN_US + 30_000 * k]) for k in range(20)]
    sums = frame_sums({"frames": [binned(it, NAMES, 100_000) for it in frames]}, 20)
    found = [average for it in sums for average in averager.add(it)]
    assert [it.time_us // 100_000 - BEGIN_US // 100_000 for it in found] == [1, 2, 3, 4]


def test_200_hz_averaged_to_10_hz_has_20_samples_in_each() -> None:
    times_us = [BEGIN_US + 5000 * k for k in range(400)]
    frames = [scan(times_us[at : at + 33]) for at in range(0, 400, 33)]
    found = averaged(frames, ("r0001",), Choice((1,), 10.0).period_us)
    assert [it.time_us for it in found] == [BEGIN_US + 47_500 + 100_000 * k for k in range(20)]
    assert [it.values["r0001"] for it in found] == [1047.5 + 100 * k for k in range(20)]


def test_a_higher_rate_than_the_samples_publishes_each_sample() -> None:
    times_us = [BEGIN_US + 50_000 * k for k in range(7)]
    found = averaged([scan(times_us)], ("r0000",), Choice((0,), 100.0).period_us)
    assert [(it.time_us, it.values["r0000"]) for it in found] == [(at, 50.0 * k) for k, at in enumerate(times_us)]


def test_a_channel_that_is_new_or_gone_begins_new_averages_and_what_is_not_finite_has_none() -> None:
    first, second, third = (BEGIN_US + 1000 * k for k in range(3))
    frames = [
        scan([first], NAMES[:1], [[3.0]]),
        scan([second], NAMES[:2], [[5.0], [7.0]]),
        scan([third], NAMES[:2], [[np.nan], [9.0]]),
    ]
    found = averaged(frames, NAMES, 100_000)
    assert [it.values for it in found] == [{"r0000": 3.0}, {"r0001": 8.0}]
    assert averaged([scan([])], NAMES, 100_000) == averaged([scan([first], ("r0007",))], NAMES, 100_000)[1:] == []


def test_messages_are_those_of_the_feed_of_socs() -> None:
    found = averaged([scan([BEGIN_US, BEGIN_US + 100_000])], NAMES[:2], 100_000)
    begin_s = BEGIN_US / 1e6
    assert list(feed_messages(found)) == [
        {"block_name": "r0000", "timestamps": [begin_s, begin_s + 0.1], "data": {"r0000": [0.0, 100.0]}},
        {"block_name": "r0001", "timestamps": [begin_s, begin_s + 0.1], "data": {"r0001": [1000.0, 1100.0]}},
    ]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"error": "the frames need more memory than the decoder may have"}, "more memory"),
        ({"frames": []}, "about 0 frames of 1"),
        (
            {"frames": [{"names": ["a"], "bins": [1], "counts": [1], "offsets_us": [0], "sums": [[]]}]},
            "a sum in each",
        ),
        ({"frames": [{"names": [], "bins": [1], "counts": [0], "offsets_us": [0], "sums": []}]}, "a sum in each"),
    ],
)
def test_another_answer_than_agreed_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(AnswerError, match=said):
        frame_sums(fields, 1)
