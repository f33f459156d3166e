"""Command `make demo`: record a night of half a minute, and prove that nothing of it was lost."""

import argparse
import fcntl
import gc
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from testbed.exit_on_signal import exit_on_signal

_DIRECTORY = Path("demo")
_OURS = frozenset({"kafka", "logs", "recorded", "replayed", "spool"})
"""What a demo makes in its directory."""


class _UnusableDirectoryError(Exception):
    """The directory can't be used. The message has the reason."""


def _claim(directory: Path, empty_it: bool) -> None:
    """Make the directory if missing, lock it against another demo, and check that it is empty.

    empty_it: delete what an earlier demo made in it. The lock is held until this process ends.
    Raises _UnusableDirectoryError.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = list(directory.iterdir())
        if found and not empty_it:
            raise _UnusableDirectoryError(f"{directory} isn't empty")
        for path in found:
            if path.name not in _OURS:
                raise _UnusableDirectoryError(f"{path} isn't a demo's: move it, or use --directory")
        for path in found:
            shutil.rmtree(path)
    except BlockingIOError:
        raise _UnusableDirectoryError(f"another demo runs in {directory}") from None
    except OSError as error:
        raise _UnusableDirectoryError(f"can't use {directory}: {error.strerror}") from error


def make_parser() -> argparse.ArgumentParser:
    """The command line of `python -m testbed.demo`."""
    parser = argparse.ArgumentParser(
        prog="python -m testbed.demo",
        description="Record a night of half a minute: Kafka, two simulated streams, an ingest for each, an archiver, "
        "the page; then compare what was recorded with what was sent. The first run fetches Kafka (40 MB).",
        epilog="exit codes: 0 all that was sent is recorded, once; 1 it isn't, or something failed; 2 wrong usage; "
        "130 after Ctrl-C.",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help=f"new or empty directory for files and logs (default: {_DIRECTORY}, which is emptied)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit code."""
    # Ctrl-C raises an exception wherever Python is just then; raised in a garbage collection it would be ignored.
    gc.disable()
    exit_on_signal(with_signal_code=True, message="stopping")
    options = make_parser().parse_args(arguments)
    # Imported only here: it takes half a second, in which a Ctrl-C would print a traceback.
    from rich.console import Console

    from testbed.demo.night import DemoSession
    from testbed.demo.program import DemoError

    directory = options.directory or _DIRECTORY
    try:
        _claim(directory, empty_it=options.directory is None)
    except _UnusableDirectoryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    session = DemoSession(directory, Console(highlight=False))
    try:
        if session.run():
            return 0
        why = "what was recorded isn't what was sent"
    except DemoError as error:
        why = str(error)
    for log, tail in session.logs():
        print(f"\n==> {log} <==\n{tail}", file=sys.stderr)
    print(f"\nfailed: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
