"""`archiver replay`: its flags."""

import re
from pathlib import Path

from archiver.console.arguments import (
    CARRY,
    EXIT_CODES,
    carried_types,
    checksums_option,
    group_option,
    private_dir_option,
    streams_option,
    time_option,
)
from archiver.core.paths import FILE, NameFormat
from g3stream.service.arguments import EnvArgumentParser, directory, seconds

_DESCRIPTION = """\
Rebuild files from the topics: the same files, byte for byte and name for name, as a live archive has.

It reads by itself (no consumer group is touched, a live archiver isn't disturbed), to the end of the topics as they
are now, and ends. How acquisitions were cut and named is taken from the events on g3.files of --group, unless flags
say otherwise. Files that are there with the same bytes are counted and left; a file with other bytes is reported, and
never overwritten. What is still being recorded is left as a partial below DIR/.archiver.

Files that were retired (`archiver retire`) are left out, unless --retired is given, or other settings are.

A directory whose stream is being recorded is refused."""

_EXAMPLES = """\
examples:
  archiver replay --data-dir /rebuilt                             all that the topics still have
  archiver replay --data-dir /rebuilt --since -2h --dry-run       what would be rebuilt of the last two hours
  archiver replay --data-dir /rebuilt --stream crate1slot2 --since 2026-11-21 --until 2026-11-22T06:00
  archiver replay --data-dir /rebuilt --only 17953/crate1slot2/2026-11-22-21-30-00_003.g3
  archiver replay --data-dir /short --time-per-file 60            the same frames in shorter files

With --since and --until whole acquisitions are rebuilt, also those that begin before or end after.

"""


def make_parser() -> EnvArgumentParser:
    """The command's flags."""
    codes = EXIT_CODES.format(
        fine="all that was asked for and is in the topics is there now",
        wrong="files differ, or can't be rebuilt, or it can't be done, and it says which and why",
    )
    flags = EnvArgumentParser("archiver replay", _DESCRIPTION, _EXAMPLES + codes)
    flags.add_option(
        "--data-dir", type=directory, required=True, metavar="DIR", help="where the files go; made if missing"
    )
    private_dir_option(flags)
    checksums_option(flags)
    streams_option(flags)
    time_option(flags, "--since", "only acquisitions that end at or after this time")
    time_option(flags, "--until", "only acquisitions that begin at or before this time")
    flags.add_argument(
        "--only", action="append", default=[], metavar="PATH", help="only this file (below DIR); may be repeated"
    )
    flags.add_argument("--retired", action="store_true", help="files that were retired, too (archiver retire)")
    flags.add_argument("--dry-run", action="store_true", help="write nothing; print names, cuts and sizes")
    again = "instead of as recorded"
    flags.add_argument("--time-per-file", type=seconds, metavar="SECONDS", help=f"cut files so, {again}")
    flags.add_argument("--gap", type=seconds, metavar="SECONDS", help=f"end acquisitions so, {again}")
    flags.add_argument(
        "--name-format",
        type=NameFormat,
        choices=list(NameFormat),
        metavar="date|ctime|session",
        help=f"name so, {again}",
    )
    flags.add_argument(
        "--carry",
        **CARRY,
        help=f"repeat the last frame of this type at files' heads, {again}; may be repeated; nothing: none",
    )
    group_option(flags)
    flags.add_kafka_options()
    return flags


def main(args: list[str]) -> int:
    """Run the command; args: what follows its name. Gives the exit code."""
    parser = make_parser()
    options = parser.parse_args(args)
    if options.since is not None and options.until is not None and options.since > options.until:
        parser.error("--since is after --until")
    if options.carry is not None:
        try:
            options.carry = carried_types(options.carry)
        except ValueError as error:
            parser.error(f"--carry: {error}")
    only = frozenset(_below(options.data_dir, path) for path in options.only)
    if wrong := [path for path in only if not re.fullmatch(FILE, path)]:
        parser.error(
            f"--only: {wrong[0]!r} is no file's path; say for example 17953/crate1slot2/2026-11-22-21-30-00_000.g3"
        )
    from archiver.replay.replay import replay  # only now: as the package says

    return replay(options, only)


def _below(data_dir: Path, path: str) -> str:
    """The path below the data directory, of one that may say that, too."""
    absolute = Path(path).absolute()
    root = data_dir.absolute()
    return str(absolute.relative_to(root)) if absolute.is_relative_to(root) else path
