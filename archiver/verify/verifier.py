"""Verify a whole archive: its files, its events and, if asked, its topics."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from archiver.archive.location import Location, Within
from archiver.console.progress import Progress
from archiver.console.runner import CommandError
from archiver.core.catalog import FileCatalog, FileEvent
from archiver.core.events import FileAdopted, FileFinished, FileSalvaged
from archiver.core.paths import PartialName, start_and_number
from archiver.kafka.topic_reader import TopicReader
from archiver.verify import checks, placement_checks, tree_scan
from archiver.verify.checks import Counts, Fault, FileContents, Finding, InspectedFile
from archiver.verify.file_reads import read_files
from archiver.verify.inventory import Inventory, decode_commits, open_partial
from archiver.verify.topic_comparison import RecordedStream, compare
from archiver.verify.tree_scan import FileEntry

_MAX_REPORTED = 3


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a verification."""

    counts: Counts
    findings: tuple[Finding, ...]
    """In order of stream and path."""
    notes: tuple[str, ...]
    """For the operator; no faults."""
    catalog: FileCatalog


def inspect(
    location: Location,
    reader: TopicReader,
    streams: Sequence[str],
    since_ms: int | None,
    progress: Progress,
    *,
    against_topic: bool = False,
    retired_too: bool = False,
) -> Report:
    """Verify the archive of the reader's group, without changing anything.

    streams: empty for all.
    since_ms: only files with frames since then; None for all.
    retired_too: expect retired files to be there, too.
    Raises KafkaException, OSError if the root or its private directory can't be read, CheckpointError if the events
    are gone, CommandError if nothing is known of a stream.
    """
    inventory, findings = Inventory.collect(location, reader)
    wanted = frozenset(streams)
    verification = _Verification(reader, inventory, wanted, since_ms, progress, retired_too)
    return verification.run(findings, against_topic=against_topic)


