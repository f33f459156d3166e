"""`archiver repair`: its flags."""

from archiver.console.arguments import (
    EXIT_CODES,
    data_dir_option,
    group_option,
    private_dir_option,
    streams_option,
    time_option,
)
from archiver.console.operator_arguments import operator_options
from g3stream.service.arguments import EnvArgumentParser

_DESCRIPTION = """\
Mend an archive. It is verified first, as `archiver verify` does. Then

  a file that is missing or damaged is rebuilt from its topic, beside it; read back, and compared with the digest that
  was told when it was recorded; and put in place. What was there is kept as NAME.g3.damaged, in the private dir if
  --private-dir says one
  a line that is missing or wrong in SHA256SUMS is written, with the digest that was told
  a stale partial of a file that is finished, and as it was told, is removed

A file that was retired (`archiver retire`) isn't made again, unless --retired says so: then all are that the topics
still have; they are retired no more (file_adopted, on g3.files), so from then on they must be there.

All else that verify finds (copies, foreign files, other partials, …) is left for you to look at: nothing is deleted.
In the end it is verified once more. May be run while an archiver records."""

_EXAMPLES = """\
examples:
  archiver repair --data-dir /data
  archiver repair --data-dir /data --stream crate1slot2 --since -1d
  archiver repair --data-dir /data --retired --since 2026-11-21 --reason 'the copies are gone'

"""


def make_parser() -> EnvArgumentParser:
    """The command's flags."""
    codes = EXIT_CODES.format(
        fine="nothing is wrong any more", wrong="something still is, and it says what; or it can't be done"
    )
    flags = EnvArgumentParser("archiver repair", _DESCRIPTION, _EXAMPLES + codes)
    data_dir_option(flags)
    private_dir_option(flags, env="ARCHIVER_PRIVATE_DIR")
    streams_option(flags)
    time_option(flags, "--since", "only files with frames of this time or later")
    flags.add_argument("--retired", action="store_true", help="make retired files again, too")
    operator_options(flags, "bring back")
    group_option(flags)
    flags.add_kafka_options()
    return flags


def main(args: list[str]) -> int:
    """Run the command; args: what follows its name. Gives the exit code."""
    options = make_parser().parse_args(args)
    from archiver.operations.repair_archive import repair  # only now: as the package says

    return repair(options)
