"""Move an archive's private directory, or its checksums, to the place that
--private-dir and --checksums of the archiver will name from then on. Without
--private-dir it is moved (back) to .archiver in the data directory.

This leaves nothing but finished files in the data directory:

  archiver relocate --data-dir DIR --private-dir DIR.private --checksums private

First stop the archivers on all hosts, and the SmurfRecorder agents, whose spool
is moved, too. Kafka isn't needed. The private directory is renamed, so it stays
on its file system. If the command is killed, run it again: it continues.

--checksums:
  beside   SHA256SUMS in each directory of files
  private  PRIVATE_DIR/sha256sums.d/*/*.sha256, for sha256sum -c in the data
           directory
  off      none: the events on g3.files have the digests, too

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

from archiver.console.arguments import CHECKSUMS, command_parser, data_dir_option
from g3stream.service.arguments import EnvArgumentParser, directory


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "relocate",
        __doc__,
        fine="everything is moved",
        wrong="something isn't; the reason is printed",
        act="archiver.operations.relocation:relocate",
        stopped="archiver relocate: stopped; run it again to continue",
    )
    data_dir_option(flags)
    # Not from the environment: it may name the place before the move, or the one after it.
    what = "its new place; DATA_DIR/.archiver if not given"
    flags.add_argument("--private-dir", type=directory, metavar="DIR", help=what)
    what = "its present place, if neither the new one nor DATA_DIR/.archiver"
    flags.add_argument("--from", dest="source", type=directory, metavar="DIR", help=what)
    what = "the new place of the checksums; unchanged if not given"
    flags.add_argument("--checksums", **{**CHECKSUMS, "help": what})
    return flags
