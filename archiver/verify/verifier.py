"""Verify a whole archive: its files, its events and, if asked, its topics."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from archiver.archive.location import Location, Within
from archiver.console.progress import Progress
from archiver.console.runner import CommandError
from archiver.core.catalog import FileCatalog, FileEvent
from archiver.core.events import FileAdopted, FileFinished, FileSalvaged
from archiver.core.paths import PartialName, start_and_number
from archiver.kafka.topic_reader import TopicReader
from archiver.verify import checks, placement_checks, tree_scan
from archiver.verify.checks import Fault, FileContents, Finding, InspectedFile
from archiver.verify.file_reads import FileToRead, read_files
from archiver.verify.inventory import Inventory, decode_commits, open_partial
from archiver.verify.topic_comparison import RecordedStream, compare
from archiver.verify.tree_scan import FileEntry

_MAX_REPORTED = 3


@dataclass(frozen=True, slots=True)
class Counts:
    """What was checked."""

    streams: int = 0
    files: int = 0
    """Read, and described by an event; with those salvaged or adopted."""
    bytes: int = 0
    """Read."""
    frames: int = 0
    """In files that match their events."""
    salvaged: int = 0
    adopted: int = 0
    retired: int = 0
    """Files that aren't there, as they were deleted on purpose."""
    recording: int = 0
    """Files that are being recorded or finished."""
    never_received: int = 0
    """Frames, as reported by the events."""
    records_lost: int = 0
    """As reported by the events."""
    same: int = 0
    """Frames of the topics that are identical in a file."""
    unrecorded: int = 0
    """Frames of the topics after all that is committed."""
    explained: int = 0
    """Frames of the topics that are lost, and reported by an event."""
    sent_again: int = 0
    """Frames of the topics that a sender sent again, and that are left out of the files (names by session)."""
    times_replaced: int = 0
    """Records with Kafka's time in place of that of their receipt."""


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
    return _Verification(location, reader, frozenset(streams), since_ms, progress, retired_too).run(against_topic)


