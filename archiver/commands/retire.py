"""Record that files were deleted on purpose, as by a clean-up job whose copies are
safe elsewhere. This deletes nothing: it publishes an event for each file
(file_retired, on g3.files). From then on `archiver verify` doesn't report them
as missing, `repair` and `replay` rebuild them only with --retired, and `files`
marks them.

  PATH…        these files, or all recorded files in these directories: relative
               to DIR, or absolute; - reads them from stdin, one a line (or each
               followed by a NUL). They may still exist: if a file is retired
               before it is deleted, no repair rebuilds it in between. While it
               exists, it is verified
  --missing    all recorded files that don't exist. Look first: --dry-run
  --before T   those of them whose last frame is older than T. A file that
               exists is never retired so

--missing and --before are refused if DIR may be the wrong directory: none of
its files exists (as if the disk isn't mounted), or it belongs to another group.
--yes overrides that.

A retired file is brought back by `archiver adopt PATH` (restored from a copy),
or by `archiver repair --retired` (rebuilt from the topics).

examples:
  archiver retire --data-dir /data --missing --dry-run
  archiver retire --data-dir /data --before -90d --reason 'two copies elsewhere'
  archiver retire --data-dir /data 17953/crate1slot2/2026-11-22-21-30-00_003.g3
  find /data/179?? -name '*.g3' -mtime +90 -print -delete |
      archiver retire --data-dir /data --reason old -

The command may be run again: for files that are retired already no event is
published.
"""

import argparse

from archiver.console.arguments import archive_options, check_paths, command_parser, operator_options, time_option
from g3stream.service.arguments import EnvArgumentParser


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "retire",
        __doc__,
        fine="every file is retired",
        wrong="a PATH isn't recorded (the others are retired), or it failed",
        act="archiver.operations.retire_files:retire",
        check=_check,
    )
    flags.add_argument("path", nargs="*", metavar="PATH", help="a recorded file, or a directory of them; - for stdin")
    flags.add_argument("--missing", action="store_true", help="all recorded files that don't exist")
    time_option(flags, "--before", "those of them that end before this time")
    archive_options(flags)
    operator_options(flags, "retire")
    flags.add_argument("--dry-run", action="store_true", help="publish nothing; show what would be retired")
    flags.add_argument("--yes", action="store_true", help="even if DIR may be the wrong directory")
    flags.add_kafka_options()
    return flags


def _check(options: argparse.Namespace) -> None:
    given = options.missing or options.before is not None
    check_paths(options, "retire", flags="--missing, or --before T", given=given)
