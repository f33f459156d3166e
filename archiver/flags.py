"""The flags that `archiver` and its commands have in common. They need no Kafka: --help is there at once."""

import argparse
import time
from typing import Final

from archiver.layout import GROUP
from archiver.location import Checksums
from archiver.times import parse_time
from ingest.settings import Flags, directory, stream_flag

EXIT_CODES = "exit codes: 0 {fine}; 1 {wrong}; 2 wrong usage; 130 after Ctrl-C."

MOST_CARRIED_TYPES: Final = 3
"""The places of so many carried frames fit into what is committed (checkpoint.MAX_CHARACTERS)."""


def data_dir_option(flags: Flags) -> None:
    """Add --data-dir: an archive that is there."""
    flags.option(
        "--data-dir",
        env="ARCHIVER_DATA_DIR",
        type=directory,
        required=True,
        metavar="DIR",
        help="where the archive is",
    )


def private_dir_option(flags: Flags, *, env: str | None = None) -> None:
    """Add --private-dir. env: its variable, if the command looks at the recorder's archive."""
    flags.option(
        "--private-dir",
        env=env,
        type=directory,
        metavar="DIR",
        help="what isn't a finished file is there, on the same file system, not below the data dir; "
        "DATA_DIR/.archiver if not given",
    )


def checksums_option(flags: Flags) -> None:
    """Add --checksums."""
    flags.option(
        "--checksums",
        type=Checksums,
        choices=list(Checksums),
        metavar="beside|private|off",
        help="where a new archive keeps files' SHA-256: beside them in SHA256SUMS, as if not given; in the private "
        "dir; nowhere",
    )


def group_option(flags: Flags) -> None:
    """Add --group."""
    flags.option(
        "--group",
        env="ARCHIVER_GROUP",
        type=group,
        default="archiver",
        metavar="NAME",
        help="the Kafka consumer group of the archive",
    )


def streams_option(flags: Flags) -> None:
    """Add --stream. (Not from the environment, where it says what an archiver records.)"""
    flags.add_argument(
        "--stream",
        type=stream_flag,
        action="append",
        default=[],
        metavar="NAME",
        help="only this stream; may be repeated; every stream if never given",
    )


def time_option(flags: Flags, flag: str, what: str) -> None:
    """Add a flag that takes a time; gives ms."""
    help = f"{what}: 2026-11-22T21:30:00 or 2026-11-22 (UTC), Unix seconds, or -2h (s, m, h, d, w)"
    flags.add_argument(flag, type=_time, metavar="T", help=help)


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
