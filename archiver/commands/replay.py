"""Rebuild files from the topics: the same files, byte for byte and name for name,
as a live archive has.

It reads to the end of the topics as they are now, then exits. It joins no
consumer group and doesn't disturb a live archiver. Where acquisitions were cut
and how they were named is taken from the events of --group on g3.files, unless
flags override it. Files that exist with the same bytes are counted and left
alone; a file with other bytes is reported and never overwritten. A file that is
still being recorded is left as a partial below DIR/.archiver.

Files that were retired (`archiver retire`) are left out, unless --retired or
other settings are given.

It refuses a directory whose stream is being recorded.

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

import argparse
import re

from archiver.console.arguments import (
    CARRY,
    CHECKSUMS,
    carried_types,
    command_parser,
    path_below,
    private_dir_option,
    stream_options,
    time_option,
)
from archiver.core.paths import FILE, NameFormat
from g3stream.service.arguments import EnvArgumentParser, directory, seconds


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "replay",
        __doc__,
        fine="all requested files that are in the topics exist now",
        wrong="files differ or can't be rebuilt; which and why is printed",
        act="archiver.replay.replay:replay",
        check=_check,
    )
    what = "where the files go; made if missing"
    flags.add_option("--data-dir", type=directory, required=True, metavar="DIR", help=what)
    private_dir_option(flags)
    flags.add_option("--checksums", **CHECKSUMS)
    stream_options(flags)
    time_option(flags, "--since", "only acquisitions that end at or after this time")
    time_option(flags, "--until", "only acquisitions that begin at or before this time")
    what = "only this file (below DIR); may be repeated"
    flags.add_argument("--only", action="append", default=[], metavar="PATH", help=what)
    flags.add_argument("--retired", action="store_true", help="also files that were retired (archiver retire)")
    flags.add_argument("--dry-run", action="store_true", help="write nothing; print names, cuts and sizes")
    what = "the most that one file may span, instead of as recorded"
    flags.add_argument("--time-per-file", type=seconds, metavar="DURATION", help=what)
    what = "so long without frames ends an acquisition, instead of as recorded"
    flags.add_argument("--gap", type=seconds, metavar="DURATION", help=what)
    what = "how files are named, instead of as recorded"
    formats = list(NameFormat)
    flags.add_argument("--name-format", type=NameFormat, choices=formats, metavar="date|ctime|session", help=what)
    what = "repeat the last frame of this type at files' heads, instead of as recorded; may be repeated; "
    what += "nothing: no frame"
    flags.add_argument("--carry", **CARRY, help=what)
    flags.add_kafka_options()
    return flags


def _check(options: argparse.Namespace) -> None:
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
