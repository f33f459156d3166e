"""The flags that `archiver` and its commands have in common. It imports no Kafka client, so that --help is fast."""

import argparse
import getpass
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from archiver.archive.location import Checksums, located
from archiver.core.paths import CATALOG, GROUP
from g3stream.frame_format.layout import FRAME_TYPES
from g3stream.host.environment import host_name, now_ms
from g3stream.host.times import parse_night, parse_time
from g3stream.service.arguments import EnvArgumentParser, directory, flag_type, stream_flag

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
_MAX_WHO, _MAX_REASON = 300, 1000
"""Characters; the same as in core/events.py, which isn't imported so that --help is fast."""
_MAX_WHY = 200
"""The same as in g3stream/contract/headers.py, where longer ones are cut."""
_LAYOUT = re.compile(r"[0-9]{5}(/|\Z)")
"""How a path relative to the data directory begins."""


# Commands


def command_parser(
    name: str,
    text: str | None,
    *,
    fine: str,
    wrong: str,
    act: str,
    check: Callable[[argparse.Namespace], None] | None = None,
    stopped: str = "stopped",
) -> EnvArgumentParser:
    """Return the parser of a command; its options have the parser, `act`, `check` and `stopped`, too.

    text: the docstring of the command's module. fine, wrong: the meaning of exit codes 0 and 1. act: its function, as
    `module:function`, imported when the command is run, so that --help is fast. check: checks the options, and may
    change them. stopped: printed after Ctrl-C.
    """
    flags = EnvArgumentParser(f"archiver {name}", text and text + _EXIT_CODES.format(fine=fine, wrong=wrong))
    flags.set_defaults(parser=flags, act=act, check=check, stopped=stopped)
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
    what = "only this stream; may be repeated; every stream if not given"
    flags.add_argument("--stream", type=stream_flag, action="append", default=[], metavar="NAME", help=what)
    group_option(flags)


def group_option(flags: EnvArgumentParser) -> None:
    """Add --group, of the archive that a command is about."""
    what = "the Kafka consumer group of the archive"
    flags.add_option("--group", env="ARCHIVER_GROUP", type=group, default="archiver", metavar="NAME", help=what)


def data_dir_option(flags: EnvArgumentParser) -> None:
    """Add --data-dir, for a command on an existing archive."""
    what = "where the archive is"
    flags.add_option("--data-dir", env="ARCHIVER_DATA_DIR", type=directory, required=True, metavar="DIR", help=what)


def private_dir_option(flags: EnvArgumentParser, *, env: str | None = None) -> None:
    """Add --private-dir. env: its environment variable, if the command is for the recorder's own archive."""
    what = "the directory of everything but finished files: on the same file system, not below the data dir; "
    what += "DATA_DIR/.archiver if not given"
    flags.add_option("--private-dir", env=env, type=directory, metavar="DIR", help=what)


def catalog_option(flags: EnvArgumentParser) -> None:
    """Add --catalog; `catalog_path` reads it."""
    what = "the catalog, a SQLite file that is made if it is missing; "
    what += f"{CATALOG} in the private dir if not given"
    flags.add_option("--catalog", env="ARCHIVER_CATALOG", type=directory, metavar="FILE", help=what)


def catalog_path(options: argparse.Namespace) -> Path | None:
    """Return the catalog's file with these options; None if they name none, and no archive's directory either.

    Wrong usage, if its directory doesn't exist.
    """
    found: Path | None = options.catalog
    if found is None:
        return located(options.data_dir, options.private_dir).private_path / CATALOG if options.data_dir else None
    if not found.parent.is_dir():
        options.parser.error(f"argument --catalog: there is no directory {found.parent}")
    return found


def operator_options(flags: EnvArgumentParser, what: str) -> None:
    """Add --who and --reason, for events in an operator's name. what: a verb for the help text, such as `retire`."""
    reason, who = partial(_text, least=0, most=_MAX_REASON), partial(_text, least=1, most=_MAX_WHO)
    why = f"why you {what} the files; part of the events"
    flags.add_argument("--reason", type=reason, default="", metavar="TEXT", help=why)
    you = "who you are (default: %(default)s)"
    flags.add_argument("--who", type=who, default=default_who(), metavar="NAME", help=you)


