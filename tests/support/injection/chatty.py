"""Run `ingest` or `archiver` (the first argument) with a log that fills up soon.

No line is suppressed, and the queue is short; waiting, writing and dropping are unchanged.
"""

import importlib
import sys

from g3stream.log import writer as log_writer
from g3stream.log.flood import LogFloodFilter

KEPT_LINES = 50
PROBLEM_SECONDS = 1.0

if __name__ == "__main__":
    log_writer.MAX_LINES = KEPT_LINES
    log_writer.STUCK_SECONDS = PROBLEM_SECONDS
    LogFloodFilter.suppresses = lambda *_: False  # type: ignore[method-assign]  # as for lines that are not similar
    sys.exit(importlib.import_module(f"{sys.argv[1]}.__main__").main(sys.argv[2:]))
