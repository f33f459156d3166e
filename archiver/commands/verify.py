"""Prove that an archive is complete and correct. Nothing is changed, no consumer
group is joined, and a live archiver isn't disturbed; what it finishes meanwhile
is left for the next time. Every file is read once:

  each file that g3.files records exists under its name, with the recorded
  bytes; files that were retired (`archiver retire`) need not exist, and are
  counted

  each file is whole G3 frames with correct CRCs, and its line in SHA256SUMS is
  right

  there is no other .g3 file (a copy, or an unknown one) where recorded files
  may be, DIR/<5 digits>/<stream id>, and no partial that no archiver continues

  no record is in two files, nor a frame except the carry; the files are
  numbered without a hole

  frame_num increases by one within a session, except for as many frames as were
  reported missing

With --against-topic, also: each frame that the topics still have is in exactly
one file, byte for byte. Frames that --name-format session leaves out, because
they were sent again (docs/analyse/names.md), need be in none, and are counted.

examples:
  archiver verify --data-dir /data
  archiver verify --data-dir /data --stream crate1slot2 --since 2026-11-21 \\
                  --against-topic
  archiver verify --data-dir /data --json |
      jq -r '.findings[] | select(.fault == "missing") | .path'

The table has for each finding the fault, the stream, the path below DIR, and
what is wrong:
  missing, truncated,   a file doesn't exist, or isn't what was recorded
  damaged, unreadable
  swapped, renamed      it has another file's bytes; or another name
  doubled               no event describes it; it is a copy of a recorded file
  foreign               no event describes it. Only their number is shown
                        (--verbose: all), but it counts as a fault: nobody can
                        prove that they are unchanged. `archiver adopt` records
                        them; then they are verified, too
  no line, wrong line,  in SHA256SUMS; the last: for a file that doesn't exist
  line only
  stale partial         in .archiver: nobody records it, or will continue it
  frames twice          its frames are in another file, too
  untold gap            frames are missing, and no event reports them
  event                 an event, or a commit, contradicts itself or the one
                        before
  not in a file         --against-topic: a frame is in no file
  unlike topic          --against-topic: a file's frames aren't the topic's

--json: one object: counts, findings (fault, stream, path, text, other: the path
  of the same bytes), notes.
"""

from archiver.console.arguments import archive_options, command_parser, time_option
from g3stream.service.arguments import EnvArgumentParser


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "verify",
        __doc__,
        fine="nothing is wrong",
        wrong="something is, or the command failed; the reason is printed",
        act="archiver.verify.report:verify",
    )
    archive_options(flags)
    time_option(flags, "--since", "only files with frames of this time or later")
    what = "also compare with the frames that the topics still have"
    flags.add_argument("--against-topic", action="store_true", help=what)
    flags.add_argument("--verbose", action="store_true", help="list each foreign file, too")
    flags.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    flags.add_kafka_options()
    return flags
