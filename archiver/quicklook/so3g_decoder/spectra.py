"""Spectra and noise of channels. Pure.

The power spectral density (PSD) is Welch's: segments that overlap by half, each without its mean and with a Hann
window, one-sided, averaged. No segment has a gap in it.

The white noise level is the square root of the median of the PSD over a band, in which a few lines don't matter. The
median of an average of K periodograms is below its mean, by (1 - 1 / 9K)³, the median of a χ² distribution with 2K
degrees of freedom (Wilson and Hilferty); that is corrected, as sotodlib's `calc_wn` does.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

LONGEST_SEGMENT: Final = 1024
"""Samples: 5 s at 200 Hz, so 0.2 Hz between two frequencies."""
SHORTEST_SEGMENT: Final = 32
"""With fewer samples in a row there is no spectrum."""
BAND_HZ: Final = (5.0, 50.0)
"""Of the white noise level, if the sample rate allows."""
_OF_NYQUIST: Final = (0.2, 0.8)
"""The band's limits as shares of half the sample rate: never above the second; between them, if that is slow."""
_SEGMENTS_WANTED: Final = 6
_OVERLAP_LOSS: Final = 1.056
"""By so much, segments that overlap by half are fewer independent ones, with a Hann window."""


def noise_band_hz(rate_hz: float) -> tuple[float, float]:
    """Return the band of the white noise level at this sample rate."""
    low, high = (share * rate_hz / 2 for share in _OF_NYQUIST)
    return (BAND_HZ[0], min(BAND_HZ[1], high)) if high >= 2 * BAND_HZ[0] else (low, high)


def segment_length(runs: Sequence[tuple[int, int]]) -> int | None:
    """Return how many samples each segment has; None if no stretch is long enough.

    A power of two, so that the longest stretch has several segments.
    """
    longest = max((end - start for start, end in runs), default=0)
    length = LONGEST_SEGMENT
    while length > SHORTEST_SEGMENT and longest < length * (_SEGMENTS_WANTED + 1) // 2:
        length //= 2
    return length if longest >= length else None


def segment_starts(runs: Sequence[tuple[int, int]], length: int) -> list[int]:
    """Return the first sample of each segment."""
    return [start for begin, end in runs for start in range(begin, end - length + 1, length // 2)]


def power_spectra(signal: Floats, starts: Sequence[int], length: int, rate_hz: float) -> tuple[Floats, Floats]:
    """Return the frequencies in Hz, and each channel's PSD in units² per Hz.

    Without 0 and half the sample rate, of which there is only a real part.
    """
    window = np.hanning(length + 1)[:-1].astype(np.float32)
    total = np.zeros((signal.shape[0], length // 2 + 1), np.float32)
    for start in starts:
        part = signal[:, start : start + length]
        transformed = np.fft.rfft((part - part.mean(axis=1, keepdims=True)) * window)
        total += transformed.real**2 + transformed.imag**2
    total *= 2 / (len(starts) * rate_hz * float((window.astype(np.float64) ** 2).sum()))
    return frequencies_hz(length, rate_hz), total[:, 1:-1]


def frequencies_hz(length: int, rate_hz: float) -> Floats:
    """Return the frequencies of the spectra of segments of that many samples."""
    return np.fft.rfftfreq(length, 1 / rate_hz)[1:-1]


def white_noise(at_hz: Floats, psd: Floats, segments: int, band_hz: tuple[float, float]) -> Floats:
    """Return each channel's white noise level in units per √Hz; NaN without a frequency in the band."""
    inside = (at_hz >= band_hz[0]) & (at_hz <= band_hz[1])
    if not inside.any():
        return np.full(psd.shape[0], np.nan, np.float32)
    independent = max(1.0, segments / _OVERLAP_LOSS)
    bias: float = (1 - 1 / (9 * independent)) ** 3
    return np.asarray(np.sqrt(np.median(psd[:, inside], axis=1) / bias))


def is_live(counts: NDArray[np.number]) -> NDArray[np.bool_]:
    """Return which channels are live: finite, and not constant."""
    live: NDArray[np.bool_] = np.isfinite(counts).all(axis=1) & (counts.max(axis=1) != counts.min(axis=1))
    return live


def log_bins(count: int, most: int) -> NDArray[np.intp]:
    """Return where each bin begins, of at most so many that divide `count` values: single ones, then ever wider."""
    edges = np.unique(np.round(np.geomspace(1, count + 1, most + 1)).astype(np.intp))[:-1] - 1
    return np.asarray(edges, np.intp)


def even_bins(count: int, most: int) -> NDArray[np.intp]:
    """Return where each bin begins, of at most so many that divide `count` values evenly."""
    bins = min(count, most)
    return np.arange(bins, dtype=np.intp) * count // bins


def bin_means(values: Floats, starts: NDArray[np.intp]) -> Floats:
    """Return the means of the bins along the last axis."""
    sizes = np.diff([*starts, values.shape[-1]])
    return np.asarray(np.add.reduceat(values, starts, axis=-1) / sizes)


def blocks(count: int, size: int) -> Iterator[slice]:
    """Yield consecutive slices, which keep the memory of what is computed small."""
    for start in range(0, count, size):
        yield slice(start, min(count, start + size))
