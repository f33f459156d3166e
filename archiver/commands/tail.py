"""Show the last frames of a stream as Kafka has them, and with --follow what
comes: to see whether a detector sends, and what. It joins no group and only
reads.

A line for each frame: when ingest received it, its type, session_id and
frame_num, its size, its sostream_id, and its keys. Between them stand START
and END of acquisitions, connections made and lost, and LOST where records are
missing.

examples:
  archiver tail crate1slot2
  archiver tail crate1slot2 --follow
  archiver tail crate1slot2 -n 1 --dump
  archiver tail crate1slot2 --since -5m --json | jq -c '[.time, .bytes]'

--json prints one JSON object a line; kind is
  frame              stream, offset, time, type, session, number, bytes, id,
                     keys (null: it isn't known, or there is none)
  start, end         the same, of the frame that is the flow control
  connected, lost    stream, offset, time, why; lost: the connection ended
  loss               stream, records (null: unknown), what, cause
Times are ISO 8601 in UTC, sizes in bytes.
"""

import argparse
from importlib.util import find_spec

from archiver.console.arguments import command_parser, time_option
from g3stream.service.arguments import EnvArgumentParser, stream_flag

_MAX_FRAMES = 100_000


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "tail",
        __doc__,
        fine="shown",
        wrong="there is no such stream, or Kafka can't be read; the reason is printed",
        act="archiver.operations.tail:tail",
        check=_check,
    )
    flags.add_argument("stream", type=stream_flag, metavar="STREAM", help="the stream, such as crate1slot2")
    what = "how many frames to begin with; default: 10"
    flags.add_argument("-n", "--frames", type=_count, metavar="N", help=what)
    time_option(flags, "--since", "begin with the frames received from then on")
    flags.add_argument("-f", "--follow", action="store_true", help="continue with what comes, until Ctrl-C")
    flags.add_argument("--json", action="store_true", help="print JSON Lines")
    flags.add_argument("--dump", action="store_true", help="print each frame's content, as spt3g-dump does")
    flags.add_kafka_options()
    return flags


def _count(text: str) -> int:
    """Type of a flag: a number of frames."""
    if not (text.isascii() and text.isdigit()) or int(text[:9]) > _MAX_FRAMES:
        raise argparse.ArgumentTypeError(f"{text[:30]!r} is no number from 0 to {_MAX_FRAMES}")
    return int(text)


def _check(options: argparse.Namespace) -> None:
    """Check flags that exclude each other."""
    if options.since is not None and options.frames is not None:
        options.parser.error("not together: --since and --frames")
    if options.json and options.dump:
        options.parser.error("not together: --json and --dump")
    if options.dump and find_spec("spt3g") is None:
        options.parser.error("--dump needs spt3g: install g3-recorder's extra [spt3g]")
    if options.since is None and options.frames is None:
        options.frames = 10
