"""Averages over time bins, joined across the borders of frames, and the messages of the feed. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from archiver.quicklook.look import AnswerError


class FrameSums(msgspec.Struct, frozen=True):
    """The sums of one frame's samples in time bins, as the decoder answers them (so3g_decoder/bins.py)."""

    names: list[str] = []
    bins: list[int] = []
    counts: list[int] = []
    offsets_us: list[int] = []
    sums: list[list[float | None]] = []
    why: str | None = None
    """Why the frame can't be decoded."""


class _Answer(msgspec.Struct, frozen=True):
    frames: list[FrameSums]


@dataclass(frozen=True, slots=True)
class Average:
    """The average of each channel over one time bin. time_us: the mean time of its samples, since the epoch."""

    time_us: int
    values: Mapping[str, float]


@dataclass(slots=True)
class _OpenBin:
    """A bin to which the next frame may add samples."""

    number: int
    names: Sequence[str]
    count: int
    offset_us: int
    sums: list[float | None]


def frame_sums(fields: Mapping[str, Any], frames: int) -> list[FrameSums]:
    """Return what the decoder has answered about that many frames. Raises AnswerError."""
    try:
        found = msgspec.convert(fields, _Answer).frames
    except msgspec.ValidationError as error:
        raise AnswerError(f"the decoder's answer: {fields.get('error') or error}") from None
    if len(found) != frames:
        raise AnswerError(f"the decoder's answer is about {len(found)} frames of {frames}")
    for it in found:
        sizes = {len(it.counts), len(it.offsets_us), *map(len, it.sums)}
        if len(it.sums) != len(it.names) or sizes - {len(it.bins)} or min(it.counts, default=1) < 1:
            raise AnswerError("the decoder's answer: not every channel has a sum in each bin")
    return found


class Averager:
    """Averager of a stream's channels: each sample is in one average, of its bin. period_us: a bin's length.

    A bin is complete at the next sample that isn't in it. The first is left out: reading may have begun within it.
    """

    def __init__(self, period_us: int) -> None:
        self._period_us = period_us
        self._open: _OpenBin | None = None
        self._is_first = True

    def add(self, frame: FrameSums) -> list[Average]:
        """Return the averages that a frame completes. Frames come in order."""
        found = []
        for at, number in enumerate(frame.bins):
            sums = [channel[at] for channel in frame.sums]
            open_bin = self._open
            if open_bin and open_bin.number == number and open_bin.names == frame.names:
                open_bin.count += frame.counts[at]
                open_bin.offset_us += frame.offsets_us[at]
                open_bin.sums = [_sum(a, b) for a, b in zip(open_bin.sums, sums, strict=True)]
                continue
            if open_bin and not self._is_first:
                found.append(self._average(open_bin))
            self._is_first = open_bin is None
            self._open = _OpenBin(number, frame.names, frame.counts[at], frame.offsets_us[at], sums)
        return found

    def _average(self, complete: _OpenBin) -> Average:
        time_us = complete.number * self._period_us + round(complete.offset_us / complete.count)
        named = zip(complete.names, complete.sums, strict=True)
        return Average(time_us, {name: value / complete.count for name, value in named if value is not None})


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b


def feed_messages(averages: Sequence[Average]) -> Iterator[dict[str, Any]]:
    """Yield the messages for the feed: one for each channel, as SmurfRecorder of socs has published them."""
    for name in dict.fromkeys(name for it in averages for name in it.values):
        own = [it for it in averages if name in it.values]
        yield {
            "block_name": name,
            "timestamps": [it.time_us / 1_000_000 for it in own],
            "data": {name: [it.values[name] for it in own]},
        }
