"""The numbers of quick look: noise, spectra, live channels and missing samples of data that are known."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.quicklook.look import channel, chosen_channels
from archiver.quicklook.so3g_decoder.look import RAD_PER_COUNT
from archiver.quicklook.so3g_decoder.samples import Samples, Scan, join
from archiver.quicklook.so3g_decoder.spectra import (
    SHORTEST_SEGMENT,
    even_bins,
    log_bins,
    noise_band_hz,
    power_spectra,
    segment_length,
    segment_starts,
)
from tests.unit.archiver.quicklook.known import BEGIN_S, RATE_HZ, SIGMA_COUNTS, look_at, scans, white


def joined(frames: Sequence[Scan], seconds: float = 10.0) -> Samples:
    found = join(frames, seconds)
    assert found is not None
    return found


def test_white_noise_of_a_known_level_gives_that_level() -> None:
    found = look_at(scans(white(400, 2000)))
    expected = SIGMA_COUNTS * math.pi / 2**15 / math.sqrt(RATE_HZ / 2)
    assert found.numbers.sample_rate_hz == pytest.approx(RATE_HZ, rel=1e-6)
    assert found.numbers.band_hz == (5.0, 50.0)
    assert found.noise_quartiles is not None
    lower, median, upper = found.noise_quartiles
    assert median == pytest.approx(expected, rel=0.02)
    assert 0.9 * expected < lower < median < upper < 1.1 * expected
    shown = channel(found, 0)
    assert np.median([it for it in shown.spectrum if it]) == pytest.approx(expected, rel=0.2)


def test_a_sine_has_its_peak_at_its_frequency_and_its_power() -> None:
    for frequency_hz in (7.8125, 20.0, 61.3):
        time_s = np.arange(2000) / RATE_HZ
        counts = np.round(1000 * np.sin(2 * np.pi * frequency_hz * time_s))[None, :].astype(np.int32)
        found = look_at(scans(counts)).numbers
        step_hz = found.frequencies_hz[1] - found.frequencies_hz[0]
        psd = np.array(found.median, float) ** 2
        assert found.frequencies_hz[int(psd.argmax())] == pytest.approx(frequency_hz, abs=step_hz / 2 + 1e-6)
        # Parseval: all its power is half the square of the amplitude.
        assert psd.sum() * step_hz == pytest.approx((1000 * RAD_PER_COUNT) ** 2 / 2, rel=0.02)
        shown = channel(look_at(scans(counts)), 0)
        assert max(it for it in shown.maxima if it is not None) == pytest.approx(
            counts.max() * RAD_PER_COUNT, rel=0.01
        )
        bins = found.bin_frequencies_hz
        peak = bins[max(range(len(bins)), key=lambda at: shown.spectrum[at] or 0)]
        assert peak == pytest.approx(frequency_hz, rel=0.05, abs=step_hz)


def test_channels_that_are_constant_or_not_finite_are_not_live() -> None:
    counts = white(5, 2000).astype(np.float32)
    counts[1] = 17
    counts[2, 300] = np.nan
    counts[3, 5] = np.inf
    found = look_at(scans(counts))
    assert found.numbers.live == [True, False, False, False, True]
    assert found.live_channels == 2
    assert [it is None for it in found.numbers.noise] == [False, True, True, True, False]
    assert chosen_channels(found.numbers, []) == ([0, 4], [])
    assert None in channel(found, 2).maxima
    assert channel(found, 1).spectrum == []
    assert all(it is not None for it in found.numbers.median)


def test_a_dropped_sample_is_counted_and_no_segment_spans_it() -> None:
    counter = [*range(700), *range(701, 1500), *range(1507, 2007)]
    found = joined(scans(white(3, 1999), np.array(counter)), seconds=11)
    assert found.missing == 1 + 7
    assert [it.missing for it in found.gaps] == [1, 7]
    assert [round(RATE_HZ * (it.time_s - BEGIN_S)) for it in found.gaps] == [701, 1507]
    assert found.runs == ((0, 700), (700, 1499), (1499, 1999))
    length = segment_length(found.runs)
    assert length is not None
    for start in segment_starts(found.runs, length):
        assert any(begin <= start and start + length <= end for begin, end in found.runs)


def test_a_counter_that_begins_again_is_a_gap_of_unknown_length() -> None:
    frames = scans(white(2, 400), np.array([*range(1000, 1200), *range(200)]))
    assert [it.missing for it in joined(frames, 1000).gaps] == [None]
    assert joined(frames, 1000).missing == 0


def test_only_the_newest_session_with_the_same_channels_is_looked_at() -> None:
    before, after = scans(white(3, 200), session=4), scans(white(3, 100), np.array(range(200, 300)), session=5)
    found = joined([*before, *after])
    assert (found.session, found.times_s.size, found.frames, found.other_frames) == (5, 100, 2, 4)
    fewer = scans(white(2, 100), np.array(range(200, 300)), session=4)
    assert joined([*before, *fewer]).names == ("r0000", "r0001")


def test_only_the_latest_seconds_are_looked_at() -> None:
    found = joined(scans(white(2, 2000)), seconds=3)
    assert found.times_s.size == 3 * RATE_HZ + 1
    assert found.times_s[-1] == BEGIN_S + 1999 / RATE_HZ


def test_frames_without_samples_or_channels_are_no_look() -> None:
    assert join([], 10) is None
    assert join(scans(white(0, 10)), 10) is None
    assert join(scans(white(3, 10)[:, :0], frame=1), 10) is None


def test_frames_without_a_counter_have_an_unknown_number_missing() -> None:
    [frame] = scans(white(2, 50))
    assert joined([Scan(5, frame.names, frame.counts, frame.times_s, None)]).missing is None


@pytest.mark.parametrize("samples", [1, 2, SHORTEST_SEGMENT - 1, SHORTEST_SEGMENT, 100, 2000])
def test_a_look_has_whatever_so_few_samples_give(samples: int) -> None:
    found = look_at(scans(white(3, samples)))
    assert found.numbers.samples == samples
    assert (found.numbers.band_hz is not None) == (samples >= SHORTEST_SEGMENT)
    assert (found.noise_quartiles is not None) == (samples >= SHORTEST_SEGMENT)
    for number in range(3):
        shown = channel(found, number)
        assert len(shown.maxima) == min(samples, 250)
        assert len(shown.spectrum) in (0, len(found.numbers.bin_frequencies_hz))


def test_times_that_make_no_sense_give_no_rate_and_no_spectrum() -> None:
    [frame] = scans(white(2, 50))
    times_s = np.full(50, BEGIN_S)
    found = look_at([Scan(5, frame.names, frame.counts, times_s, frame.counter)])
    assert found.numbers.sample_rate_hz is None
    assert found.numbers.frequencies_hz == []


@given(rate_hz=st.floats(0.5, 50_000))
def test_the_band_is_below_half_the_sample_rate(rate_hz: float) -> None:
    low, high = noise_band_hz(rate_hz)
    assert 0 < low < high < rate_hz / 2
    assert high <= 50 or rate_hz / 2 <= 2 * low or high <= 0.8 * rate_hz / 2


@given(count=st.integers(1, 3000), most=st.integers(1, 300))
def test_bins_cover_everything_once_and_are_not_too_many(count: int, most: int) -> None:
    for starts in (even_bins(count, most), log_bins(count, most)):
        assert starts[0] == 0
        assert len(starts) <= most
        assert (np.diff([*starts, count]) > 0).all()


@given(
    runs=st.lists(st.integers(1, 3000), min_size=1, max_size=6),
    sigma=st.floats(0.1, 1e4),
)
def test_spectra_are_never_negative_and_have_the_power_of_the_signal(runs: list[int], sigma: float) -> None:
    edges = np.cumsum([0, *runs]).tolist()
    spans = list(pairwise(edges))
    length = segment_length(spans)
    if length is None:
        assert max(runs) < SHORTEST_SEGMENT
        return
    signal = np.random.default_rng(1).normal(0, sigma, (4, edges[-1])).astype(np.float32)
    frequencies, psd = power_spectra(signal, segment_starts(spans, length), length, RATE_HZ)
    assert (psd >= 0).all()
    assert 0 < frequencies[0] < frequencies[-1] < RATE_HZ / 2
    power = psd.mean() * RATE_HZ / 2
    assert power == pytest.approx(sigma**2, rel=0.6)


@given(steps=st.lists(st.integers(-5, 9), min_size=1, max_size=200))
def test_every_missing_sample_is_counted(steps: list[int]) -> None:
    counter = np.cumsum([10_000, *steps]).tolist()
    found = joined(scans(white(1, len(counter)), np.array(counter), frame=7), seconds=1e6)
    assert found.missing == sum(step - 1 for step in steps if step > 1)
    assert len(found.gaps) == sum(step != 1 for step in steps)
    assert sum(end - begin for begin, end in found.runs) == len(counter)
