"""Whether there is an so3g, which decodes frames."""

import os
import sys
from importlib.util import find_spec
from shutil import which


def missing_so3g(python: str | None) -> str | None:
    """Return what is missing, and what to do; None if nothing is. python: one that has so3g; None: this one."""
    if python is None:
        if find_spec("so3g") is None:
            how = "install g3-recorder's extra [quicklook], or name a Python that has it: --so3g-python"
            return f"so3g isn't installed: {how}"
    elif not (path := which(python)) or not os.access(path, os.X_OK):
        return f"--so3g-python: {python} isn't found, or not executable"
    return None


def decoding_python(python: str | None) -> str:
    """Return the interpreter that decodes."""
    return python or sys.executable
