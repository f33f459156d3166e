"""A virtual environment with so3g, sotodlib and socs: so3g contains an spt3g that can't be loaded beside ours.

The command prints the path of its interpreter: $(python -m testbed.sotodlib_venv) -c 'import sotodlib'
"""

import sys
from pathlib import Path

from testbed.venv import OwnVenv, VenvError

SOTODLIB = OwnVenv("sotodlib", Path(__file__).with_name("sotodlib-requirements.txt"), "1.1 GB, two minutes")


def main() -> int:
    """Print the path of its interpreter and return the exit code."""
    try:
        print(SOTODLIB.python())
    except VenvError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
