"""`archiver retire`: its flags."""

from archiver.console.arguments import (
    EXIT_CODES,
    data_dir_option,
    group_option,
    private_dir_option,
    streams_option,
    time_option,
)
from archiver.console.operator_arguments import operator_options, paths_below
from g3stream.service.arguments import EnvArgumentParser

_DESCRIPTION = """\
Tell that recorded files were deleted on purpose, as by a clean-up job whose copies are safe elsewhere. This deletes
nothing: it publishes an event for each (file_retired, on g3.files). From then on `archiver verify` doesn't miss them,
`repair` and `replay` make them no more (unless told so: --retired), and `files` marks them.

  PATH…        these files, or all recorded files in these directories: below DIR, or absolute; - reads them from
               stdin, one in a line (or each with a NUL after it). They may be there still: retire a file, then delete
               it, and a repair in between won't make it again. While a file is there, it is verified as ever
  --missing    all recorded files that aren't there. Look first: --dry-run
  --before T   those of them whose last frame came before T. What is there is never retired so

--missing and --before are refused if DIR may not be the archive as it was: none of its files is there (an unmounted
disk), or it is another group's. --yes does it all the same.

What was retired is back with `archiver adopt PATH` (restored from a copy), or with `archiver repair --retired` (made
again from the topics)."""

_CODES = EXIT_CODES.format(
    fine="all that was asked for is retired",
    wrong="a PATH isn't recorded (the others are retired), or it can't be done, and it says why",
)
_EXAMPLES = f"""\
examples:
  archiver retire --data-dir /data --missing --dry-run
  archiver retire --data-dir /data --before -90d --reason 'two copies at the home institution'
  archiver retire --data-dir /data 17953/crate1slot2/2026-11-22-21-30-00_003.g3
  find /data/179?? -name '*.g3' -mtime +90 -print -delete | archiver retire --data-dir /data --reason old -

May be run again: what was retired before stays so, and no event is published for it.

{_CODES}"""


def make_parser() -> EnvArgumentParser:
    """The command's flags."""
    flags = EnvArgumentParser("archiver retire", _DESCRIPTION, _EXAMPLES)
    flags.add_argument("path", nargs="*", metavar="PATH", help="a recorded file, or a directory of them; - for stdin")
    flags.add_argument("--missing", action="store_true", help="all recorded files that aren't there")
    time_option(flags, "--before", "those of them that end before this time")
    data_dir_option(flags)
    private_dir_option(flags, env="ARCHIVER_PRIVATE_DIR")
    group_option(flags)
    streams_option(flags)
    operator_options(flags, "retire")
    flags.add_argument("--dry-run", action="store_true", help="publish nothing; show what would be retired")
    flags.add_argument("--yes", action="store_true", help="also if DIR may not be the archive as it was")
    flags.add_kafka_options()
    return flags


def main(args: list[str]) -> int:
    """Run the command; args: what follows its name. Gives the exit code."""
    parser = make_parser()
    options = parser.parse_args(args)
    missing = options.missing or options.before is not None
    if bool(options.path) == missing:
        parser.error("give either PATHs or --missing, or --before T")
    paths = paths_below(options.data_dir, options.path)
    if options.path and not paths:
        print("no PATH came from stdin: nothing to retire")
        return 0
    from archiver.operations.retire_files import retire  # only now: as the package says

    return retire(options, paths)
