"""`archiver quarantine`: its flags."""

import argparse

from archiver.console.arguments import EXIT_CODES
from g3stream.host.environment import host_name
from g3stream.service.arguments import EnvArgumentParser, stream_flag

_DESCRIPTION = """\
Set aside one record at which a stream has stopped, so that recording goes on.

A record in a stream's topic that isn't ingest's, such as one without headers, stops its stream: skipping it unasked
could lose frames. The archiver's log and /healthz say its offset. First find out who wrote it, and see that it isn't
of a later version of ingest (then update the archiver). This copies it to the topic g3.frames.STREAM.quarantine, and
every archiver of the stream, here and where it is mirrored, verify, repair and replay go on without it: the archive
is as if it had never been there. It is told apart by its content and time, not by its offset.

With --partition it moves what somebody has written to another partition of the topic than 0, where nobody records
it: all records there up to that offset are copied to the same topic, and then deleted where they were."""

_EXAMPLES = f"""\
examples:
  archiver quarantine --stream crate1slot2 --offset 5120
  archiver quarantine --stream crate1slot2 --offset 5120 --why 'written by a test, see the log of 26 November'
  archiver quarantine --stream crate1slot2 --partition 1 --offset 449    the last offset that /healthz tells of it

{EXIT_CODES.format(fine="it is in quarantine", wrong="it isn't, and says why")}"""


def make_parser() -> EnvArgumentParser:
    """The command's flags."""
    flags = EnvArgumentParser("archiver quarantine", _DESCRIPTION, _EXAMPLES)
    flags.add_argument("--stream", type=stream_flag, required=True, metavar="NAME", help="the stream")
    flags.add_argument("--offset", type=_offset, required=True, metavar="N", help="the record's offset in its topic")
    flags.add_argument(
        "--partition", type=_offset, default=0, metavar="N", help="move all up to the offset out of it, if not 0"
    )
    flags.add_argument(
        "--why",
        default=f"by an operator on {host_name()}",
        metavar="TEXT",
        help="is kept with it; by default: by an operator on this host",
    )
    flags.add_argument(
        "--force", action="store_true", help="also a record that a later version of ingest may have made"
    )
    flags.add_kafka_options()
    return flags


def main(args: list[str]) -> int:
    """Run the command; args: what follows its name. Gives the exit code."""
    options = make_parser().parse_args(args)
    from archiver.operations.quarantine_record import quarantine  # only now: as the package says

    return quarantine(options)


def _offset(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number")
    return int(text)
