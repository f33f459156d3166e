"""The command `archiver verify`: prove that an archive is complete and correct, or report its faults."""

import argparse
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from confluent_kafka import KafkaException

from archiver.archive import archive_settings
from archiver.archive.location import located
from archiver.console.progress import Progress
from archiver.console.runner import print_lines, with_kafka
from archiver.console.tables import Part, Table, print_parts
from archiver.core.formatting import format_bytes
from archiver.kafka.publication import OutgoingMessage, publish
from archiver.kafka.topic_reader import TopicReader
from archiver.verify.checks import CHECKSUM_FAULTS, Counts, Fault, Finding
from archiver.verify.verifier import Report, inspect
from g3stream.contract.program_status import VerifyStatus, encode
from g3stream.contract.topics import STATUS_TOPIC
from g3stream.host.environment import host_name, now_ms
from g3stream.host.printable import printable
from g3stream.kafka.status_publisher import create_status_topic
from g3stream.kafka.topic_admin import TopicAdmin


@with_kafka
def verify(config: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Run the command with its options (commands/verify.py); return its exit code."""
    location = located(options.data_dir, options.private_dir)
    with contextlib.suppress(PermissionError):  # only the user who records may read it
        location = archive_settings.with_settings(location)
    reader = TopicReader(config, options.group)
    with Progress() as progress:
        report = inspect(
            location, reader, options.stream, options.since, progress, against_topic=options.against_topic
        )
    if options.json:
        print_lines(as_json(report))
    else:
        print_parts(as_text(report, all_unknown=options.verbose))
    if not options.stream and options.since is None:
        _publish_outcome(config, options, report)
    return int(bool(report.findings))


def _publish_outcome(config: Mapping[str, Any], options: argparse.Namespace, report: Report) -> None:
    """Publish what `archiver info` shows of the last verification, if this user may: reading is all it needs."""
    unknown = sum(it.fault is Fault.UNKNOWN_FILE for it in report.findings)
    outcome = VerifyStatus(
        group=options.group,
        host=host_name(),
        data_dir=str(options.data_dir.absolute()),
        time_ms=now_ms(),
        files=report.counts.files,
        bytes=report.counts.bytes,
        wrong=len(report.findings) - unknown,
        unknown=unknown,
        against_topic=options.against_topic,
    )
    with contextlib.suppress(KafkaException):
        create_status_topic(TopicAdmin(config))  # no program may have reported yet
        publish(config, STATUS_TOPIC, [OutgoingMessage(encode(outcome), outcome.key)])


def as_text(report: Report, *, all_unknown: bool = False, advise: bool = True) -> list[Part]:
    """Return a table of the findings and a summary of what was checked.

    all_unknown: also list each unknown file.
    advise: add what an operator can do about them.
    """
    lines: list[Part] = []
    unknown = [it for it in report.findings if it.fault is Fault.UNKNOWN_FILE]
    shown = [it for it in report.findings if all_unknown or it.fault is not Fault.UNKNOWN_FILE]
    if shown:
        rows = [(it.fault, it.stream or "-", it.path or "-", it.text) for it in shown]
        lines += [Table(("fault", "stream", "path", "what is wrong"), rows, frozenset({2, 3})), ""]
    if unknown:
        what = f"{_plural(len(unknown), 'unknown file')}, without an event; `archiver adopt` records such files"
        first = "" if all_unknown else f". The first (--verbose lists all): {printable(unknown[0].path)}"
        lines.append(f"{what}{first}")
    if advise:
        lines += _advice(report.findings)
    lines += [printable(it) for it in report.notes]
    lines.append(f"{_summary(report.counts)}: {_verdict(len(report.findings) - len(unknown), len(unknown))}")
    return lines


def _advice(findings: Sequence[Finding]) -> list[str]:
    """Return lines on what an operator can do about the findings."""
    lines = []
    if count := sum(it.is_rebuildable or it.fault in CHECKSUM_FAULTS for it in findings):
        lines.append(f"`archiver repair` can repair {count} of these, if the topics still have the frames")
    if any(it.fault is Fault.MISSING for it in findings):
        lines.append("Files that were deleted on purpose: record that with `archiver retire`")
    return lines


def as_json(report: Report) -> str:
    """Return one JSON object, documented in --help."""
    findings = [
        {"fault": it.fault, "stream": it.stream, "path": it.path, "text": it.text, "other": it.other}
        for it in report.findings
    ]
    return json.dumps({"counts": asdict(report.counts), "findings": findings, "notes": report.notes}, indent=2)


def _summary(counts: Counts) -> str:
    parts = [f"{_plural(counts.files, 'file')} of {_plural(counts.streams, 'stream')}, {format_bytes(counts.bytes)}"]
    parts[0] += f", {_plural(counts.frames, 'frame')}"
    if counts.same:
        parts.append(f"{_plural(counts.same, 'frame')} as the topics have them")
    for many, what in (
        (str(counts.salvaged), "of the files salvaged"),
        (str(counts.adopted), "of the files adopted"),
        (_plural(counts.retired, "file"), "retired, and not there"),
        (str(counts.recording), "being recorded"),
        (_plural(counts.unrecorded, "frame"), "in the topics not recorded yet"),
        (_plural(counts.never_received, "frame"), "never received, as reported"),
        (_plural(counts.records_lost, "record"), "lost, as reported"),
        (_plural(counts.explained, "frame"), "in the topics but lost, as reported"),
        (_plural(counts.sent_again, "frame"), "sent again, and left out (--name-format session)"),
        (_plural(counts.times_replaced, "record"), "with Kafka's times (LogAppendTime), not those of receipt"),
    ):
        if not many.startswith("0"):
            parts.append(f"{many} {what}")
    return "; ".join(parts)


def _verdict(wrong: int, unknown: int) -> str:
    parts = [f"{count} {what}" for count, what in ((wrong, "wrong"), (unknown, "unknown")) if count]
    return ", ".join(parts) or "nothing is wrong"


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
