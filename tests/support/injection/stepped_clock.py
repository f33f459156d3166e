"""Run a module as `python -m` does, with a wall clock that a test steps.

    python stepped_clock.py FILE MODULE ARGUMENT…

FILE has the clock's present offset in ns. It is read at every call of the clock, so it must be replaced atomically,
as HostClock does.
"""

import runpy
import sys
import time
from pathlib import Path


class HostClock:
    """The wall clock of an ingest's host, which a test steps instead of waiting."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "clock"
        self._offset_ns = 0
        self.step(0.0)

    def time(self) -> float:
        """Return time.time() of that host."""
        return time.time() + self._offset_ns / 1e9

    def step(self, seconds: float) -> None:
        """Step the clock forward."""
        self._offset_ns += round(seconds * 1e9)
        new = self.file.with_suffix(".new")
        new.write_text(str(self._offset_ns))
        new.replace(self.file)


def step_clock(file: Path) -> None:
    """Shift time.time_ns(), this process's only wall clock, by the offset in the file."""
    real = time.time_ns
    time.time_ns = lambda: real() + int(file.read_text())


if __name__ == "__main__":
    _, name, module, *rest = sys.argv
    step_clock(Path(name))
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
