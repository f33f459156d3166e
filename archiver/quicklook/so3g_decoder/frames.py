"""Scan frames of SMuRF's streamer, decoded by so3g."""

from typing import Any, Final

import numpy as np
import so3g
from numpy.typing import NDArray
from spt3g import core  # so3g's own, which has taken this name

from .samples import Scan

MAX_VALUES: Final = 64 << 20
"""Of all frames of a look: 10 s of 2,000 channels at 200 Hz are 4 million. A small frame can claim to be huge."""
_COUNTER: Final = "FrameCounter"
_G3_TIME_PER_S: Final = 1e8


def decode(data: bytes, max_values: int = MAX_VALUES) -> Scan:
    """Return what a Scan frame has. Raises RuntimeError, as so3g does, KeyError and ValueError if it isn't one."""
    frame = core.G3Frame()
    frame.__setstate__(({}, data))
    stream = frame["data"]
    if not isinstance(stream, so3g.G3SuperTimestream):
        raise ValueError(f"`data` is a {type(stream).__name__}, not a G3SuperTimestream")
    names, times = tuple(stream.names), np.asarray(stream.times, np.int64)
    if len(names) * times.size > max_values:
        raise ValueError(f"{len(names):,} channels with {times.size:,} samples are more than is looked at")
    counts = np.asarray(stream.data)
    if counts.shape != (len(names), times.size):
        raise ValueError(f"an array of {counts.shape} for {len(names)} channels and {times.size} samples")
    return Scan(_session(frame), names, counts, times / _G3_TIME_PER_S, _counter(frame, times.size))


def _session(frame: Any) -> int | None:
    session = frame.get("session_id", None)
    return session if type(session) is int else None  # a G3Bool is an int, too


def _counter(frame: Any, size: int) -> NDArray[np.int64] | None:
    if "primary" not in frame or not isinstance(frame["primary"], so3g.G3SuperTimestream):
        return None
    primary = frame["primary"]
    names = list(primary.names)
    if _COUNTER not in names:
        return None
    counter = np.asarray(primary.data[names.index(_COUNTER)], np.int64)
    return counter if counter.size == size else None
