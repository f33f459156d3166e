"""List what an archive (--group) has recorded, from the topic g3.files: the data
directory needn't be on this host. If it is, --data-dir shows absolute paths,
and makes this fast: a catalog (docs/analyse/catalog.md) is kept there that only
has to be brought up to date, and that answers while Kafka can't be read.

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
archiver status.

examples:
  archiver files --since -12h
  archiver files --stream crate1slot2 --since 2026-11-22 --until 2026-11-23
  archiver files --data-dir /data --night yesterday
  archiver files --data-dir /data --session 1795385173 --format csv
  archiver files --where "missing > 0 and stream like 'crate1%'"
  archiver files --json |
      jq -r 'select(.kind == "acquisition") | .files[].path'
  archiver files --retired --since -90d

--since, --until: an acquisition is listed, with all of its files, if it has at
least one frame between these times. So it is with --night, from noon to noon.
--session, --where: of acquisitions, only the files that match are listed; and
no losses that affect none of them.

--where: an SQL expression on the columns of the catalog's view `files`: path,
kind (finished, salvaged, adopted), stream, id, start, number, acquisition (the
number of its first file), session, first_frame, last_frame, closed_at, closed
(as `why` below), frames, missing, bytes, losses, lost_records (null: unknown),
night (its date), sha256, md5, host, retired (time or null), retired_by,
retired_reason, what, who, reason, damage. Times are text such as
2026-11-22T21:30:00.000Z. --format csv has a line for each file, with them all.

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

import argparse

from archiver.console.arguments import (
    catalog_option,
    command_parser,
    night_option,
    stream_options,
    time_option,
)
from g3stream.service.arguments import EnvArgumentParser, directory


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "files",
        __doc__,
        fine="listed",
        wrong="Kafka and a catalog can't be read; the reason is printed",
        act="archiver.operations.list_files:list_files",
        check=_check,
    )
    stream_options(flags)
    time_option(flags, "--since", "only what was recorded after this")
    time_option(flags, "--until", "only what was recorded before this")
    night_option(flags)
    flags.add_argument("--session", type=session, metavar="N", help="only files of this session_id")
    flags.add_argument("--where", metavar="SQL", help="only files for which this is true")
    flags.add_argument("--retired", action="store_true", help="list only the files that were retired")
    what = "what to print; default: table"
    flags.add_argument("--format", choices=["table", "json", "csv"], help=what)
    flags.add_argument("--json", action="store_true", help="the same as --format json: JSON Lines")
    # Not from the environment of an archiver: absolute paths are shown only to who asks for them.
    what = "where the archive is, if it is on this host: shows absolute paths, and uses its catalog"
    flags.add_argument("--data-dir", type=directory, metavar="DIR", help=what)
    what = "its private directory, if that isn't DIR/.archiver"
    flags.add_argument("--private-dir", type=directory, metavar="DIR", help=what)
    catalog_option(flags)
    flags.add_kafka_options()
    return flags


def session(text: str) -> int:
    """Type of a flag: a session_id."""
    if not text.isascii() or not text.removeprefix("-").isdigit() or not -(2**63) <= int(text[:21]) < 2**63:
        raise argparse.ArgumentTypeError(f"{text[:30]!r} is no session_id: an integer, such as 1795385173")
    return int(text)


def _check(options: argparse.Namespace) -> None:
    """Check flags that exclude each other."""
    if options.night:
        if options.since is not None or options.until is not None:
            options.parser.error("not together: --night and --since or --until")
        options.since, options.until = options.night
    if options.json and options.format not in (None, "json"):
        options.parser.error(f"not together: --json and --format {options.format}")
    options.format = "json" if options.json else options.format or "table"
