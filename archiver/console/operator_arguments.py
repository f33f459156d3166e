"""The flags of the commands that publish events in an operator's name."""

import argparse
import getpass
import os
import re
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from g3stream.host.environment import host_name
from g3stream.service.arguments import EnvArgumentParser

_MAX_WHO, _MAX_REASON = 300, 1000
"""Characters; the same as in core/events.py, which isn't imported so that --help is fast."""

_LAYOUT = re.compile(r"[0-9]{5}(/|\Z)")
"""How a path relative to the data directory begins."""


def operator_options(flags: EnvArgumentParser, what: str) -> None:
    """Add --who and --reason. what: a verb for the help text, such as `retire`."""
    flags.add_argument(
        "--reason",
        type=partial(_text, least=0, most=_MAX_REASON),
        default="",
        metavar="TEXT",
        help=f"why you {what} the files; part of the events",
    )
    flags.add_argument(
        "--who",
        type=partial(_text, least=1, most=_MAX_WHO),
        default=default_who(),
        metavar="NAME",
        help="who you are (default: %(default)s)",
    )


def default_who() -> str:
    """Return who runs this and where: user@host."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a uid without a name, as in a container
        user = "unknown"
    shown = "".join(c if c.isascii() and c.isprintable() and c != "%" else "?" for c in user)
    return f"{shown}@{host_name()}"[:_MAX_WHO]


def paths_below(data_dir: Path, paths: Sequence[str]) -> list[str]:
    """Return these paths relative to the data directory; `-` stands for those on stdin."""
    return [path_below(data_dir, path) for path in _with_stdin(paths)]


def _with_stdin(paths: Sequence[str]) -> Iterator[str]:
    """Yield the paths; `-` stands for those on stdin: one a line, or each followed by a NUL (`find -print0`)."""
    for path in paths:
        if path != "-":
            yield path
        elif sys.stdin is not None:
            text = sys.stdin.buffer.read().decode(errors="surrogateescape")
            yield from filter(None, text.split("\0" if "\0" in text else "\n"))


def path_below(data_dir: Path, path: str) -> str:
    """Return a path relative to the data directory.

    It may be relative to that, absolute, or relative to a current directory within it.
    """
    plain = os.path.normpath(path)
    if _LAYOUT.match(plain):
        return plain
    for absolute, root in (
        (os.path.abspath(path), os.path.abspath(data_dir)),  # noqa: PTH100 - a Path keeps its `..`
        (os.path.realpath(path), os.path.realpath(data_dir)),
    ):
        if absolute.startswith(f"{root.rstrip('/')}/"):
            return absolute[len(root.rstrip("/")) + 1 :]
    return plain


def _text(text: str, least: int, most: int) -> str:
    text = " ".join(text.split())
    if not least <= len(text) <= most or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{least} to {most} printable characters are allowed")
    return text
