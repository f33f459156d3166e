"""End the acquisition of a stream whose ingest died and can't report its end: its
host is gone, and won't be back soon.

An acquisition ends when its sender ends it, when the connection to the sender
is closed, or when no frames come for --gap seconds. ingest publishes a record
of each of these. A killed ingest publishes nothing: the open file waits for
the next record. This command publishes the record in its place: every archiver
of the stream finishes the file, and so does every replay. Later frames begin a
new acquisition.

Nothing is published while an ingest is running, or if the acquisition has
ended already. Ages are the difference between a record's time (by the clock of
ingest's host) and this host's clock.

examples:
  archiver status                      shows the open file, and how old the
                                       last record is
  archiver close --stream crate1slot2
  archiver close --stream crate1slot2 --why 'smurf-srv12 lost power'
"""

from archiver.console.arguments import command_parser, why
from g3stream.host.environment import host_name
from g3stream.service.arguments import EnvArgumentParser, stream_flag


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "close",
        __doc__,
        fine="closed, or nothing to close",
        wrong="not closed; the reason is printed",
        act="archiver.operations.close_acquisition:close",
    )
    flags.add_argument("--stream", type=stream_flag, required=True, metavar="NAME", help="the stream")
    what = "the reason in the record (ASCII, up to 200 characters); default: closed by an operator on this host"
    flags.add_argument(
        "--why", type=why, default=f"closed by an operator on {host_name()}", metavar="TEXT", help=what
    )
    flags.add_kafka_options()
    return flags
