"""The samples of the latest seconds, joined from Scan frames, and where some are missing. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Scan:
    """A Scan frame."""

    session: int | None
    names: tuple[str, ...]
    """Of the channels."""
    counts: NDArray[np.number]
    """Channels × samples, in the units of the readout."""
    times_s: NDArray[np.float64]
    """Of the samples, since the epoch."""
    counter: NDArray[np.int64] | None
    """FrameCounter of each sample; None if the frame has none."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Where samples are missing, or the counter has begun again."""

    time_s: float
    """Of the first sample after it, since the epoch."""
    missing: int | None
    """How many samples; None if the counter didn't go forward."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of the latest seconds of one session."""

    session: int | None
    names: tuple[str, ...]
    counts: NDArray[np.number]
    times_s: NDArray[np.float64]
    runs: tuple[tuple[int, int], ...]
    """First sample, and the one after the last, of each stretch without a gap."""
    gaps: tuple[Gap, ...]
    rate_hz: float | None
    """Samples per second; None if that can't be known."""
    has_counter: bool
    frames: int
    other_frames: int
    """Frames before these, of another session or with other channels."""

    @property
    def missing(self) -> int | None:
        """How many samples are missing; None if that isn't known, as there is no counter."""
        return sum(gap.missing or 0 for gap in self.gaps) if self.has_counter else None


def join(scans: Sequence[Scan], seconds: float) -> Samples | None:
    """Return the latest seconds of these frames, which are in order; None if they have no sample."""
    scans = [it for it in scans if it.counts.shape[1] and it.names]
    if not scans:
        return None
    newest = scans[-1]
    first = len(scans) - 1
    while first and _belong_together(scans[first - 1], newest):
        first -= 1
    used = scans[first:]
    times_s = np.concatenate([it.times_s for it in used])
    since = int(np.argmax(times_s >= times_s[-1] - seconds))
    counters = [it.counter for it in used if it.counter is not None]
    counter = np.concatenate(counters)[since:] if len(counters) == len(used) else None
    times_s = times_s[since:]
    breaks, gaps = _gaps(counter, times_s)
    edges = [0, *breaks, times_s.size]
    return Samples(
        newest.session,
        newest.names,
        np.concatenate([it.counts for it in used], axis=1)[:, since:],
        times_s,
        tuple(pairwise(edges)),
        gaps,
        _rate_hz(times_s),
        counter is not None,
        len(used),
        first,
    )


def _belong_together(scan: Scan, newest: Scan) -> bool:
    same = (scan.session, scan.counts.dtype, scan.counter is None) == (
        *(newest.session, newest.counts.dtype),
        newest.counter is None,
    )
    return same and scan.names == newest.names


def _gaps(counter: NDArray[np.int64] | None, times_s: NDArray[np.float64]) -> tuple[list[int], tuple[Gap, ...]]:
    """Return where stretches without a gap begin, but for the first, and the gaps before them."""
    if counter is None:
        return [], ()
    steps = np.diff(counter)
    breaks = [int(it) + 1 for it in np.flatnonzero(steps != 1)]
    gaps = [
        Gap(float(times_s[at]), step - 1 if step > 1 else None)
        for at, step in zip(breaks, map(int, steps[steps != 1]), strict=True)
    ]
    return breaks, tuple(gaps)


def _rate_hz(times_s: NDArray[np.float64]) -> float | None:
    """Return the sample rate. The median: neither gaps nor a few wrong times change it."""
    if times_s.size < 2:
        return None
    step_s = float(np.median(np.diff(times_s)))
    if not np.isfinite(step_s) or step_s <= 0:
        return None
    # With steps like the usual one, times that jitter by some ms give a better rate in the mean.
    steps = np.diff(times_s)
    usual = steps[np.abs(steps - step_s) < step_s / 2]
    return float(1 / (usual.mean() if usual.size else step_s))
