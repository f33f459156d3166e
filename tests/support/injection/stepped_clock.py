"""Run a module as `python -m` does, on a host whose clock is stepped.

    python stepped_clock.py FILE MODULE ARGUMENT…

FILE holds how far the clock is off now, in ns; it is read at every look at the clock, so replace it as a whole.
"""

import runpy
import sys
import time
from pathlib import Path


def step_clock(file: Path) -> None:
    """Let time.time_ns(), this process's only wall clock, be off by what the file says."""
    real = time.time_ns
    time.time_ns = lambda: real() + int(file.read_text())


if __name__ == "__main__":
    _, name, module, *rest = sys.argv
    step_clock(Path(name))
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
