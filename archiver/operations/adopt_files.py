"""The command `archiver adopt`: record files that were there before, so that `verify` proves them from then on."""

import argparse
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from archiver.archive import archive_lock, archive_settings, identity
from archiver.archive.location import Location, located
from archiver.archive.root import ArchiveRoot
from archiver.console.progress import Progress
from archiver.console.runner import print_err, print_lines, run_client, table
from archiver.core.events import FileAdopted
from archiver.core.formatting import count_noun, format_bytes
from archiver.kafka.event_batch import publish_events
from archiver.kafka.topic_reader import TopicReader
from archiver.operations import adoption
from archiver.operations.adoption import AdoptionPlan, ArchiveContents
from archiver.operations.retirement import adoption_event
from archiver.verify import tree_scan
from archiver.verify.checks import InspectedFile
from archiver.verify.file_reads import FileToRead, read_files
from archiver.verify.inventory import Inventory
from archiver.verify.tree_scan import FileEntry
from g3stream.contract.topic_settings import EXPECTED_FILES_TOPIC
from g3stream.host.environment import host_name
from g3stream.kafka.topic_admin import TopicAdmin

_PROG = "archiver adopt"
_MAX_DAMAGE = 1000
"""Characters; as core/events.py takes them."""


def adopt(options: argparse.Namespace, paths: Sequence[str]) -> int:
    """Do as the options say (commands/adopt.py). paths: below the data directory. Gives the exit code."""
    return run_client(options, _PROG, lambda config: _adopt(config, options, paths))


def _adopt(config: Mapping[str, Any], options: argparse.Namespace, paths: Sequence[str]) -> int:
    location = archive_settings.with_settings(located(options.data_dir, options.private_dir))
    if why := _not_the_archive(location, options.group):
        print_err(f"{_PROG}: error: {location.data_dir}: {why}")
        return 1
    history = TopicReader(config, options.group)
    known, findings = Inventory.collect(location, history, events_may_be_lost=True)
    for finding in findings:
        print_err(f"{_PROG}: {finding.text}")
    archive = ArchiveContents(
        known.tree.entries, known.file_events, known.catalog.retired.keys(), known.in_progress()
    )
    now = _now()
    choice = adoption.plan_named(archive, paths, now) if paths else adoption.plan_unlisted(archive, now)
    if options.stream:
        theirs = [entry for entry in choice.to_read if known.stream_of(entry.path) in options.stream]
        choice = replace(choice, to_read=tuple(theirs))
    with ExitStack() as held, Progress() as progress:
        run = Adoption(location, options, known, choice, progress)
        if options.dry_run:
            for _ in run.events():
                pass
        else:
            held.callback(os.close, archive_lock.acquire_shared(location))
            TopicAdmin(config).ensure(EXPECTED_FILES_TOPIC)
            publish_events(config, run.events())
    print_lines(run.as_text())
    return int(bool(run.refused))


def _not_the_archive(location: Location, group: str) -> str:
    """Why files there aren't that group's; empty if they are. Raises OSError."""
    own = identity.read(location)
    if own is None:
        return (
            "no archiver has recorded there, or its disk isn't mounted, or it has another --private-dir. "
            "For a new archive, start its archiver once; then adopt what was there before"
        )
    return "" if own.group == group else f"it is the archive of the group {own.group}, not {group}"


class Adoption:
    """One run over what was chosen. refused: by path, why not."""

    def __init__(
        self,
        location: Location,
        options: argparse.Namespace,
        known: Inventory,
        choice: AdoptionPlan,
        progress: Progress,
    ) -> None:
        self.refused = dict(choice.refused)
        self._location = location
        self._archive = ArchiveRoot.from_location(location, options.group, host_name())
        self._known = known
        self._plan = choice
        self._progress = progress
        self._who, self._reason, self._dry_run = options.who, options.reason, options.dry_run
        self._damaged_too = options.damaged
        self._adopted: list[FileAdopted] = []

    def events(self) -> Iterator[FileAdopted]:
        """Read each file; gives the event of each that is adopted, once it has its line in SHA256SUMS.

        Raises OSError.
        """
        entries = {entry.path: entry for entry in self._plan.to_read}
        files: dict[str, list[FileToRead]] = {}
        for path, entry in entries.items():
            files.setdefault(self._known.stream_of(path), []).append(FileToRead(entry))
        others = {event.sha256: path for path, event in self._known.file_events.items()}
        for seen in read_files(self._location.data_dir, files, self._progress):
            told = self._known.file_events.get(seen.path)
            why = adoption.adoption_refusal(seen, told, others, damaged_too=self._damaged_too)
            why = why or self._changed(entries[seen.path])
            if not why and not self._dry_run:
                why = self._add_line(seen)
            if why:
                self.refused[seen.path] = why
                continue
            event = self._event(seen)
            others.setdefault(event.sha256, event.path)
            self._adopted.append(event)
            yield event

    def as_text(self) -> str:
        """A table of the files, and their sums."""
        did = "would be adopted" if self._dry_run else "adopted"
        rows = [
            (it.path, format_bytes(it.bytes), f"{it.frames:,}", f"{did}: {it.damage}" if it.damage else did)
            for it in self._adopted
        ]
        rows += [(path, "", "", f"not adopted: {why}") for path, why in sorted(self.refused.items())]
        sums = [
            f"{count_noun(len(self._adopted), 'file')} {did}, {format_bytes(sum(it.bytes for it in self._adopted))}"
        ]
        if self._plan.recorded:
            sums.append(f"{self._plan.recorded:,} recorded already")
        if self.refused:
            sums.append(f"{len(self.refused):,} not adopted")
        head = [table(["file", " size", " frames", "what"], rows), ""] if rows else []
        return "\n".join([*head, "; ".join(sums)])

    def _event(self, seen: InspectedFile) -> FileAdopted:
        if told := self._known.file_events.get(seen.path):
            return adoption_event(told, _now(), self._who, self._reason, host_name())
        contents = seen.contents
        assert contents
        return FileAdopted(
            *(self._archive.group, seen.stream, seen.path, contents.frames, contents.bytes, contents.sha256, _now()),
            *(self._who, host_name(), self._reason, (contents.broken or "")[:_MAX_DAMAGE]),
        )

    def _add_line(self, seen: InspectedFile) -> str:
        """Give it its line in SHA256SUMS; gives why it takes none, or is claimed by others. Raises OSError."""
        contents = seen.contents
        assert contents
        claim = self._archive.claim(seen.stream, alone=False)
        try:
            added = self._archive.add_checksum(seen.stream, seen.path, contents.sha256)
        finally:
            os.close(claim)
        return "" if added else "its directory's SHA256SUMS takes no line, as the log says"

    def _changed(self, entry: FileEntry) -> str:
        """Why its digest may not be that of the whole file, if it has been changed while it was read."""
        try:
            now = tree_scan.stat_entry(self._location.data_dir, entry.path)
        except OSError as error:
            return error.strerror or "it has been taken away"
        return "" if now == entry else "it was changed while it was read"


def _now() -> int:
    return time.time_ns() // 1_000_000
