"""Record files that were there before the archive: another recorder's, or those
from before the topic g3.files was lost. Each is read and must consist of whole
G3 frames with correct CRCs. It gets its line in SHA256SUMS, and an event
(file_adopted, on g3.files) with its digest. From then on `archiver verify`
checks it, `files` lists it, and `archiver retire` may retire it. `repair` can't
rebuild it: the event doesn't say from which records it was made.

  PATH…   these files, or all files in these directories: relative to DIR, or
          absolute; - reads them from stdin. A retired file that was restored
          from a copy may be named, too: its bytes must be those recorded
  --all   all files that no event describes

Files must be where recorded files are: DIR/<5 digits>/<stream id>/<name>, the
name <start>_<NNN>.g3 with a start such as 2019-01-01-12-00-00 or 1546344000,
whose first 5 digits (as Unix time) are the directory's. Earlier recorders name
them so. What isn't adopted is shown with the reason: another name, not whole
frames, a copy of a recorded file, a link, changed less than a minute ago.
--damaged also adopts files that aren't whole frames, such as one that a crash
cut off: their events say so, and verify checks that they stay as they are.
Only SHA256SUMS is changed. The command may run while an archiver records, and
may be run again.

examples:
  archiver adopt --data-dir /data --all --dry-run
  archiver adopt --data-dir /data --all --reason 'from the old recorder'
  archiver adopt --data-dir /data 15463/crate1slot2
"""

import argparse

from archiver.console.arguments import archive_options, check_paths, command_parser, operator_options
from g3stream.service.arguments import EnvArgumentParser


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "adopt",
        __doc__,
        fine="every file is recorded",
        wrong="a file isn't, or the command failed; the reason is printed",
        act="archiver.operations.adopt_files:adopt",
        check=_check,
    )
    flags.add_argument("path", nargs="*", metavar="PATH", help="a file, or a directory of them; - for stdin")
    flags.add_argument("--all", action="store_true", help="all files that no event describes")
    archive_options(flags)
    operator_options(flags, "adopt")
    flags.add_argument("--damaged", action="store_true", help="also files that aren't whole G3 frames")
    flags.add_argument("--dry-run", action="store_true", help="read the files, but record nothing")
    flags.add_kafka_options()
    return flags


def _check(options: argparse.Namespace) -> None:
    check_paths(options, "adopt", flags="--all", given=options.all)
