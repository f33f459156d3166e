"""The command `archiver replay`: its flags."""

import argparse
import re

from archiver.console.arguments import (
    CARRY,
    carried_types,
    checksums_option,
    command_parser,
    private_dir_option,
    stream_options,
    time_option,
)
from archiver.console.operator_arguments import path_below
from archiver.core.paths import FILE, NameFormat
from g3stream.service.arguments import EnvArgumentParser, directory, seconds

_DESCRIPTION = """\
Rebuild files from the topics: the same files, byte for byte and name for name,
as a live archive has.

It reads to the end of the topics as they are now, then exits. It joins no
consumer group and doesn't disturb a live archiver. Where acquisitions were cut
and how they were named is taken from the events of --group on g3.files, unless
flags override it. Files that exist with the same bytes are counted and left
alone; a file with other bytes is reported and never overwritten. A file that is
still being recorded is left as a partial below DIR/.archiver.

Files that were retired (`archiver retire`) are left out, unless --retired or
other settings are given.

It refuses a directory whose stream is being recorded."""

_EXAMPLES = """\
examples:
  archiver replay --data-dir /rebuilt
                  all that the topics still have
  archiver replay --data-dir /rebuilt --since -2h --dry-run
                  shows what would be rebuilt of the last two hours
  archiver replay --data-dir /rebuilt --stream crate1slot2 \\
                  --since 2026-11-21 --until 2026-11-22T06:00
  archiver replay --data-dir /rebuilt \\
                  --only 17953/crate1slot2/2026-11-22-21-30-00_003.g3
  archiver replay --data-dir /short --time-per-file 60
                  the same frames in shorter files

With --since and --until whole acquisitions are rebuilt, including those that
begin before or end after.
"""


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    fine = "all requested files that are in the topics exist now"
    wrong = "files differ or can't be rebuilt; which and why is printed"
    flags = command_parser("replay", _DESCRIPTION, _EXAMPLES, fine=fine, wrong=wrong)
    flags.add_option(
        "--data-dir", type=directory, required=True, metavar="DIR", help="where the files go; made if missing"
    )
    private_dir_option(flags)
    checksums_option(flags)
    stream_options(flags)
    time_option(flags, "--since", "only acquisitions that end at or after this time")
    time_option(flags, "--until", "only acquisitions that begin at or before this time")
    flags.add_argument(
        "--only", action="append", default=[], metavar="PATH", help="only this file (below DIR); may be repeated"
    )
    flags.add_argument("--retired", action="store_true", help="also files that were retired (archiver retire)")
    flags.add_argument("--dry-run", action="store_true", help="write nothing; print names, cuts and sizes")
    instead = "instead of as recorded"
    flags.add_argument(
        "--time-per-file", type=seconds, metavar="SECONDS", help=f"the most that one file may span, {instead}"
    )
    flags.add_argument(
        "--gap", type=seconds, metavar="SECONDS", help=f"so long without frames ends an acquisition, {instead}"
    )
    flags.add_argument(
        "--name-format",
        type=NameFormat,
        choices=list(NameFormat),
        metavar="date|ctime|session",
        help=f"how files are named, {instead}",
    )
    flags.add_argument(
        "--carry",
        **CARRY,
        help=f"repeat the last frame of this type at files' heads, {instead}; may be repeated; nothing: no frame",
    )
    flags.add_kafka_options()
    return flags


def main(options: argparse.Namespace) -> int:
    """Run the command with these options; return its exit code."""
    if options.since is not None and options.until is not None and options.since > options.until:
        options.parser.error("--since is after --until")
    if options.carry is not None:
        try:
            options.carry = carried_types(options.carry)
        except ValueError as error:
            options.parser.error(f"--carry: {error}")
    options.only = frozenset(path_below(options.data_dir, path) for path in options.only)
    if wrong := [path for path in options.only if not re.fullmatch(FILE, path)]:
        options.parser.error(
            f"--only: {wrong[0]!r} is not the path of a file, such as 17953/crate1slot2/2026-11-22-21-30-00_000.g3"
        )
    from archiver.console.runner import run  # not at the top, so that --help is fast
    from archiver.replay.replay import replay

    return run(options, replay)
