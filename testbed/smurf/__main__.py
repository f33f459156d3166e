"""Command `python -m testbed.smurf`: the simulator, controlled by commands on its standard input; see --help."""

import sys

from testbed.smurf.simulator import main

if __name__ == "__main__":
    sys.exit(main())
