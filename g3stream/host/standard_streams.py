"""Standard streams that are usable, whatever a program was started with.

A closed descriptor (`2>&-`, some service managers) is opened on /dev/null. Otherwise the next file that is opened
gets that number, the spool's or a segment file, and any library that prints to stderr would write into it. A
character that the terminal's encoding lacks (ASCII, Latin-1) is written as Python's escape for it.
"""

import io
import os
import sys
from typing import TextIO


def prepare_standard_streams() -> None:
    """Prepare them; call this before the program opens any file. `sys.stdout` stays None if it was closed."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:  # a lower one is closed too, or this one was opened meanwhile
                os.dup2(null, fd)
                os.close(null)
    if sys.stderr is None:
        # Python's own None makes `print(…, file=sys.stderr)` print to stdout.
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for the whole program
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # in tests it may be something else
            stream.reconfigure(errors="backslashreplace")


def discard_unwritten(stream: TextIO) -> None:
    """Discard the text that a stream has buffered and couldn't write.

    Otherwise Python flushes it once more when the program ends, and exits 120 if that fails.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
