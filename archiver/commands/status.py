"""Say whether all is well with what is recorded (--group), and if not, what is
wrong: first in sentences, then a row for each stream, troubled ones first:

  state      recording     frames come, and are recorded
             idle          the sender is connected, and sends no frames
             disconnected  ingest has no connection to the sender
             no ingest     its ingest has died, or can't reach Kafka
             not archived  records wait in Kafka for longer than usual
             stopped       its ingest was stopped, or `archiver close` was used
  since      how long it has been in this state
  rate       received by its ingest in the last 10 s
  lag        records that aren't recorded (durable and committed) yet. While
             frames come, a second's worth is usual
  open file  its future path, and how much of it is durable; of a stopped
             stream, (why), such as the --why of `archiver close`

Then the group's archivers: where they run, their data directory, the space left
on its disk, for how long that lasts at the present rate, and what each records.

ingest and archivers report to the topic g3.status each 10 s; one that hasn't
for 35 s is taken for dead, and which streams an archiver records is known 10 s
late. Times are by the clocks of their hosts, and right only if these agree.
No group is joined, and nothing is changed.

examples:
  archiver status
  archiver status --watch
  archiver status --stream crate1slot2 --group second-site
  archiver status --json | jq -r 'select(.lag > 10000) | .stream'
  archiver status >/dev/null || mail -s 'g3 recorder' operator@site.internal

--json: one object a line, with `kind`:
  stream    stream, group, state, since, problem (null, or what is wrong with
            its topic or commit), records (in the topic now), last_record (its
            time), fact (the last record's kind, if it is no frame; lost stands
            for disconnected), fact_why, fact_time, frames_since (if it is a
            frame: since when frames come, as far as known), offset (committed),
            lag (records), lag_since (time of the first record that isn't
            recorded), acquisition_since (when the open acquisition began),
            file, file_start, file_bytes, file_frames, closing (why the file is
            being finished), bytes_per_s, archiver (that records it), sender,
            ingest_host, ingest_reported
  archiver  instance, group, host, streams, data_dir, disk_free_bytes,
            bytes_per_s, reported
  verdict   the last line: group, ok, problems (the sentences)
Times are ISO 8601 in UTC. What is unknown or doesn't apply is null.
"""

from archiver.console.arguments import command_parser, stream_options
from g3stream.service.arguments import EnvArgumentParser, seconds


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "status",
        __doc__,
        fine="all is well",
        wrong="something is wrong, or Kafka can't be read; what, is printed",
        act="archiver.status.show:show",
    )
    stream_options(flags)
    flags.add_argument("--json", action="store_true", help="JSON Lines instead of a table")
    what = "keep the screen up to date, each 2 s or so often, until Ctrl-C"
    flags.add_argument("--watch", type=seconds, nargs="?", const=2.0, metavar="DURATION", help=what)
    flags.add_kafka_options()
    return flags
