"""The command `archiver adopt`: records files that were there before the archive, so that `verify` checks them."""

import argparse
import os
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from archiver.archive import archive_lock, archive_settings, identity
from archiver.archive.location import located
from archiver.archive.root import ArchiveRoot
from archiver.console.progress import Progress
from archiver.console.runner import CommandError, print_err, with_kafka
from archiver.console.tables import Part, Table, print_parts
from archiver.core.events import FileAdopted
from archiver.core.formatting import count_noun, format_bytes
from archiver.kafka.publication import publish_events
from archiver.kafka.topic_reader import TopicReader
from archiver.operations import adoption
from archiver.operations.adoption import AdoptionPlan
from archiver.operations.retirement import adoption_event
from archiver.verify import tree_scan
from archiver.verify.checks import InspectedFile
from archiver.verify.file_reads import read_files
from archiver.verify.inventory import Inventory
from archiver.verify.tree_scan import FileEntry
from g3stream.contract.topic_settings import EXPECTED_FILES_TOPIC
from g3stream.host.environment import host_name, now_ms
from g3stream.kafka.topic_admin import TopicAdmin

_MAX_DAMAGE = 1000
"""Characters; the limit in core/events.py."""


@with_kafka
def adopt(config: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Run the command with its options (commands/adopt.py); return its exit code."""
    location = archive_settings.with_settings(located(options.data_dir, options.private_dir))
    if why := identity.mismatch(location, options.group):
        raise CommandError(f"{location.data_dir}: {why}")
    known, findings = Inventory.collect(location, TopicReader(config, options.group), events_may_be_lost=True)
    for finding in findings:
        print_err(f"{options.parser.prog}: {finding.text}")
    now = now_ms()
    plan = adoption.plan_named(known, options.path, now) if options.path else adoption.plan_unlisted(known, now)
    if options.stream:
        plan.to_read = [entry for entry in plan.to_read if known.stream_of(entry.path) in options.stream]
    with ExitStack() as locks, Progress() as progress:
        run = Adoption(ArchiveRoot(location, options.group, host_name()), options, known, plan, progress)
        if options.dry_run:
            deque(run.events(), 0)
        else:
            locks.callback(os.close, archive_lock.acquire_shared(location))
            TopicAdmin(config).ensure(EXPECTED_FILES_TOPIC)
            publish_events(config, run.events())
    print_parts(run.as_text())
    return int(bool(plan.refused))


@dataclass(frozen=True, slots=True)
class Adoption:
    """One run of the command over the chosen files."""

    archive: ArchiveRoot
    options: argparse.Namespace
    known: Inventory
    plan: AdoptionPlan
    progress: Progress
    adopted: list[FileAdopted] = field(default_factory=list)

    def events(self) -> Iterator[FileAdopted]:
        """Read each file, write its line in SHA256SUMS, and yield its event if it is adopted.

        Raises OSError.
        """
        entries = {entry.path: entry for entry in self.plan.to_read}
        others = {event.sha256: path for path, event in self.known.file_events.items()}
        for seen in read_files(self.known, self.plan.to_read, self.progress):
            recorded = self.known.file_events.get(seen.path)
            why = adoption.adoption_refusal(seen, recorded, others, damaged_too=self.options.damaged)
            why = why or self._changed(entries[seen.path])
            if not why and not self.options.dry_run:
                why = self._add_line(seen)
            if why:
                self.plan.refused[seen.path] = why
                continue
            event = self._event(seen)
            others.setdefault(event.sha256, event.path)
            self.adopted.append(event)
            yield event

    def as_text(self) -> list[Part]:
        """Return a table of the files, and their totals."""
        did = "would be adopted" if self.options.dry_run else "adopted"
        rows = [
            (it.path, format_bytes(it.bytes), f"{it.frames:,}", f"{did}: {it.damage}" if it.damage else did)
            for it in self.adopted
        ]
        rows += [(path, "", "", f"not adopted: {why}") for path, why in sorted(self.plan.refused.items())]
        totals = [
            f"{count_noun(len(self.adopted), 'file')} {did}, {format_bytes(sum(it.bytes for it in self.adopted))}"
        ]
        if self.plan.recorded:
            totals.append(f"{self.plan.recorded:,} recorded already")
        if self.plan.refused:
            totals.append(f"{len(self.plan.refused):,} not adopted")
        head: list[Part] = [Table(("file", " size", " frames", "what"), rows, frozenset({0, 3})), ""] if rows else []
        return [*head, "; ".join(totals)]

    def _event(self, seen: InspectedFile) -> FileAdopted:
        who, reason = self.options.who, self.options.reason
        if recorded := self.known.file_events.get(seen.path):
            return adoption_event(recorded, now_ms(), who, reason, host_name())
        contents = seen.contents
        assert contents
        return FileAdopted(
            *(self.archive.group, seen.stream, seen.path, contents.frames, contents.bytes, contents.sha256),
            *(now_ms(), who, host_name(), reason, (contents.broken or "")[:_MAX_DAMAGE]),
        )

    def _add_line(self, seen: InspectedFile) -> str:
        """Write a file's line in SHA256SUMS; return why that isn't possible, else empty. Raises OSError."""
        contents = seen.contents
        assert contents
        with ExitStack() as claim:
            claim.callback(os.close, self.archive.claim(seen.stream, alone=False))
            added = self.archive.add_checksum(seen.stream, seen.path, contents.sha256)
        return "" if added else "its line can't be added to its directory's SHA256SUMS; the log says why"

    def _changed(self, entry: FileEntry) -> str:
        """Return how a file was changed while it was read, so that its digest may be wrong; else empty."""
        try:
            now = tree_scan.stat_entry(self.archive.location.data_dir, entry.path)
        except OSError as error:
            return error.strerror or "it was removed while it was read"
        return "" if now == entry else "it was changed while it was read"
