"""The command `archiver status`: its flags."""

import argparse

from archiver.console.arguments import command_parser, stream_options
from g3stream.service.arguments import EnvArgumentParser

_DESCRIPTION = """\
Show what each stream receives, and how far its archive (--group) has come:

  last record  the age of the topic's last record. While an ingest is connected,
               it publishes at least one record each second
  last state   of the connection: start, end, connected, disconnected (why),
               quiet (connected, but a second without frames); and its age. It
               is looked for in the topic's last records (20,000, or 8 MB). In
               --json, `lost` stands for disconnected
  lag          how many records aren't recorded (durable and committed) yet, and
               the age of the first of these. While frames come, a second's
               worth is usual
  open file    its future path; its age, and how much of it is durable

Ages are the difference between a record's time (by the clock of ingest's host)
and this host's clock: they are right only if the two clocks agree. No group is
joined, and nothing is changed."""

_EXAMPLES = """\
examples:
  archiver status
  archiver status --stream crate1slot2 --group second-site
  archiver status --json | jq -r 'select(.lag > 10000) | .stream'

--json: one object a line for each stream: stream, group, problem (null, or
  what is wrong, in words), records (in the topic now), last_record (its time),
  fact (the last state: a record's kind), fact_why, fact_time, frames_since (if
  only frames were found: the time of the first of them), offset (committed),
  lag (records), lag_since (time of the first record that isn't recorded), file,
  file_start, file_bytes, file_frames, closing (why the file is being finished).
Times are ISO 8601 in UTC. What is unknown or doesn't apply is null.
"""


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    wrong = "Kafka can't be read; the reason is printed"
    flags = command_parser("status", _DESCRIPTION, _EXAMPLES, fine="shown, whatever the state", wrong=wrong)
    stream_options(flags)
    flags.add_argument("--json", action="store_true", help="JSON Lines instead of a table")
    flags.add_kafka_options()
    return flags


def main(options: argparse.Namespace) -> int:
    """Run the command with these options; return its exit code."""
    from archiver.console.runner import run  # not at the top, so that --help is fast
    from archiver.operations.stream_status import show

    return run(options, show)
