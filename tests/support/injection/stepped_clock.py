"""Run a module as `python -m` does, with a wall clock that a test steps.

    python stepped_clock.py FILE MODULE ARGUMENT…

FILE has the clock's offset in ns; or, if the word `stopped` follows, its present time. It is read at every call of
the clock, so it must be replaced atomically, as HostClock does.
"""

import runpy
import sys
import time
from pathlib import Path


class HostClock:
    """The wall clock of an ingest's host, which a test steps instead of waiting."""

    def __init__(self, directory: Path, *, runs: bool = True) -> None:
        """runs: False for a clock that only moves when stepped, so that a slow machine makes no gap."""
        self.file = directory / "clock"
        self._runs = runs
        self._offset_ns = 0 if runs else time.time_ns()
        self.step(0.0)

    def time(self) -> float:
        """Return time.time() of that host."""
        return time.time() * self._runs + self._offset_ns / 1e9

    def step(self, seconds: float) -> None:
        """Step the clock forward."""
        self._offset_ns += round(seconds * 1e9)
        new = self.file.with_suffix(".new")
        new.write_text(f"{self._offset_ns}" if self._runs else f"{self._offset_ns} stopped")
        new.replace(self.file)


def step_clock(file: Path) -> None:
    """Replace time.time_ns(), this process's only wall clock, by what the file says."""
    real = time.time_ns

    def stepped() -> int:
        offset_ns, *stopped = file.read_text().split()
        return int(offset_ns) + (0 if stopped else real())

    time.time_ns = stepped


if __name__ == "__main__":
    _, name, module, *rest = sys.argv
    step_clock(Path(name))
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