class _Verification:
    """One run of a verification."""

    def __init__(
        self,
        location: Location,
        reader: TopicReader,
        streams: frozenset[str],
        since_ms: int | None,
        progress: Progress,
        retired_too: bool,
    ) -> None:
        self._location = location
        self._root = location.data_dir
        self._reader = reader
        self._streams = streams
        self._since = since_ms
        self._progress = progress
        self._retired_too = retired_too

    def run(self, against_topic: bool) -> Report:
        inventory, findings = Inventory.collect(self._location, self._reader)
        catalog = inventory.catalog
        file_events = {
            path: event
            for path, event in inventory.file_events.items()
            if self._wants(event.stream) and self._is_after_since(event)
        }
        # A file that was created after the tree was listed exists now, as there is an event of it.
        entries, gone = tree_scan.existing(self._root, inventory.tree, file_events)
        in_progress = inventory.in_progress()
        unlisted = self._unlisted(inventory, in_progress)
        seen = self._read(inventory, entries, unlisted)
        for path in self._removed_meanwhile(seen):  # while others were read, which can take hours
            del seen[path]
            unlisted.pop(path, None)
            if entries.pop(path, None):
                gone.add(path)
        retired, absent = self._gone(inventory, gone)
        for path in retired:
            del file_events[path]
        findings = [it for it in findings if not it.stream or self._wants(it.stream)]
        findings += checks.check_files(file_events, seen, absent, inventory.file_events)
        findings += placement_checks.check_checksum_lines(
            self._location, inventory, file_events, entries, unlisted, self._is_wanted
        )
        findings += [
            Finding(Fault.UNREADABLE, inventory.stream_of(f"{path}/"), path, f"the directory: {why}")
            for path, why in inventory.tree.closed.items()
            if self._wants(inventory.stream_of(f"{path}/"))
        ]
        wrong = {finding.path for finding in findings if finding.fault not in checks.CHECKSUM_FAULTS}
        intact = {
            path: one.contents
            for path, one in seen.items()
            if one.contents and path in file_events and path not in wrong
        }
        streams = self._streams_to_check(inventory)
        for stream in streams:
            losses = [loss for loss in catalog.losses if loss.stream == stream]
            findings += checks.check_stream(catalog.files.get(stream, ()), losses, file_events, intact)
            stale = self._stale(stream, inventory)
            in_progress -= {name.path for name in stale}
            findings += [checks.stale_partial(stream, self._shown(stream, str(name))) for name in stale]
        recording = sum(self._wants(inventory.stream_of(path)) for path in in_progress)
        counts = self._count(inventory, file_events, seen, intact, len(streams), recording)
        counts = replace(counts, retired=len(retired))
        notes = [*placement_checks.notes(self._location, inventory)]
        if not inventory.file_events and inventory.tree.entries:
            notes.append(f"g3.files has no events of the group {self._reader.group}; is --group right?")
        if note := _in_quarantine(self._reader.quarantined_counts(self._wanted_of(inventory.topics))):
            notes.append(note)
        for stream in streams if against_topic else []:
            if stream in inventory.topics:
                counts, more = self._compare(stream, inventory, intact, counts)
                findings += more
            elif catalog.files.get(stream):
                notes.append(f"{stream}: it no longer has a topic, so its files aren't compared with one")
        findings.sort(key=lambda it: (it.stream, it.path))
        directories = {inventory.stream_of(path) for path in inventory.tree.entries}
        if unknown := self._streams - inventory.topics - set(streams) - directories:
            raise CommandError(f"nothing is known of {', '.join(sorted(unknown))}, in Kafka or in {self._root}")
        return Report(counts, tuple(findings), tuple(notes), catalog)

    def _removed_meanwhile(self, seen: Mapping[str, InspectedFile]) -> list[str]:
        """Return the files that could not be read because they no longer exist."""
        failed = [path for path, one in seen.items() if one.contents is None and not one.is_unknown]
        _, gone = tree_scan.existing(self._root, tree_scan.ArchiveTree(), failed)
        return sorted(gone)

    def _gone(self, inventory: Inventory, gone: Collection[str]) -> tuple[set[str], dict[str, str]]:
        """Divide recorded files that aren't there into retired ones, and others with what is wrong."""
        retired = inventory.catalog.retired.keys()
        if any(path not in retired for path in gone):
            retired = inventory.retired_now(self._reader).keys()  # a clean-up job may be running
        texts = {path: "it isn't there" + (", as it was retired" if path in retired else "") for path in gone}
        if self._retired_too:
            return set(), texts
        return {*gone} & retired, {path: why for path, why in texts.items() if path not in retired}

    def _shown(self, stream: str, name: str) -> str:
        return self._location.shown(Within(stream, private=True), name)

    # The selection

    def _wants(self, stream: str) -> bool:
        return not self._streams or stream in self._streams

    def _wanted_of(self, streams: Iterable[str]) -> list[str]:
        return sorted(filter(self._wants, streams))

    def _is_wanted(self, stream: str, path: str) -> bool:
        """Whether a path without an event is selected. path: empty for a stream as a whole."""
        return self._wants(stream) and (self._since is None or not path or _start(path) >= self._since)

    def _is_after_since(self, event: FileEvent) -> bool:
        if isinstance(event, FileFinished):
            return self._since is None or event.last.time >= self._since
        return self._since is None or _start(event.path) >= self._since

    def _streams_to_check(self, inventory: Inventory) -> list[str]:
        """Return the selected streams of which the archive has anything."""
        file_events = {event.stream for event in inventory.file_events.values()}
        return sorted(
            s for s in file_events | inventory.partials.keys() | inventory.committed.keys() if self._wants(s)
        )

    def _unlisted(self, inventory: Inventory, in_progress: set[str]) -> dict[str, FileEntry]:
        """Return the files that have no event, and will have none."""
        return {
            path: entry
            for path, entry in inventory.tree.entries.items()
            if path not in inventory.file_events
            and path not in in_progress
            and self._wants(inventory.stream_of(path))
            and (self._since is None or max(entry.mtime, _start(path)) >= self._since)
        }

    # The files

    def _read(
        self, inventory: Inventory, entries: Mapping[str, FileEntry], unlisted: Mapping[str, FileEntry]
    ) -> dict[str, InspectedFile]:
        """Read these files, stream by stream.

        Of those without an event, only files that may be recorded ones under another name are read: other archives
        may be large.
        """
        sizes = {event.bytes for event in inventory.file_events.values()}
        files: list[FileToRead] = []
        seen: dict[str, InspectedFile] = {}
        for path, entry in (*entries.items(), *unlisted.items()):
            stream, event = inventory.stream_of(path), inventory.file_events.get(path)
            if event is None and entry.size_bytes not in sizes and not entry.kind:
                seen[path] = InspectedFile(stream, path, None, f"{entry.size_bytes} bytes", is_unknown=True)
            else:
                carry = len(event.carry) if isinstance(event, FileFinished) else 0
                files.append(FileToRead(stream, entry, carry))
        return seen | {one.path: one for one in read_files(self._root, files, self._progress)}

    # The partials

    def _stale(self, stream: str, inventory: Inventory) -> list[PartialName]:
        """Return the partials that no archiver holds, of those that were there before all files were read."""
        names = set(inventory.partials.get(stream, ())) - open_partial(inventory.committed, stream)
        idle = tree_scan.unlocked_partials_of(self._location, stream, sorted(names))
        if not idle:
            return []
        # The archiver that recorded them may have committed and stopped since, or have finished them.
        topics = {stream}.intersection(self._reader.streams())
        again, _ = decode_commits(self._reader, [*topics])
        there = tree_scan.unlocked_partials_of(
            self._location, stream, [name for name in idle if name not in open_partial(again, stream)]
        )
        # A partial of uncommitted records, begun just before a kill, is removed at the next start.
        offset, checkpoint = again.get(stream, (None, None))
        recorded = checkpoint.partial if checkpoint else None
        uncommitted = self._reader.record_time_ms(stream, offset) if topics else None
        return [
            name
            for name in map(PartialName.parse, sorted(there))
            if name
            and (uncommitted is None or name.first_ms < uncommitted)
            # What a frozen archiver left of a file that is continued in a copy is removed when that is finished.
            and not (recorded and (name.path, name.first_ms) == (recorded.path, recorded.first.time))
        ]

    # The topic

    def _compare(
        self, stream: str, inventory: Inventory, intact: Mapping[str, FileContents], counts: Counts
    ) -> tuple[Counts, Sequence[Finding]]:
        catalog = inventory.catalog
        offset, checkpoint = inventory.committed.get(stream, (None, None))
        losses = [loss for loss in catalog.losses if loss.stream == stream]
        files = catalog.files.get(stream, ())
        recorded = RecordedStream(stream, files, intact, losses, offset, checkpoint, self._since)
        compared = compare(self._reader, self._location, recorded, self._progress)
        counts = replace(
            counts,
            same=counts.same + compared.identical,
            unrecorded=counts.unrecorded + compared.unrecorded,
            explained=counts.explained + compared.reported_lost,
            sent_again=counts.sent_again + compared.resent,
            times_replaced=counts.times_replaced + compared.times_replaced,
        )
        return counts, compared.findings

    def _count(
        self,
        inventory: Inventory,
        file_events: Mapping[str, FileEvent],
        seen: Mapping[str, InspectedFile],
        intact: Mapping[str, FileContents],
        streams: int,
        recording: int,
    ) -> Counts:
        finished = [event for event in file_events.values() if isinstance(event, FileFinished)]
        kinds = [type(event) for event in file_events.values()]
        losses = [loss for loss in inventory.catalog.losses if self._wants(loss.stream)]
        return Counts(
            streams=streams,
            files=sum(path in file_events for path in seen),
            bytes=sum(one.contents.bytes for one in seen.values() if one.contents),
            frames=sum(file_events[path].frames for path in intact),
            salvaged=kinds.count(FileSalvaged),
            adopted=kinds.count(FileAdopted),
            recording=recording,
            never_received=sum(event.missing for event in finished),
            records_lost=sum(it.records or 0 for it in losses if self._since is None or it.until >= self._since),
        )


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
