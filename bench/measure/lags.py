"""Lags from a frame's sending until it is readable in a file, for many streams. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Lag:
    """The lag of one frame."""

    stream: str
    at: float
    """When it was handed to the kernel, s since the epoch."""
    seconds: float
    """Time until a file had all of it."""


class MissingError(ValueError):
    """Frames that were sent are in no file. The message has the stream."""


def lags(sent: Mapping[str, Any], grown: Mapping[str, Sequence[Sequence[tuple[int, int]]]]) -> list[Lag]:
    """Return the lag of each frame. Raises MissingError.

    sent: the output of bench.load.streams_sender; grown: that of bench.measure.streams_watcher.
    A file's last size determines how many frames it has, because it has only whole frames of the same length.
    """
    found = []
    for stream, frames in sent.items():
        length, times = frames["bytes"], frames["sent"]
        number = 0
        for file in grown[stream]:
            sizes = [size for _, size in file]
            for nth in range(1, (sizes[-1] if sizes else 0) // length + 1):
                if number == len(times):
                    raise MissingError(f"{stream}: its files have more than the {number} frames that were sent")
                seen, _ = file[bisect_left(sizes, nth * length)]
                found.append(Lag(stream, times[number] / 1e9, (seen - times[number]) / 1e9))
                number += 1
        if number < len(times):
            raise MissingError(f"{stream}: {number} of {len(times)} frames are in its files")
    return found


def between(found: Iterable[Lag], begin: float, end: float) -> list[Lag]:
    """Return the lags of frames sent from `begin` to before `end`, s since the epoch."""
    return [lag for lag in found if begin <= lag.at < end]


def quantiles(found: Iterable[Lag]) -> dict[str, float]:
    """Return median (p50), 99th percentile (p99) and maximum, s. Raises MissingError if there is no frame."""
    ordered = sorted(lag.seconds for lag in found)
    if not ordered:
        raise MissingError("no frame was sent in that time")
    last = len(ordered) - 1
    return {"p50": ordered[round(last * 0.5)], "p99": ordered[round(last * 0.99)], "max": ordered[-1]}


def late_until(found: Iterable[Lag], after: float, seconds: float) -> float:
    """Return for how long after `after` frames became readable with a lag of more than `seconds`, s."""
    late = (lag.at + lag.seconds for lag in found if lag.seconds > seconds)
    return max((until - after for until in late if until > after), default=0.0)


def by_second(found: Iterable[Lag], begin: float) -> list[tuple[int, float]]:
    """Return the maximum lag for each second since `begin` in which frames were sent."""
    most: dict[int, float] = {}
    for lag in found:
        second = int(lag.at - begin)
        most[second] = max(most.get(second, 0.0), lag.seconds)
    return sorted(most.items())
