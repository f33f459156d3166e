"""`archiver close`: its flags."""

from archiver.console.arguments import EXIT_CODES
from g3stream.host.environment import host_name
from g3stream.service.arguments import EnvArgumentParser, stream_flag

_DESCRIPTION = """\
End a stream's acquisition whose ingest died without a word: its host is gone, and won't come back soon.

An acquisition ends when its sender says so, when the connection is lost, or when no frames come for a while (--gap);
each of these is said by ingest. An ingest that was killed says nothing: then the open file waits for the next record,
which says that it is over. This publishes that record in its place: every archiver of the stream finishes the file,
and so does every replay. Frames that come later begin a new acquisition.

Nothing is done while an ingest is alive, or if the acquisition is over already. Ages are the differences between the
records' times (of the ingest's host) and this host's clock."""

_EXAMPLES = f"""\
examples:
  archiver status                                              which file is open, and how old the last record is
  archiver close --stream crate1slot2
  archiver close --stream crate1slot2 --why 'smurf-srv12 lost power'

{EXIT_CODES.format(fine="closed, or nothing to close", wrong="not closed, and says why")}"""


def make_parser() -> EnvArgumentParser:
    """The command's flags."""
    flags = EnvArgumentParser("archiver close", _DESCRIPTION, _EXAMPLES)
    flags.add_argument("--stream", type=stream_flag, required=True, metavar="NAME", help="the stream")
    flags.add_argument(
        "--why",
        default=f"closed by an operator on {host_name()}",
        metavar="TEXT",
        help="what the record says (ASCII, 200 characters); by default: closed by an operator on this host",
    )
    flags.add_kafka_options()
    return flags


def main(args: list[str]) -> int:
    """Run the command; args: what follows its name. Gives the exit code."""
    options = make_parser().parse_args(args)
    from archiver.operations.close_acquisition import close  # only now: as the package says

    return close(options)
