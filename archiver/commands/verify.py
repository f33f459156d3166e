"""`archiver verify`: its flags."""

from archiver.console.arguments import (
    EXIT_CODES,
    data_dir_option,
    group_option,
    private_dir_option,
    streams_option,
    time_option,
)
from g3stream.service.arguments import EnvArgumentParser

_DESCRIPTION = """\
Prove that an archive is whole and right. Nothing is changed, no consumer group is joined, and a live archiver isn't
disturbed; what it finishes meanwhile is left for the next time. Every file is read once:

  each file of which g3.files tells is there, under its name, and its bytes are those that were told; what was
  retired (`archiver retire`) need not be there, and is counted
  each is whole G3 frames with right CRCs, and its line in SHA256SUMS is right
  there is no other .g3 file (a copy, a foreign one) where recorded files may be, DIR/<5 digits>/<stream id>, nor a
  partial with which nobody goes on
  no record is in two files, nor a frame but for the carry; the files are numbered without a hole
  frame_num runs within a session, but for as many frames as were told to be missing

With --against-topic, also: each frame that the topics still have is in exactly one file, byte for byte. What
--name-format session leaves out, as the sender sent it again (docs/names.md), need be in none, and is counted."""

_EXAMPLES = """\
examples:
  archiver verify --data-dir /data
  archiver verify --data-dir /data --stream crate1slot2 --since 2026-11-21 --against-topic
  archiver verify --data-dir /data --json | jq -r '.findings[] | select(.fault == "missing") | .path'

The table says for each fault found which it is, the stream, the path below DIR, and what is wrong:
  missing, truncated, damaged, unreadable   a file isn't there, or isn't what was told
  swapped, renamed                          its bytes are another file's; or have another name
  doubled                                   no event tells of it; it is a copy of one
  foreign                                   no event tells of it. Only their number is shown (--verbose: all), but
                                            something is wrong: nobody can say whether they are what they were.
                                            `archiver adopt` records them; then they are proved, too
  no line, wrong line, line only            in SHA256SUMS; the last: for a file that isn't there
  stale partial                             in .archiver: nobody records it, and nobody would go on with it
  frames twice, untold gap                  frames are in another file too; or are missing, and no event tells
  event                                     an event, or a commit, contradicts itself or the one before
  not in a file, unlike topic               --against-topic: a frame is in no file; a file hasn't the topic's frames

--json: one object: counts, findings (fault, stream, path, text, other: the path of the same bytes), notes.

"""


def make_parser() -> EnvArgumentParser:
    """The command's flags."""
    codes = EXIT_CODES.format(
        fine="nothing is wrong", wrong="something is, and it says what; or it can't be done, and it says why"
    )
    flags = EnvArgumentParser("archiver verify", _DESCRIPTION, _EXAMPLES + codes)
    data_dir_option(flags)
    private_dir_option(flags, env="ARCHIVER_PRIVATE_DIR")
    streams_option(flags)
    time_option(flags, "--since", "only files with frames of this time or later")
    flags.add_argument("--against-topic", action="store_true", help="also compare with what the topics still have")
    flags.add_argument("--verbose", action="store_true", help="name each foreign file, too")
    flags.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    group_option(flags)
    flags.add_kafka_options()
    return flags


def main(args: list[str]) -> int:
    """Run the command; args: what follows its name. Gives the exit code."""
    options = make_parser().parse_args(args)
    from archiver.verify.report import verify  # only now: as the package says

    return verify(options)