def why(text: str) -> str:
    """Type of a flag: a reason that becomes a record's header."""
    if not text.isascii():
        raise argparse.ArgumentTypeError("only ASCII is allowed")
    return _text(text, least=1, most=_MAX_WHY)


def time_option(flags: EnvArgumentParser, flag: str, what: str) -> None:
    """Add a flag whose value is a time, ms since the epoch once `resolve_times` was called. what: its meaning."""
    meaning = f"{what}: 2026-11-22T21:30:00, 2026-11-22, today, yesterday, 21:30 (the last one), Unix seconds, or "
    flags.add_argument(
        flag, type=flag_type(partial(_typed_time, parse_time)), metavar="T", help=f"{meaning}-1h30m (s, m, h, d, w)"
    )
    if flags.get_default("zone") is not UTC:
        local_time_option(flags, "times without an offset are this host's local time, also those in tables; else UTC")


def local_time_option(flags: EnvArgumentParser, what: str) -> None:
    """Add --local-time. what: its meaning."""
    flags.add_argument("--local-time", dest="zone", action="store_const", const=None, default=UTC, help=what)


def night_option(flags: EnvArgumentParser) -> None:
    """Add --night, a pair of times: of its first and last ms."""
    what = "only what was recorded from this date's noon to the next noon; today: since the last noon; yesterday: "
    typed = flag_type(partial(_typed_time, parse_night))
    flags.add_argument("--night", type=typed, metavar="DATE", help=f"{what}the night before that")


def resolve_times(options: argparse.Namespace) -> None:
    """Replace the times that were typed by ms since the epoch, in the zone that was asked for."""
    for name, value in vars(options).items():
        if isinstance(value, _TypedTime):
            setattr(options, name, value.parse(value.text, value.now_ms, options.zone))


@dataclass(frozen=True, slots=True)
class _TypedTime:
    """A valid time as it was typed; which one depends on --local-time, which may follow."""

    parse: Callable[[str, int, tzinfo | None], Any]
    text: str
    now_ms: int


def _typed_time(parse: Callable[[str, int, tzinfo | None], Any], text: str) -> _TypedTime:
    now = now_ms()
    for zone in (UTC, None):
        parse(text, now, zone)
    return _TypedTime(parse, text, now)


# Values


CHECKSUMS: Final[Mapping[str, Any]] = {
    "type": Checksums,
    "choices": list(Checksums),
    "metavar": "beside|private|off",
    "help": "where a new archive keeps files' SHA-256: beside them in SHA256SUMS (if not given), in the private "
    "dir, or nowhere",
}
"""Arguments of add_argument for --checksums."""


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
        why = f"it needs the package socs ({error}): install g3-recorder's extra [socs]"
        raise argparse.ArgumentTypeError(why) from None
    if not text:
        raise argparse.ArgumentTypeError("it is empty: give the path of the SupRsync agent's database")
    return Path(text).absolute()


def group(text: str) -> str:
    """Type of a flag: a Kafka consumer group."""
    if not GROUP.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: 1 to 200 of A-Z a-z 0-9 . _ - are allowed")
    return text


def _text(text: str, least: int, most: int) -> str:
    text = " ".join(text.split())
    if not least <= len(text) <= most or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{least} to {most} printable characters are allowed")
    return text


def default_who() -> str:
    """Return who runs this and where: user@host."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a uid without a name, as in a container
        user = "unknown"
    shown = "".join(c if c.isascii() and c.isprintable() and c != "%" else "?" for c in user)
    return f"{shown}@{host_name()}"[:_MAX_WHO]


# Paths


def check_paths(options: argparse.Namespace, verb: str, *, flags: str, given: bool) -> None:
    """Check that either PATHs or one of these flags is given, and make the PATHs relative to the data directory.

    Exits with code 0 if they are to come from stdin, but none came. given: whether one of the flags is. verb: of what
    the command does, for the message.
    """
    if bool(options.path) == given:
        options.parser.error(f"give either PATHs or {flags}")
    options.path = [path_below(options.data_dir, path) for path in _with_stdin(options.path)]
    if not options.path and not given:
        print(f"no PATH came from stdin: nothing to {verb}")
        options.parser.exit()


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
