"""The command `archiver repair`: rebuilds what verify finds broken, as far as the topics still have it."""

import argparse
import os
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any

from archiver.archive import archive_lock, archive_settings, checksums
from archiver.archive.location import Location, located
from archiver.archive.ownership import check_not_elsewhere
from archiver.archive.root import ArchiveRoot
from archiver.console.progress import Progress
from archiver.console.runner import with_kafka
from archiver.console.tables import print_parts
from archiver.core.formatting import format_bytes
from archiver.core.paths import PartialName
from archiver.kafka.publication import publish_events
from archiver.kafka.topic_reader import TopicReader
from archiver.operations.retirement import adoption_event
from archiver.replay.plan import Selection
from archiver.replay.rebuilt import RebuildOutcome
from archiver.replay.sinks import InPlaceTarget, remove_leftovers
from archiver.replay.topic_replay import TopicReplay
from archiver.verify.checks import CHECKSUM_FAULTS, Fault, Finding
from archiver.verify.report import as_text
from archiver.verify.verifier import Report, inspect
from g3stream.host.environment import host_name, now_ms


@with_kafka
def repair(config: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Run the command with its options (commands/repair.py); return its exit code."""
    reader = TopicReader(config, options.group)
    location = archive_settings.with_settings(located(options.data_dir, options.private_dir))
    archive = ArchiveRoot(location, options.group, host_name())
    check_not_elsewhere(archive, reader)
    report = _verified(location, reader, options, retired_too=options.retired)
    if report.findings:
        print_parts([*as_text(report, advise=False), ""])
        with ExitStack() as stack:
            stack.callback(os.close, archive_lock.acquire_shared(location))
            rebuilt = rebuild_broken(archive, reader, report, stack.enter_context(Progress()))
        recorded = report.catalog.file_events()
        publish_events(
            config,  # of retired files that were rebuilt: from now on verify expects them
            [
                adoption_event(recorded[path], now_ms(), options.who, options.reason, host_name())
                for path in sorted(rebuilt & report.catalog.retired.keys())
            ],
        )
        report = _verified(location, reader, options)
    print_parts(as_text(report, advise=False))
    return int(bool(report.findings))


def _verified(
    location: Location, reader: TopicReader, options: argparse.Namespace, *, retired_too: bool = False
) -> Report:
    with Progress() as progress:
        return inspect(location, reader, options.stream, options.since, progress, retired_too=retired_too)


def rebuild_broken(archive: ArchiveRoot, reader: TopicReader, report: Report, progress: Progress) -> set[str]:
    """Repair what can be repaired, and print what was done; return the files that are right now.

    Raises OSError, KafkaException, CheckpointError.
    """
    rebuilt: set[str] = set()
    recorded = report.catalog.file_events()
    todo: dict[str, list[Finding]] = defaultdict(list)
    for finding in report.findings:
        if finding.is_rebuildable or finding.fault in (*CHECKSUM_FAULTS, Fault.STALE):
            todo[finding.stream].append(finding)
    topics = set(reader.streams())
    commits = reader.committed(sorted(topics & todo.keys()))
    for stream, findings in sorted(todo.items()):
        with ExitStack() as claims:
            claims.callback(os.close, archive.claim(stream, alone=False))  # excludes a replay of the stream
            claims.callback(os.close, archive.claim_repair(stream))
            remove_leftovers(archive, stream)
            for finding in findings:
                if finding.fault is Fault.STALE:
                    _discard(archive, report, finding, progress)
                elif finding.fault in CHECKSUM_FAULTS and archive.add_checksum(
                    stream, finding.path, recorded[finding.path].sha256
                ):
                    where = checksums.display_path(archive.location, finding.path.rpartition("/")[0])
                    progress.print_output(f"{finding.path}: its line is in {where} now")
            paths = frozenset(finding.path for finding in findings if finding.is_rebuildable)
            if paths and stream in topics:
                files, span = report.catalog.files[stream], reader.offset_range(stream)
                replay = TopicReplay(reader, stream, files, span, commits.get(stream), archive.location)
                rebuilt |= _rebuild(archive, replay, paths, progress)
            elif paths:
                progress.print_output(f"{stream}: it has no topic any more; its broken files can't be rebuilt")
    return rebuilt


def _discard(archive: ArchiveRoot, report: Report, stale: Finding, progress: Progress) -> None:
    """Remove a stale partial if its file is finished and right."""
    partial = stale.path.rpartition("/")[2]
    name = PartialName.parse(partial)
    finished = {(it.path, it.first.time) for it in report.catalog.files.get(stale.stream, ())}
    wrong = {finding.path for finding in report.findings}
    if name and (name.path, name.first_ms) in finished and name.path not in wrong:
        archive.discard(stale.stream, partial)
        progress.print_output(f"{stale.path}: removed, as its file is finished")
    else:
        progress.print_output(f"{stale.path}: an archiver salvages or removes it when it is started again")


def _rebuild(archive: ArchiveRoot, replay: TopicReplay, paths: frozenset[str], progress: Progress) -> set[str]:
    """Rebuild files of a stream; return those that are right now."""
    with closing(InPlaceTarget(archive, replay.stream)) as target:
        came = replay.run(target, Selection(paths=paths), progress)
    done = {it.file.path: it for it in target.results}
    why = {file.path: file.missing for file in came.not_rebuilt}
    right = set()
    for path in sorted(paths):
        it = done.get(path)
        if it and it.outcome in (RebuildOutcome.WRITTEN, RebuildOutcome.ALREADY_THERE):
            right.add(path)
            is_new = it.outcome is RebuildOutcome.WRITTEN
            what = f"rebuilt, {format_bytes(it.size_bytes)}" if is_new else "it is right already"
        else:
            reason = it.outcome if it else why.get(path, came.halted or "its records have left the topic")
            what = f"can't be rebuilt: {reason}"
        progress.print_output(f"{path}: {what}")
    return right
