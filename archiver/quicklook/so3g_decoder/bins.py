"""Sums of some channels' samples over time bins, of one Scan frame. Pure.

Bins begin at multiples of their length since the epoch, so that a program that adds the sums of a bin that spans two
frames needs nothing but its number.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .samples import Scan


def binned(scan: Scan, names: Sequence[str], period_us: int) -> dict[str, Any]:
    """Return the sums of those of these channels that the frame has, for JSON.

    `names` are these channels; then for each bin in which the frame has samples, in their order: `bins`, its number;
    `counts` of its samples; `offsets_us`, the sum of their times since its beginning. `sums` has a list for each
    channel, with the sum of its values in each bin, in the units of the readout; null if that isn't finite.
    """
    place = {name: number for number, name in enumerate(scan.names)}
    there = [name for name in dict.fromkeys(names) if name in place]
    times_us = np.rint(scan.times_s * 1e6).astype(np.int64)
    if not times_us.size:
        return {"names": there, "bins": [], "counts": [], "offsets_us": [], "sums": [[] for _ in there]}
    bins = times_us // period_us
    starts = np.concatenate([[0], np.flatnonzero(np.diff(bins)) + 1])
    values = scan.counts[[place[name] for name in there]].astype(np.float64)
    sums = np.add.reduceat(values, starts, axis=1)
    return {
        "names": there,
        "bins": bins[starts].tolist(),
        "counts": np.diff([*starts, times_us.size]).tolist(),
        "offsets_us": np.add.reduceat(times_us - bins * period_us, starts).tolist(),
        "sums": [[value if math.isfinite(value) else None for value in row] for row in sums.tolist()],
    }
