"""`archiver relocate`: its flags."""

from archiver.archive.location import Checksums
from archiver.console.arguments import EXIT_CODES, data_dir_option
from g3stream.service.arguments import EnvArgumentParser, directory

_DESCRIPTION = """\
Move an archive's private directory, or its checksums, to where --private-dir
and --checksums of the archiver are to say from then on. Without --private-dir
it goes (back) to .archiver in the data directory.

This leaves nothing but finished files in the data directory:

  archiver relocate --data-dir DIR --private-dir DIR.private --checksums private

First stop the archivers, on all hosts, and the SmurfRecorder agents, whose
spool goes along. Kafka isn't needed. The private directory is renamed, so it
stays on its file system. It may be killed, and goes on when it is run again.

--checksums  beside   SHA256SUMS in each directory of files
             private  PRIVATE_DIR/sha256sums.d/*/*.sha256, for sha256sum -c in
                      the data directory
             off      none: the events on g3.files have the digests, too"""

_EXAMPLES = """\
examples:
  archiver relocate --data-dir /disk/data --private-dir /disk/private \\
                    --checksums private
  archiver relocate --data-dir /disk/data --private-dir /disk/private \\
                    --checksums off                       later on
  archiver relocate --data-dir /disk/data --from /disk/private \\
                    --private-dir /disk/elsewhere         to another place
  archiver relocate --data-dir /disk/data --from /disk/private \\
                    --checksums beside                    back to the defaults

"""


def make_parser() -> EnvArgumentParser:
    """The command's flags."""
    codes = EXIT_CODES.format(fine="all of it is there now", wrong="it isn't, and it says why")
    flags = EnvArgumentParser("archiver relocate", _DESCRIPTION, _EXAMPLES + codes)
    data_dir_option(flags)
    # Not from the environment: there is said where it is before, or where it is afterwards, and nobody knows which.
    flags.add_argument(
        "--private-dir", type=directory, metavar="DIR", help="where it is to be; DATA_DIR/.archiver if not given"
    )
    flags.add_argument(
        "--from",
        dest="source",
        type=directory,
        metavar="DIR",
        help="where it is, if neither there nor DATA_DIR/.archiver",
    )
    flags.add_argument(
        "--checksums",
        type=Checksums,
        choices=list(Checksums),
        metavar="beside|private|off",
        help="where they are to be; where they are if not given",
    )
    return flags


def main(args: list[str]) -> int:
    """Run the command; args: what follows its name. Gives the exit code."""
    options = make_parser().parse_args(args)
    from archiver.operations.relocate_archive import relocate  # only now: as the package says

    return relocate(options)
