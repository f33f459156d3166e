"""Show an archive (--group) on one screen, from Kafka alone: the data directory
needn't be on this host.

  directory    where its archivers run, and their data directory
  disk         free space, and for how long it lasts at the mean rate of the
               last 7 days
  first, last  the files that begin first and last
  recorded     files that aren't retired, of how many streams, on how many days
  repairable   since when the topics have all records, so that `archiver repair`
               and `replay` can rebuild files
  last verify  of the whole archive, with its result

examples:
  archiver info
  archiver info --json | jq .verified

--json: one object: group, ok (whether `archiver status` finds nothing wrong),
  first_file, first_time, last_file, last_time, streams, files, bytes, days,
  salvaged, adopted, retired, retired_bytes, losses, repairable_since (by
  stream), bytes_per_day, directories (host, data_dir, free_bytes), verified
  (null, or time, host, data_dir, files, bytes, wrong, unknown, against_topic).
Times in it are ISO 8601 in UTC, sizes in bytes.
"""

from archiver.console.arguments import command_parser, group_option, local_time_option
from g3stream.service.arguments import EnvArgumentParser


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "info",
        __doc__,
        fine="all is well",
        wrong="something is wrong (archiver status), or Kafka can't be read",
        act="archiver.status.info:show_info",
    )
    group_option(flags)
    local_time_option(flags, "show times in this host's zone, instead of UTC")
    flags.add_argument("--json", action="store_true", help="one JSON object instead of text")
    flags.add_kafka_options()
    return flags
