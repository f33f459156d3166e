"""Descriptors 0, 1 and 2 that are closed (`2>&-`, some service managers), opened on /dev/null.

Otherwise the next file that is opened gets that number: the spool's, or a recorded one, into which any library that
prints to stderr would write.
"""

import os
import sys


def open_closed_ones() -> None:
    """Do so; for the beginning of a program, before it opens anything. `sys.stdout` stays None if it was closed."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:  # a lower one is closed, too, or this one has been taken meanwhile
                os.dup2(null, fd)
                os.close(null)
    if sys.stderr is None:
        # Python's own None makes `print(…, file=sys.stderr)` print to stdout.
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for the whole program
