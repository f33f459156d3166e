"""`archiver status`: its flags."""

from archiver.console.arguments import EXIT_CODES, group_option, streams_option
from g3stream.service.arguments import EnvArgumentParser

_DESCRIPTION = """\
Show for each stream what comes, and what its archive (--group) makes of it:

  last record  how old the topic's last record is. While an ingest is connected there is one at least each second
  last fact    what was last said besides frames: start, end, connected, lost (why), quiet (connected, but another
               second without frames); and how long ago. It is looked for in the last records (20,000, or 8 MB)
  lag          how many records aren't recorded (durable, committed) yet, and how old the first of these is. While
               data comes, a second's worth is usual
  open file    the path that it will have; how old it is, and how much of it is durable

Ages are the differences between the records' times (of the ingest's host) and this host's clock: no more right than
the two agree. No group is joined, and nothing is changed."""

_EXAMPLES = f"""\
examples:
  archiver status
  archiver status --stream crate1slot2 --group second-site
  archiver status --json | jq -r 'select(.lag > 10000) | .stream'

--json: a line for each stream, an object: stream, group, problem (null, or what is wrong in words), records (in the
topic now), last_record (when, UTC), fact (its kind), fact_why, fact_time, frames_since (when only frames were found:
the first of them), offset (committed), lag (records), lag_since (time of the first that isn't recorded), file,
file_start, file_bytes, file_frames, closing (why the file is being finished). Times: ISO 8601, UTC. What isn't known,
or isn't so, is null.

{EXIT_CODES.format(fine="shown, whatever it is", wrong="Kafka can't be asked")}"""


def make_parser() -> EnvArgumentParser:
    """The command's flags."""
    flags = EnvArgumentParser("archiver status", _DESCRIPTION, _EXAMPLES)
    streams_option(flags)
    group_option(flags)
    flags.add_argument("--json", action="store_true", help="JSON Lines instead of a table")
    flags.add_kafka_options()
    return flags


def main(args: list[str]) -> int:
    """Run the command; args: what follows its name. Gives the exit code."""
    options = make_parser().parse_args(args)
    from archiver.operations.stream_status import show  # only now: as the package says

    return show(options)
