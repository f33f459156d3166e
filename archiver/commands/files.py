"""The command `archiver files`: its flags."""

import argparse

from archiver.console.arguments import command_parser, stream_options, time_option
from g3stream.service.arguments import EnvArgumentParser

_DESCRIPTION = """\
List what an archive (--group) has recorded, from the topic g3.files alone: the
data directory needn't be on this host.

Acquisitions are listed by time, the latest last, next to the prompt; those of
all streams together. Below each are its files:

  start    the first frame's time (UTC)
  length   from the first frame to the last
  frames   without those repeated at the file's head
  size     with them
  missing  frames that never reached ingest, by jumps of frame_num
  lost     records lost after that: a number, or ? if it is unknown; each loss
           has a line of its own
  closed   why: end, start (of the next), gap, disconnected (in --json:
           lost), time (the acquisition continues in the next file)

SALVAGED: the rest of a file that could not be recorded to its end. adopted: a
file that was there before the archive. (retired): it was deleted on purpose;
--retired lists these, with who retired them, when and why. A loss that affects
none of the files shown has a line of its own. Open files aren't listed: see
archiver status."""

_EXAMPLES = """\
examples:
  archiver files --since -12h
  archiver files --stream crate1slot2 --since 2026-11-22 --until 2026-11-23
  archiver files --json |
      jq -r 'select(.kind == "acquisition") | .files[].path'
  archiver files --retired --since -90d

--since, --until: an acquisition is listed, with all of its files, if it has at
least one frame between these times.

--json: one object a line, with `kind`:
  acquisition  stream, group, id, start (as in its directory and names),
               first_frame, last_frame, frames, missing, bytes, lost_records
               (null: unknown), over (false: its next file is being recorded),
               why, and files: path, number, first_frame, last_frame, frames,
               missing, bytes, sha256, why, host, losses, retired (null, or
               time, who, reason, host)
  salvaged     stream, group, path, start, frames, bytes, sha256, what, host,
               retired
  adopted      stream, group, path, start, frames, bytes, sha256, who, reason,
               damage, host, retired
  retired      only with --retired, and then only these: stream, group, path,
               bytes, sha256, time, who, reason, host
  loss         stream, group, records (null: unknown), times (the number of
               losses), what, cause (null: from before causes were recorded),
               since, until, offset, host. Losses within an acquisition are
               only in the losses of its files
  unreadable   what: an event that this program doesn't understand
Times are ISO 8601 in UTC, sizes in bytes.
"""


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    wrong = "Kafka can't be read; the reason is printed"
    flags = command_parser("files", _DESCRIPTION, _EXAMPLES, fine="listed", wrong=wrong)
    stream_options(flags)
    time_option(flags, "--since", "only what was recorded after this")
    time_option(flags, "--until", "only what was recorded before this")
    flags.add_argument("--retired", action="store_true", help="list only the files that were retired")
    flags.add_argument("--json", action="store_true", help="JSON Lines instead of a table")
    flags.add_kafka_options()
    return flags


def main(options: argparse.Namespace) -> int:
    """Run the command with these options; return its exit code."""
    from archiver.console.runner import run  # not at the top, so that --help is fast
    from archiver.operations.list_files import list_files

    return run(options, list_files)
