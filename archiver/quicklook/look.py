"""A look at a stream's latest seconds: what the decoder answers, checked, and some of its channels. Pure."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

SHOWN_CHANNELS: Final = 6
"""If none are chosen."""
MAX_SHOWN: Final = 24
"""Channels that are shown at once, if they are chosen."""
_FLOAT_BYTES: Final = 2
_DIGITS: Final = 4
"""Those of 16-bit floats."""


class AnswerError(ValueError):
    """The decoder's answer has another form than agreed."""


class Gap(msgspec.Struct, frozen=True):
    """Where samples are missing."""

    time_ms: int
    missing: int | None
    """How many; None if FrameCounter didn't go forward."""


class Numbers(msgspec.Struct, frozen=True):
    """The fields of the decoder's answer. Units: rad, rad/√Hz, Hz, s; times in ms since the epoch."""

    session: int | None
    begin_ms: int
    """Of the first sample."""
    end_ms: int
    """Of the last sample, by the clock of the readout."""
    samples: int
    sample_rate_hz: float | None
    frames: int
    other_frames: int
    """Frames before these, of another session or with other channels."""
    undecodable: int
    """Frames."""
    undecodable_why: str | None
    missing: int | None
    """Samples, by FrameCounter; None if there is none."""
    gaps: list[Gap]
    """The newest ones."""
    all_gaps: int
    channels: list[str]
    live: list[bool]
    noise: list[float | None]
    """Each channel's white noise level."""
    band_hz: tuple[float, float] | None
    """Of the white noise level; None if there are too few samples for a spectrum."""
    frequencies_hz: list[float]
    median: list[float | None]
    """The median of the live channels' spectra."""
    lower: list[float | None]
    """Their lower quartile."""
    upper: list[float | None]
    bin_times_s: list[float]
    """When each time bin begins, before the last sample: negative."""
    bin_frequencies_hz: list[float]


@dataclass(frozen=True, slots=True)
class Look:
    """A look. series, spectra: see so3g_decoder/look.py."""

    numbers: Numbers
    series: bytes
    spectra: bytes
    left_out: int = 0
    """Frames that weren't looked at, as they exceed the memory for a look."""

    @property
    def live_channels(self) -> int:
        """How many channels are live."""
        return sum(self.numbers.live)

    @property
    def noise_quartiles(self) -> tuple[float, float, float] | None:
        """The lower quartile, median and upper quartile of the live channels' white noise levels."""
        found = sorted(it for it in self.numbers.noise if it is not None)
        if not found:
            return None
        lower, median, upper = (_quantile(found, share) for share in (0.25, 0.5, 0.75))
        return lower, median, upper


class Channel(msgspec.Struct, frozen=True):
    """One channel, as it is shown."""

    name: str
    is_live: bool
    noise: float | None
    minima: list[float | None]
    """Of each time bin, in rad about the channel's median."""
    maxima: list[float | None]
    spectrum: list[float | None]
    """In each frequency bin, in rad/√Hz."""


def look_from(fields: dict[str, Any], parts: Sequence[bytes], left_out: int) -> Look:
    """Return the look that the decoder has answered. left_out: frames. Raises AnswerError."""
    try:
        numbers = msgspec.convert(fields, Numbers)
    except msgspec.ValidationError as error:
        raise AnswerError(f"the decoder's answer: {error}") from None
    count = len(numbers.channels)
    sizes = [2 * len(numbers.bin_times_s), len(numbers.bin_frequencies_hz)]
    if [len(part) for part in parts] != [_FLOAT_BYTES * count * size for size in sizes]:
        raise AnswerError(f"the decoder's answer has parts of {[len(part) for part in parts]} bytes")
    if {len(numbers.live), len(numbers.noise)} != {count}:
        raise AnswerError("the decoder's answer: `live` and `noise` don't have a value for each channel")
    if {len(it) for it in (numbers.median, numbers.lower, numbers.upper)} != {len(numbers.frequencies_hz)}:
        raise AnswerError("the decoder's answer: the median spectrum doesn't have a value for each frequency")
    series, spectra = parts
    return Look(numbers, series, spectra, left_out)


def chosen_channels(numbers: Numbers, wanted: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return the numbers of the channels to show, and the names that aren't there.

    wanted: their names; if none, some live ones are chosen, evenly.
    """
    if wanted:
        place = {name: number for number, name in enumerate(numbers.channels)}
        return [place[it] for it in wanted if it in place], [it for it in wanted if it not in place]
    live = [number for number, is_live in enumerate(numbers.live) if is_live]
    count = min(SHOWN_CHANNELS, len(live))
    # In the middle of equal parts: the first and the last channels are rarely typical.
    return [live[(2 * part + 1) * len(live) // (2 * count)] for part in range(count)], []


def channel(look: Look, number: int) -> Channel:
    """Return a channel. number: its place among the channels."""
    numbers = look.numbers
    bins = len(numbers.bin_times_s)
    series = _floats(look.series, number, 2 * bins)
    spectrum = [None if it is None else _rounded(10**it) for it in _floats(look.spectra, number, _bins(numbers))]
    return Channel(
        numbers.channels[number],
        numbers.live[number],
        numbers.noise[number],
        series[:bins],
        series[bins:],
        spectrum if numbers.live[number] else [],
    )


def _bins(numbers: Numbers) -> int:
    return len(numbers.bin_frequencies_hz)


def _floats(data: bytes, row: int, count: int) -> list[float | None]:
    values = struct.unpack_from(f"<{count}e", data, row * count * _FLOAT_BYTES)
    return [_rounded(it) if math.isfinite(it) else None for it in values]


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values, between two of them in proportion."""
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])
