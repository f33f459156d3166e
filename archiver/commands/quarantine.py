"""Quarantine the record at which a stream has stopped, so that recording
continues.

A record that ingest didn't publish, such as one without headers, stops its
stream: skipping it without asking could lose frames. The archiver's log and
/healthz report its offset. First find out who published it, and check that it
isn't from a later version of ingest (then update the archiver). This command
copies it to the topic g3.frames.STREAM.quarantine. Every archiver of the
stream, here and where it is mirrored, and verify, repair and replay then leave
it out, as if it had never been published. They recognize it by its content and
time, not by its offset.

With --partition, it moves the records of another partition than 0, which
nobody records: all of them up to that offset are copied to the same topic, then
deleted where they were.

examples:
  archiver quarantine --stream crate1slot2 --offset 5120
  archiver quarantine --stream crate1slot2 --offset 5120 \\
                      --why 'written by a test, see the log of 26 November'
  archiver quarantine --stream crate1slot2 --partition 1 --offset 449
                      up to the last offset that /healthz reports
"""

import argparse

from archiver.console.arguments import command_parser, why
from g3stream.host.environment import host_name
from g3stream.service.arguments import EnvArgumentParser, stream_flag


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "quarantine",
        __doc__,
        fine="it is in quarantine",
        wrong="it isn't; the reason is printed",
        act="archiver.operations.quarantine_record:quarantine",
    )
    flags.add_argument("--stream", type=stream_flag, required=True, metavar="NAME", help="the stream")
    flags.add_argument("--offset", type=_offset, required=True, metavar="N", help="the record's offset in its topic")
    what = "if not 0: move all of its records up to the offset"
    flags.add_argument("--partition", type=_offset, default=0, metavar="N", help=what)
    what = "the reason, kept with the record (ASCII, up to 200 characters); default: by an operator on this host"
    flags.add_argument("--why", type=why, default=f"by an operator on {host_name()}", metavar="TEXT", help=what)
    flags.add_argument("--force", action="store_true", help="even if a later version of ingest may have published it")
    flags.add_kafka_options()
    return flags


def _offset(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number")
    return int(text)
