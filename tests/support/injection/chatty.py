"""`ingest` or `archiver` (the first argument) with a log that fills up soon: nothing is folded, little is kept.

How it waits, writes and drops is as ever.
"""

import importlib
import sys

from g3stream.service import log_writer
from g3stream.service.log_flood import LogFloodFilter

KEPT_LINES = 50
PROBLEM_SECONDS = 1.0

if __name__ == "__main__":
    log_writer.MAX_LINES = KEPT_LINES
    log_writer.STUCK_SECONDS = PROBLEM_SECONDS
    LogFloodFilter.suppresses = lambda *_: False  # type: ignore[method-assign]  # as it is for lines that are not alike
    sys.exit(importlib.import_module(f"{sys.argv[1]}.__main__").main(sys.argv[2:]))
