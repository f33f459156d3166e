"""The command `archiver verify`: prove that an archive is whole and right, or say what is wrong with it."""

import argparse
import json
import sys
from dataclasses import asdict

from archiver.command import (
    EXIT_CODES,
    data_dir_option,
    group_option,
    printable,
    run,
    streams_option,
    table,
    time_option,
)
from archiver.history import History
from archiver.progress import Progress
from archiver.times import size
from archiver.verification import Counts, Report, inspect
from ingest.settings import Flags

_DESCRIPTION = """\
Prove that an archive is whole and right. Nothing is changed, no consumer group is joined, and a live archiver isn't
disturbed; what it finishes meanwhile is left for the next time. Every file is read once:

  each file of which g3.files tells is there, under its name, and its bytes are those that were told
  each is whole G3 frames with right CRCs, and its line in SHA256SUMS is right
  there is no other .g3 file (a copy, a foreign one), nor a partial with which nobody goes on
  no record is in two files, nor a frame but for the carry; the files are numbered without a hole
  frame_num runs within a session, but for as many frames as were told to be missing

With --against-topic, also: each frame that the topics still have is in exactly one file, byte for byte."""

_EXAMPLES = """\
examples:
  archiver verify --data-dir /data
  archiver verify --data-dir /data --stream crate1slot2 --since 2026-11-21 --against-topic
  archiver verify --data-dir /data --json | jq -r '.findings[] | select(.fault == "missing") | .path'

The table says for each fault found which it is, the stream, the path below DIR, and what is wrong:
  missing, truncated, damaged, unreadable   a file isn't there, or isn't what was told
  swapped, renamed                          its bytes are another file's; or have another name
  doubled, foreign                          no event tells of it; it is a copy of one, or isn't
  no line, wrong line, line only            in SHA256SUMS; the last: for a file that isn't there
  stale partial                             in .archiver: nobody records it, and nobody would go on with it
  frames twice, untold gap                  frames are in another file too; or are missing, and no event tells
  event                                     an event, or a commit, contradicts itself or the one before
  not in a file, unlike topic               --against-topic: a frame is in no file; a file hasn't the topic's frames

--json: one object: counts, findings (fault, stream, path, text, other: the path of the same bytes), notes.

"""


def make_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    codes = EXIT_CODES.format(
        fine="nothing is wrong", wrong="something is, and it says what; or it can't be done, and it says why"
    )
    flags = Flags("archiver verify", _DESCRIPTION, _EXAMPLES + codes)
    data_dir_option(flags)
    streams_option(flags)
    time_option(flags, "--since", "only files with frames of this time or later")
    flags.add_argument("--against-topic", action="store_true", help="also compare with what the topics still have")
    flags.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    group_option(flags)
    flags.kafka_options()
    return flags


def main(args: list[str]) -> int:
    """Run the command; args: what follows its name. Gives the exit code."""
    parser = make_parser()
    options = parser.parse_args(args)
    root = options.data_dir.absolute()

    def act(history: History) -> int:
        with Progress() as progress:
            report = inspect(
                root, history, options.stream, options.since, progress, against_topic=options.against_topic
            )
        if report.unknown:
            unknown = ", ".join(report.unknown)
            print(f"{parser.prog}: error: nothing is known of {unknown}, in Kafka or in {root}", file=sys.stderr)
            return 1
        print(as_json(report) if options.json else as_text(report))
        return int(bool(report.findings))

    return run(options, parser.prog, act)


def as_text(report: Report) -> str:
    """A table of the findings, and what was looked at, in words."""
    lines = []
    if report.findings:
        rows = [(it.fault, it.stream or "-", it.path or "-", it.text) for it in report.findings]
        lines += [table(["fault", "stream", "path", "what is wrong"], rows), ""]
    lines += [printable(note) for note in report.notes]
    lines += [f"{_looked_at(report.counts)}: {_verdict(len(report.findings))}"]
    return "\n".join(lines)


def as_json(report: Report) -> str:
    """One JSON object, documented in --help."""
    findings = [
        {"fault": it.fault, "stream": it.stream, "path": it.path, "text": it.text, "other": it.other}
        for it in report.findings
    ]
    return json.dumps({"counts": asdict(report.counts), "findings": findings, "notes": report.notes}, indent=2)


def _looked_at(counts: Counts) -> str:
    parts = [f"{_many(counts.files, 'file')} of {_many(counts.streams, 'stream')}, {size(counts.bytes)}"]
    parts[0] += f", {_many(counts.frames, 'frame')}"
    if counts.same:
        parts.append(f"{_many(counts.same, 'frame')} as the topics have them")
    for many, what in (
        (str(counts.salvaged), "of the files salvaged"),
        (str(counts.recording), "being recorded"),
        (_many(counts.unrecorded, "frame"), "in the topics not recorded yet"),
        (_many(counts.never_received, "frame"), "never received, as told"),
        (_many(counts.records_lost, "record"), "lost, as told"),
        (_many(counts.explained, "frame"), "in the topics lost, as told"),
    ):
        if not many.startswith("0"):
            parts.append(f"{many} {what}")
    return "; ".join(parts)


def _verdict(findings: int) -> str:
    return f"{findings} wrong" if findings else "nothing is wrong"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
