"""A look: the numbers of the latest seconds, for each channel and in all. Pure.

The fields, in JSON: see `Numbers` in archiver/quicklook/look.py. The two parts are arrays of 16-bit floats,
little-endian, in order of the channels: `series`, for each channel the minima and then the maxima of each time bin,
in rad about its median; `spectra`, for each the square root of the PSD's mean in each frequency bin, as its decimal
logarithm.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .samples import Samples
from .spectra import (
    bin_means,
    blocks,
    even_bins,
    frequencies_hz,
    is_live,
    log_bins,
    noise_band_hz,
    power_spectra,
    segment_length,
    segment_starts,
    white_noise,
)

RAD_PER_COUNT: Final = math.pi / 2**15
"""From the readout's counts to the phase of the SQUID, as in sotodlib's load_smurf.py (`rad_per_count`)."""
TIME_BINS: Final = 250
"""Of a time series: as many as a phone's screen can show."""
FREQUENCY_BINS: Final = 96
MAX_GAPS: Final = 20
"""The newest ones are listed, all are counted."""
_BLOCK: Final = 128
"""Channels of which spectra are computed at once: 2 MB at a time."""


def numbers(samples: Samples) -> tuple[dict[str, Any], list[bytes]]:
    """Return the fields and parts of a look."""
    counts, times_s = samples.counts, samples.times_s
    live = is_live(counts)
    bins = even_bins(times_s.size, TIME_BINS)
    series = np.stack([np.minimum.reduceat(counts, bins, axis=1), np.maximum.reduceat(counts, bins, axis=1)], axis=1)
    middle = np.median(counts, axis=1)[:, None, None]
    with np.errstate(invalid="ignore", over="ignore"):  # what isn't finite stays so
        series_rad = (RAD_PER_COUNT * (series - middle)).astype("<f2")
    spectral, spectra = _spectral(samples, live)
    fields = {
        "session": samples.session,
        "begin_ms": round(1000 * float(times_s[0])),
        "end_ms": round(1000 * float(times_s[-1])),
        "samples": int(times_s.size),
        "sample_rate_hz": samples.rate_hz,
        "frames": samples.frames,
        "other_frames": samples.other_frames,
        "missing": samples.missing,
        "gaps": [{"time_ms": round(1000 * it.time_s), "missing": it.missing} for it in samples.gaps[-MAX_GAPS:]],
        "all_gaps": len(samples.gaps),
        "channels": list(samples.names),
        "live": live.tolist(),
        "bin_times_s": _plain(times_s[bins] - times_s[-1]),
        **spectral,
    }
    return fields, [series_rad.tobytes(), spectra]


def _spectral(samples: Samples, live: NDArray[np.bool_]) -> tuple[dict[str, Any], bytes]:
    """Return the fields about spectra and noise, and the part `spectra`."""
    count = len(samples.names)
    length, rate_hz = segment_length(samples.runs), samples.rate_hz
    if length is None or rate_hz is None:
        nothing: list[float] = []
        empty = {name: nothing for name in ("frequencies_hz", "median", "lower", "upper", "bin_frequencies_hz")}
        return {"band_hz": None, "noise": [None] * count, **empty}, b""
    starts, band_hz = segment_starts(samples.runs, length), noise_band_hz(rate_hz)
    frequencies = frequencies_hz(length, rate_hz)
    psd = np.full((count, frequencies.size), np.nan, np.float32)
    noise = np.full(count, np.nan, np.float32)
    for block in blocks(count, _BLOCK):
        chosen = np.flatnonzero(live[block]) + block.start
        if chosen.size:
            # About the first value, so that 32 bits are enough: counts are large, and their changes small.
            raw = samples.counts[chosen]
            signal = (RAD_PER_COUNT * (raw - raw[:, :1].astype(np.float64))).astype(np.float32)
            _, psd[chosen] = power_spectra(signal, starts, length, rate_hz)
            noise[chosen] = white_noise(frequencies, psd[chosen], len(starts), band_hz)
    bins = log_bins(frequencies.size, FREQUENCY_BINS)
    with np.errstate(divide="ignore", invalid="ignore"):
        spectra = (np.log10(bin_means(psd, bins)) / 2).astype("<f2")
    lower, median, upper = np.full((3, frequencies.size), np.nan)
    if live.any():
        lower, median, upper = np.sqrt(np.percentile(psd[live], (25, 50, 75), axis=0))
    fields = {
        "band_hz": list(band_hz),
        "noise": _plain(noise),
        "frequencies_hz": _plain(frequencies),
        "median": _plain(median),
        "lower": _plain(lower),
        "upper": _plain(upper),
        "bin_frequencies_hz": _plain(bin_means(frequencies, bins)),
    }
    return fields, spectra.tobytes()


def _plain(values: Sequence[float] | NDArray[np.floating]) -> list[float | None]:
    """Return numbers with 6 digits for JSON, which has no NaN."""
    return [float(f"{it:.6g}") if math.isfinite(it) else None for it in np.asarray(values, np.float64).tolist()]
