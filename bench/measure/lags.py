"""How late the frames of many streams are readable: what was sent, put together with how the files grew. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Lag:
    """Of one frame. at: when it was handed to the kernel, s since the epoch. seconds: until a file had all of it."""

    stream: str
    at: float
    seconds: float


class MissingError(ValueError):
    """Frames that were sent are in no file; the message says whose."""


def lags(sent: Mapping[str, Any], grown: Mapping[str, Sequence[Sequence[tuple[int, int]]]]) -> list[Lag]:
    """Of each frame, as bench.load.streams_sender and bench.measure.streams_watcher tell of them. Raises
    MissingError.

    A file's frames are those that its last size has room for: it has nothing but frames, whole, all of one length.
    """
    found = []
    for stream, said in sent.items():
        length, times = said["bytes"], said["sent"]
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
    """Those of frames that were sent in that time, s since the epoch."""
    return [lag for lag in found if begin <= lag.at < end]


def quantiles(found: Iterable[Lag]) -> dict[str, float]:
    """p50, p99 and the most, s. Raises MissingError if there is none."""
    ordered = sorted(lag.seconds for lag in found)
    if not ordered:
        raise MissingError("no frame was sent in that time")
    last = len(ordered) - 1
    return {"p50": ordered[round(last * 0.5)], "p99": ordered[round(last * 0.99)], "max": ordered[-1]}


def late_until(found: Iterable[Lag], after: float, seconds: float) -> float:
    """For how long after that time frames became readable later than `seconds` after they were sent, s."""
    late = (lag.at + lag.seconds for lag in found if lag.seconds > seconds)
    return max((until - after for until in late if until > after), default=0.0)


def by_second(found: Iterable[Lag], begin: float) -> list[tuple[int, float]]:
    """The most in each second since `begin`, by when the frames were sent."""
    most: dict[int, float] = {}
    for lag in found:
        second = int(lag.at - begin)
        most[second] = max(most.get(second, 0.0), lag.seconds)
    return sorted(most.items())