@dataclass(frozen=True, slots=True)
class _Verification:
    """One run of a verification."""

    reader: TopicReader
    inventory: Inventory
    streams: frozenset[str]
    since_ms: int | None
    progress: Progress
    retired_too: bool

    def run(self, findings: Sequence[Finding], *, against_topic: bool) -> Report:
        """Verify it. findings: those of the inventory."""
        inventory, catalog, root = self.inventory, self.inventory.catalog, self.inventory.location.data_dir
        known = {event.stream for event in inventory.file_events.values()}
        known.update(inventory.partials or (), inventory.committed)
        elsewhere = {inventory.stream_of(path) for path in inventory.tree.entries} | inventory.topics
        if unknown := self.streams - known - elsewhere:
            raise CommandError(f"nothing is known of {', '.join(sorted(unknown))}, in Kafka or in {root}")
        events = {path: event for path, event in inventory.file_events.items() if self._wants_event(event)}
        # A file that was created after the tree was listed exists now, as there is an event of it.
        entries, gone = tree_scan.existing(root, inventory.tree, events)
        in_progress = inventory.in_progress()
        unlisted = self._unlisted(in_progress)
        seen = self._read(entries.values(), unlisted.values())
        unread = [path for path, one in seen.items() if one.contents is None]
        _, vanished = tree_scan.existing(root, tree_scan.ArchiveTree(), unread)  # while others were read: for hours
        for path in vanished:
            del seen[path]
            unlisted.pop(path, None)
            if entries.pop(path, None):
                gone.add(path)
        retired, absent = self._gone(gone)
        for path in retired:
            del events[path]
        found = [it for it in findings if not it.stream or self._wants(it.stream)]
        found += checks.check_files(events, seen, absent, inventory.file_events)
        found += [
            Finding(
                Fault.UNKNOWN_FILE, inventory.stream_of(path), path, f"no event describes it; {it.size_bytes} bytes"
            )
            for path, it in unlisted.items()
            if path not in seen
        ]
        found += placement_checks.check_checksum_lines(inventory, events, entries, unlisted, self._wants_path)
        found += [
            Finding(Fault.UNREADABLE, stream, path, f"the directory: {why}")
            for path, why in inventory.tree.closed.items()
            if self._wants(stream := inventory.stream_of(f"{path}/"))
        ]
        wrong = {finding.path for finding in found if finding.fault not in checks.CHECKSUM_FAULTS}
        intact = {
            path: one.contents for path, one in seen.items() if one.contents and path in events and path not in wrong
        }
        counts = self._count(events, seen, intact)
        counts.retired = len(retired)
        notes = [*placement_checks.notes(inventory)]
        if not inventory.file_events and inventory.tree.entries:
            notes.append(f"g3.files has no events of the group {self.reader.group}; is --group right?")
        if note := _in_quarantine(self.reader.quarantined_counts(sorted(filter(self._wants, inventory.topics)))):
            notes.append(note)
        streams = sorted(filter(self._wants, known))
        for stream in streams:
            files = catalog.files.get(stream, ())
            losses = [loss for loss in catalog.losses if loss.stream == stream]
            found += checks.check_stream(files, losses, events, intact)
            for name in self._stale(stream):
                in_progress.discard(name.path)
                path = self.inventory.location.shown(Within(stream, private=True), str(name))
                found.append(Finding(Fault.STALE, stream, path, "no archiver holds it, and none would continue it"))
            if against_topic and stream in inventory.topics:
                offset, checkpoint = inventory.committed.get(stream, (None, None))
                recorded = RecordedStream(stream, files, intact, losses, offset, checkpoint, self.since_ms)
                found += compare(self.reader, self.inventory.location, recorded, counts, self.progress)
            elif against_topic and files:
                notes.append(f"{stream}: it no longer has a topic, so its files aren't compared with one")
        counts.streams = len(streams)
        counts.recording = sum(self._wants(inventory.stream_of(path)) for path in in_progress)
        found.sort(key=lambda it: (it.stream, it.path))
        return Report(counts, tuple(found), tuple(notes), catalog)

    # The selection

    def _wants(self, stream: str) -> bool:
        return not self.streams or stream in self.streams

    def _wants_path(self, stream: str, path: str) -> bool:
        """Whether a path without an event is selected. path: empty for a stream as a whole."""
        return self._wants(stream) and (self.since_ms is None or not path or _start(path) >= self.since_ms)

    def _wants_event(self, event: FileEvent) -> bool:
        if isinstance(event, FileFinished) and self.since_ms is not None and event.last.time < self.since_ms:
            return False
        return self._wants_path(event.stream, "" if isinstance(event, FileFinished) else event.path)

    # The files

    def _unlisted(self, in_progress: Collection[str]) -> dict[str, FileEntry]:
        """Return the files that have no event, and will have none."""
        return {
            path: entry
            for path, entry in self.inventory.tree.entries.items()
            if path not in self.inventory.file_events
            and path not in in_progress
            and self._wants(self.inventory.stream_of(path))
            and (self.since_ms is None or max(entry.mtime, _start(path)) >= self.since_ms)
        }

    def _gone(self, gone: set[str]) -> tuple[set[str], dict[str, str]]:
        """Divide recorded files that aren't there into retired ones, and others with what is wrong."""
        retired = self.inventory.catalog.retired.keys()
        if not gone <= retired:
            retired = self.inventory.retired_now(self.reader).keys()  # a clean-up job may be running
        wrong = gone if self.retired_too else gone - retired
        texts = {path: "it isn't there" + (", as it was retired" if path in retired else "") for path in wrong}
        return gone - wrong, texts

    def _read(self, entries: Iterable[FileEntry], unlisted: Iterable[FileEntry]) -> dict[str, InspectedFile]:
        """Read these files, stream by stream.

        Of those without an event, only files that may be recorded ones under another name are read: other archives
        may be large.
        """
        sizes = {event.bytes for event in self.inventory.file_events.values()}
        to_read = [*entries, *(entry for entry in unlisted if entry.size_bytes in sizes or entry.kind)]
        return {one.path: one for one in read_files(self.inventory, to_read, self.progress)}

    def _count(
        self,
        events: Mapping[str, FileEvent],
        seen: Mapping[str, InspectedFile],
        intact: Mapping[str, FileContents],
    ) -> Counts:
        kinds = Counter(map(type, events.values()))
        losses = [loss for loss in self.inventory.catalog.losses if self._wants(loss.stream)]
        return Counts(
            files=sum(path in events for path in seen),
            bytes=sum(one.contents.bytes for one in seen.values() if one.contents),
            frames=sum(events[path].frames for path in intact),
            salvaged=kinds[FileSalvaged],
            adopted=kinds[FileAdopted],
            never_received=sum(it.missing for it in events.values() if isinstance(it, FileFinished)),
            records_lost=sum(it.records or 0 for it in losses if self.since_ms is None or it.until >= self.since_ms),
        )

    # The partials

    def _stale(self, stream: str) -> list[PartialName]:
        """Return the partials that no archiver holds, of those that were there before all files were read."""
        inventory, reader = self.inventory, self.reader
        names = {*(inventory.partials or {}).get(stream, ())} - open_partial(inventory.committed, stream)
        idle = tree_scan.unlocked_partials_of(self.inventory.location, stream, sorted(names))
        if not idle:
            return []
        # The archiver that recorded them may have committed and stopped since, or have finished them.
        topics = {stream}.intersection(reader.streams())
        again, _ = decode_commits(reader, [*topics])
        there = tree_scan.unlocked_partials_of(
            self.inventory.location, stream, [name for name in idle if name not in open_partial(again, stream)]
        )
        # A partial of uncommitted records, begun just before a kill, is removed at the next start.
        offset, checkpoint = again.get(stream, (None, None))
        recorded = checkpoint.partial if checkpoint else None
        uncommitted = reader.record_time_ms(stream, offset) if topics else None
        return [
            name
            for name in map(PartialName.parse, sorted(there))
            if name
            and (uncommitted is None or name.first_ms < uncommitted)
            # What a frozen archiver left of a file that is continued in a copy is removed when that is finished.
            and not (recorded and (name.path, name.first_ms) == (recorded.path, recorded.first.time))
        ]


def _start(path: str) -> int:
    """Return when the acquisition in a file's path began, in ms since the epoch; 0 if it has none."""
    try:
        return start_and_number(path)[0] * 1000
    except (ValueError, OverflowError):
        return 0


def _in_quarantine(records: Mapping[str, int]) -> str:
    """Return the quarantined records in one line; empty if there are none."""
    if not records:
        return ""
    streams = ", ".join(f"{stream} {count}" for stream, count in sorted(records.items())[:_MAX_REPORTED])
    more = f", and {len(records) - _MAX_REPORTED} more streams" if len(records) > _MAX_REPORTED else ""
    return f"in quarantine, and so in no file: {sum(records.values())} records ({streams}{more})"
