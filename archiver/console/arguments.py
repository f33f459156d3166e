"""The flags that `archiver` and its commands have in common. They need no Kafka: --help is there at once."""

import argparse
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from archiver.archive.location import Checksums
from archiver.core.formatting import parse_time
from archiver.core.paths import GROUP
from g3stream.frames.layout import FRAME_TYPES
from g3stream.service.arguments import EnvArgumentParser, directory, stream_flag

EXIT_CODES = "exit codes: 0 {fine}; 1 {wrong}; 2 wrong usage; 130 after Ctrl-C."

MAX_CARRIED_TYPES: Final = 3
"""The places of so many carried frames fit into what is committed (checkpoint.MAX_CHARACTERS)."""
NOTHING: Final = "nothing"
"""For --carry: no frame heads the following files."""


def data_dir_option(flags: EnvArgumentParser) -> None:
    """Add --data-dir: an archive that is there."""
    flags.add_option(
        "--data-dir",
        env="ARCHIVER_DATA_DIR",
        type=directory,
        required=True,
        metavar="DIR",
        help="where the archive is",
    )


def private_dir_option(flags: EnvArgumentParser, *, env: str | None = None) -> None:
    """Add --private-dir. env: its variable, if the command looks at the recorder's archive."""
    flags.add_option(
        "--private-dir",
        env=env,
        type=directory,
        metavar="DIR",
        help="what isn't a finished file is there, on the same file system, not below the data dir; "
        "DATA_DIR/.archiver if not given",
    )


def checksums_option(flags: EnvArgumentParser) -> None:
    """Add --checksums."""
    flags.add_option(
        "--checksums",
        type=Checksums,
        choices=list(Checksums),
        metavar="beside|private|off",
        help="where a new archive keeps files' SHA-256: beside them in SHA256SUMS, as if not given; in the private "
        "dir; nowhere",
    )


def group_option(flags: EnvArgumentParser) -> None:
    """Add --group."""
    flags.add_option(
        "--group",
        env="ARCHIVER_GROUP",
        type=group,
        default="archiver",
        metavar="NAME",
        help="the Kafka consumer group of the archive",
    )


def streams_option(flags: EnvArgumentParser) -> None:
    """Add --stream. (Not from the environment, where it says what an archiver records.)"""
    flags.add_argument(
        "--stream",
        type=stream_flag,
        action="append",
        default=[],
        metavar="NAME",
        help="only this stream; may be repeated; every stream if never given",
    )


def time_option(flags: EnvArgumentParser, flag: str, what: str) -> None:
    """Add a flag that takes a time; gives ms."""
    meaning = f"{what}: 2026-11-22T21:30:00 or 2026-11-22 (UTC), Unix seconds, or -2h (s, m, h, d, w)"
    flags.add_argument(flag, type=_time, metavar="T", help=meaning)


def carried_types(names: Sequence[str]) -> tuple[int, ...]:
    """The codes of the frame types that head the following files: none for NOTHING alone, or no name at all.

    Raises ValueError if there are too many, or NOTHING is one of several.
    """
    types = tuple(dict.fromkeys(names))
    if types in ((), (NOTHING,)):
        return ()
    if NOTHING in types:
        raise ValueError(f"{NOTHING} is said beside a type")
    if len(types) > MAX_CARRIED_TYPES:
        raise ValueError(f"at most {MAX_CARRIED_TYPES} types")
    return tuple(FRAME_TYPES[name] for name in types)


def _carried(text: str) -> str:
    return text or NOTHING


CARRY: Final[Mapping[str, Any]] = {
    "action": "append",
    "type": _carried,
    "choices": [*sorted(FRAME_TYPES), NOTHING],
    "metavar": "TYPE",
}
"""What --carry is, for `carried_types`, but for its help."""


def suprsync_db(text: str) -> Path:
    """Type of a flag: the database of socs' SupRsync agent."""
    # Now, and not in the midst of a night: a broken one is wrong usage, with its reason.
    try:
        import_module("socs.db.suprsync")
    except (ImportError, AttributeError) as error:
        why = f"it needs the package socs ({error}): pip install 'g3-recorder[socs]'"
        raise argparse.ArgumentTypeError(why) from None
    if not text:
        raise argparse.ArgumentTypeError("it is empty: say where the database of the SupRsync agent is")
    return Path(text).absolute()


def group(text: str) -> str:
    """Type of a flag: a Kafka consumer group."""
    if not GROUP.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: 1 to 200 of A-Z a-z 0-9 . _ - are allowed")
    return text


def _time(text: str) -> int:
    try:
        return parse_time(text, round(time.time() * 1000))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
