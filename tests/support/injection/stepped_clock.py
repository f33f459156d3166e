"""Run a module as `python -m` does, on a host whose clock is stepped.

    python stepped_clock.py FILE MODULE ARGUMENT…

FILE holds how far the clock is off now, in ns; it is read at every look at the clock, so replace it as a whole:
HostClock does.
"""

import runpy
import sys
import time
from pathlib import Path


class HostClock:
    """The clock of the host that an ingest runs on; a test steps it instead of waiting for time to pass."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "clock"
        self._offset_ns = 0
        self.step(0.0)

    def time(self) -> float:
        """As time.time() says it there."""
        return time.time() + self._offset_ns / 1e9

    def step(self, seconds: float) -> None:
        """Let it go forward by that."""
        self._offset_ns += round(seconds * 1e9)
        new = self.file.with_suffix(".new")
        new.write_text(str(self._offset_ns))
        new.replace(self.file)


def step_clock(file: Path) -> None:
    """Let time.time_ns(), this process's only wall clock, be off by what the file says."""
    real = time.time_ns
    time.time_ns = lambda: real() + int(file.read_text())


if __name__ == "__main__":
    _, name, module, *rest = sys.argv
    step_clock(Path(name))
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
