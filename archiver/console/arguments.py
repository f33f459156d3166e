"""The flags that `archiver` and its commands have in common. It imports no Kafka client, so that --help is fast."""

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from archiver.archive.location import Checksums
from archiver.core.formatting import parse_time
from archiver.core.paths import GROUP
from g3stream.frames.layout import FRAME_TYPES
from g3stream.host.environment import now_ms
from g3stream.service.arguments import EnvArgumentParser, directory, stream_flag

_EXIT_CODES = """
exit codes:
  0    {fine}
  1    {wrong}
  2    wrong usage
  130  stopped by Ctrl-C"""

MAX_CARRIED_TYPES: Final = 3
"""So many carried frames fit into a checkpoint (core/checkpoint.py: MAX_CHARACTERS)."""
NOTHING: Final = "nothing"
"""Value of --carry: no frame is repeated at the head of following files."""


def command_parser(name: str, description: str, examples: str, *, fine: str, wrong: str) -> EnvArgumentParser:
    """The parser of a command, itself in its options as `parser`; fine, wrong: the meaning of exit codes 0 and 1."""
    flags = EnvArgumentParser(f"archiver {name}", description, examples + _EXIT_CODES.format(fine=fine, wrong=wrong))
    flags.set_defaults(parser=flags)
    return flags


def archive_options(flags: EnvArgumentParser) -> None:
    """Add the options of a command on the files of an existing archive."""
    data_dir_option(flags)
    private_dir_option(flags, env="ARCHIVER_PRIVATE_DIR")
    stream_options(flags)


def stream_options(flags: EnvArgumentParser) -> None:
    """Add the options of a command on the streams of an archive.

    --stream is not read from the environment: there it says what an archiver records.
    """
    flags.add_argument(
        "--stream",
        type=stream_flag,
        action="append",
        default=[],
        metavar="NAME",
        help="only this stream; may be repeated; every stream if not given",
    )
    flags.add_option(
        "--group",
        env="ARCHIVER_GROUP",
        type=group,
        default="archiver",
        metavar="NAME",
        help="the Kafka consumer group of the archive",
    )


def data_dir_option(flags: EnvArgumentParser) -> None:
    """Add --data-dir, for a command on an existing archive."""
    flags.add_option(
        "--data-dir",
        env="ARCHIVER_DATA_DIR",
        type=directory,
        required=True,
        metavar="DIR",
        help="where the archive is",
    )


def private_dir_option(flags: EnvArgumentParser, *, env: str | None = None) -> None:
    """Add --private-dir. env: its environment variable, if the command is for the recorder's own archive."""
    flags.add_option(
        "--private-dir",
        env=env,
        type=directory,
        metavar="DIR",
        help="the directory of everything but finished files: on the same file system, not below the data dir; "
        "DATA_DIR/.archiver if not given",
    )


CHECKSUMS: Final[Mapping[str, Any]] = {
    "type": Checksums,
    "choices": list(Checksums),
    "metavar": "beside|private|off",
    "help": "where a new archive keeps files' SHA-256: beside them in SHA256SUMS (if not given), in the private "
    "dir, or nowhere",
}
"""Arguments of add_argument for --checksums."""


def checksums_option(flags: EnvArgumentParser) -> None:
    """Add --checksums."""
    flags.add_option("--checksums", **CHECKSUMS)


def time_option(flags: EnvArgumentParser, flag: str, what: str) -> None:
    """Add a flag whose value is a time, ms since the epoch. what: its meaning."""
    meaning = f"{what}: 2026-11-22T21:30:00 or 2026-11-22 (UTC), Unix seconds, or -2h (s, m, h, d, w)"
    flags.add_argument(flag, type=_time, metavar="T", help=meaning)


def carried_types(names: Sequence[str]) -> tuple[int, ...]:
    """Return the codes of the frame types to repeat at the head of files: none for NOTHING alone, or for no name.

    Raises ValueError if there are too many, or if NOTHING is one of several.
    """
    types = tuple(dict.fromkeys(names))
    if types in ((), (NOTHING,)):
        return ()
    if NOTHING in types:
        raise ValueError(f"{NOTHING} can't be combined with a frame type")
    if len(types) > MAX_CARRIED_TYPES:
        raise ValueError(f"at most {MAX_CARRIED_TYPES} frame types")
    return tuple(FRAME_TYPES[name] for name in types)


def _carried(text: str) -> str:
    return text or NOTHING


CARRY: Final[Mapping[str, Any]] = {
    "action": "append",
    "type": _carried,
    "choices": [*sorted(FRAME_TYPES), NOTHING],
    "metavar": "TYPE",
}
"""Arguments of add_argument for --carry, without its help; `carried_types` reads the values."""


def suprsync_db(text: str) -> Path:
    """Type of a flag: the database of socs' SupRsync agent."""
    # Imported now rather than at the first file: a broken installation is wrong usage, reported at the start.
    try:
        import_module("socs.db.suprsync")
    except (ImportError, AttributeError) as error:
        why = f"it needs the package socs ({error}): pip install 'g3-recorder[socs]'"
        raise argparse.ArgumentTypeError(why) from None
    if not text:
        raise argparse.ArgumentTypeError("it is empty: give the path of the SupRsync agent's database")
    return Path(text).absolute()


def group(text: str) -> str:
    """Type of a flag: a Kafka consumer group."""
    if not GROUP.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: 1 to 200 of A-Z a-z 0-9 . _ - are allowed")
    return text


def _time(text: str) -> int:
    try:
        return parse_time(text, now_ms())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
