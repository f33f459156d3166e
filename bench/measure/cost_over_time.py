"""CPU, memory and threads of processes over time."""

import re
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bench.measure.process_cost import cpu_seconds

_MEGABYTE = 1e6


@dataclass(slots=True)
class Course:
    """Samples of one process."""

    times: list[float] = field(default_factory=list)
    """Time of each sample, s since the sampling began."""
    memory: list[float] = field(default_factory=list)
    """Anonymous memory, MB."""
    cpu: list[float] = field(default_factory=list)
    """CPU seconds since the process started."""
    threads: int = 0
    """Number of threads in the last sample."""

    def cores(self, since: float = 0.0) -> float:
        """Return CPU seconds per second, from `since` on."""
        seen = [(time, cpu) for time, cpu in zip(self.times, self.cpu, strict=True) if time >= since]
        if len(seen) < 2:
            return 0.0
        return (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])

    def growth(self) -> float:
        """Return the slope of its memory in the last half of the time, MB per hour."""
        half = len(self.times) // 2
        return 3600 * slope(self.times[half:], self.memory[half:])


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope of a linear least-squares fit; 0 with fewer than two points."""
    if len(xs) < 2:
        return 0.0
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    square = sum((x - middle_x) ** 2 for x in xs)
    return sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / square if square else 0.0


class Courses:
    """A context manager that samples processes, by name, every `every` seconds."""

    def __init__(self, pids: Mapping[str, int], every: float = 1.0) -> None:
        self.of = {name: Course() for name in pids}
        self._pids = pids
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        begun = time.monotonic()
        while True:
            for name, pid in self._pids.items():
                with suppress(OSError):  # it has ended
                    status = Path(f"/proc/{pid}/status").read_text()
                    memory = re.search(r"RssAnon:\s+(\d+) kB", status)
                    threads = re.search(r"Threads:\s+(\d+)", status)
                    if memory and threads:
                        course = self.of[name]
                        course.cpu.append(cpu_seconds(pid))
                        course.times.append(time.monotonic() - begun)
                        course.memory.append(int(memory[1]) * 1024 / _MEGABYTE)
                        course.threads = int(threads[1])
            if self._over.wait(self._every):
                return
