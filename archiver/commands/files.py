"""`archiver files`: its flags."""

from archiver.console.arguments import EXIT_CODES, group_option, streams_option, time_option
from g3stream.service.arguments import EnvArgumentParser

_DESCRIPTION = """\
List what an archive (--group) has recorded, from the topic g3.files alone: the data directory needn't be here.

Acquisitions by time, the latest last, next to the prompt; of all streams together, as what has happened in a night
has mostly happened to several of them. Below each its files:

  start    of the first frame (UTC)      length   from the first frame to the last
  frames   without those repeated at the head     size   with them
  missing  frames that were never received, as jumps of frame_num say: they were lost before ingest
  lost     records that were lost after that: a number, ? where it can't be known; each is told in a line of its own
  closed   why: end, start (of the next), gap, lost (the connection), time (the next file goes on)

SALVAGED: what was left of a file that could not be recorded to its end. adopted: a file that was there before.
(retired): it was deleted on purpose; --retired lists these, with who said so, when and why. A loss that hits none of
the files shown is shown on its own. What is being recorded now isn't listed: see archiver status."""

_EXAMPLES = f"""\
examples:
  archiver files --since -12h
  archiver files --stream crate1slot2 --since 2026-11-22 --until 2026-11-23
  archiver files --json | jq -r 'select(.kind == "acquisition") | .files[].path'
  archiver files --retired --since -90d

--since, --until: acquisitions that have at least a frame between these times are listed, whole.

--json: a line for each entry, an object with `kind`:
  acquisition  stream, group, id, start (as its directory and names say it), first_frame, last_frame, frames, missing,
               bytes, lost_records (null: can't be known), over (false: its next file is being recorded), why, and
               files: path, number, first_frame, last_frame, frames, missing, bytes, sha256, why, host, losses,
               retired (null, or time, who, reason, host)
  salvaged     stream, group, path, start, frames, bytes, sha256, what, host, retired
  adopted      stream, group, path, start, frames, bytes, sha256, who, reason, damage, host, retired
  retired      only with --retired, and then only these: stream, group, path, bytes, sha256, time, who, reason, host
  loss         stream, group, records (null: unknown), times (how many losses these are), what, cause (null: told
               before there were causes), since, until, offset, host. Those of an acquisition stand in its files'
               losses, and only there
  unreadable   what: an event that this program doesn't understand
Times are ISO 8601 in UTC, sizes in bytes.

{EXIT_CODES.format(fine="listed", wrong="Kafka can't be asked")}"""


def make_parser() -> EnvArgumentParser:
    """The command's flags."""
    flags = EnvArgumentParser("archiver files", _DESCRIPTION, _EXAMPLES)
    streams_option(flags)
    time_option(flags, "--since", "only what was recorded after this")
    time_option(flags, "--until", "only what was recorded before this")
    group_option(flags)
    flags.add_argument("--retired", action="store_true", help="list only the files that were retired")
    flags.add_argument("--json", action="store_true", help="JSON Lines instead of a table")
    flags.add_kafka_options()
    return flags


def main(args: list[str]) -> int:
    """Run the command; args: what follows its name. Gives the exit code."""
    options = make_parser().parse_args(args)
    from archiver.operations.list_files import show  # only now: as the package says

    return show(options)
