"""so3g, sotodlib and socs, in an environment of their own: so3g brings an spt3g that can't be loaded beside ours.

$(python -m testbed.sotodlib_venv) -c 'import sotodlib'    # prints its interpreter
"""

import sys
from pathlib import Path

from testbed.venv import OwnVenv, VenvError

SOTODLIB = OwnVenv("sotodlib", Path(__file__).with_name("sotodlib-requirements.txt"), "1.1 GB, two minutes")


def main() -> int:
    """Print its interpreter; gives the exit code."""
    try:
        print(SOTODLIB.python())
    except VenvError as why:
        print(f"error: {why}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
