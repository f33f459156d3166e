"""Repair an archive. First it is verified, as by `archiver verify`. Then

  a file that is missing or damaged is rebuilt from its topic, beside the old
  one; read back and compared with the recorded digest; and put in place. The
  old one is kept as NAME.g3.damaged, in --private-dir if that is given

  a line that is missing or wrong in SHA256SUMS is written, with the recorded
  digest

  a stale partial is removed, if its file is finished and right

Files that were retired (`archiver retire`) are rebuilt only with --retired:
then all that the topics still have. They are no longer retired (file_adopted,
on g3.files), and verify expects them from then on.

Everything else that verify finds (copies, unknown files, other partials, …) is
left for you to look at: nothing is deleted. At the end the archive is verified
again. The command may run while an archiver records.

examples:
  archiver repair --data-dir /data
  archiver repair --data-dir /data --stream crate1slot2 --since -1d
  archiver repair --data-dir /data --retired --since 2026-11-21 \\
                  --reason 'the copies are gone'
"""

from archiver.console.arguments import archive_options, command_parser, operator_options, time_option
from g3stream.service.arguments import EnvArgumentParser


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "repair",
        __doc__,
        fine="nothing is wrong any more",
        wrong="something still is, or the command failed; the reason is printed",
        act="archiver.operations.repair_archive:repair",
    )
    archive_options(flags)
    time_option(flags, "--since", "only files with frames of this time or later")
    flags.add_argument("--retired", action="store_true", help="rebuild retired files, too")
    operator_options(flags, "rebuild")
    flags.add_kafka_options()
    return flags
