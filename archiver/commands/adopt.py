"""`archiver adopt`: its flags."""

from archiver.console.arguments import EXIT_CODES, data_dir_option, group_option, private_dir_option, streams_option
from archiver.console.operator_arguments import operator_options, paths_below
from g3stream.service.arguments import EnvArgumentParser

_DESCRIPTION = """\
Record files that were in an archive before: another recorder's, or those of before the topic g3.files was lost.
Each is read, must be whole G3 frames with right CRCs, gets its line in SHA256SUMS, and an event (file_adopted, on
g3.files) with its digest. From then on `archiver verify` proves it, `files` lists it, and `archiver retire` may
retire it. Its event doesn't say from which records it was made, so `repair` can't make it again.

  PATH…   these files, or all files in these directories: below DIR, or absolute; - reads them from stdin. Also one
          that was retired and is back, restored from a copy: its bytes must be those that were recorded
  --all   all files of which no event tells

They must lie where recorded files lie, DIR/<5 digits>/<stream id>/<start>_<NNN>.g3 with a start such as
2019-01-01-12-00-00 or 1546344000, whose first 5 digits are the directory's: so earlier recorders name them. What
isn't adopted is shown with the reason: another name, no whole frames, a copy of a recorded file, a link, changed less
than a minute ago. --damaged adopts files that aren't whole frames, too, such as one that a crash cut off: their
events say so, and verify proves that they are as they were. Nothing is moved or changed but SHA256SUMS. May be run
while an archiver records, and again."""

_CODES = EXIT_CODES.format(
    fine="all that was asked for is recorded", wrong="some isn't, or it can't be done, and it says why"
)
_EXAMPLES = f"""\
examples:
  archiver adopt --data-dir /data --all --dry-run
  archiver adopt --data-dir /data --all --reason 'of the recorder before'
  archiver adopt --data-dir /data 15463/crate1slot2

{_CODES}"""


def make_parser() -> EnvArgumentParser:
    """The command's flags."""
    flags = EnvArgumentParser("archiver adopt", _DESCRIPTION, _EXAMPLES)
    flags.add_argument("path", nargs="*", metavar="PATH", help="a file, or a directory of them; - for stdin")
    flags.add_argument("--all", action="store_true", help="all files of which no event tells")
    data_dir_option(flags)
    private_dir_option(flags, env="ARCHIVER_PRIVATE_DIR")
    group_option(flags)
    streams_option(flags)
    operator_options(flags, "adopt")
    flags.add_argument("--damaged", action="store_true", help="also what isn't whole G3 frames, as it is")
    flags.add_argument("--dry-run", action="store_true", help="read all, but record nothing")
    flags.add_kafka_options()
    return flags


def main(args: list[str]) -> int:
    """Run the command; args: what follows its name. Gives the exit code."""
    parser = make_parser()
    options = parser.parse_args(args)
    if bool(options.path) == options.all:
        parser.error("give either PATHs or --all")
    paths = paths_below(options.data_dir, options.path)
    if options.path and not paths:
        print("no PATH came from stdin: nothing to adopt")
        return 0
    from archiver.operations.adopt_files import adopt  # only now: as the package says

    return adopt(options, paths)
