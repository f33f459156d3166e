"""A look at a whole archive: its files, its account of itself, its topics if asked; what is wrong between them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from archiver.archive.location import Location, Within
from archiver.console.progress import Progress
from archiver.core.catalog import Account, Told
from archiver.core.events import FileAdopted, FileFinished, FileSalvaged
from archiver.core.paths import PartialName, start_and_number
from archiver.kafka.topic_reader import History
from archiver.verify import checks, placement_checks, tree_scan
from archiver.verify.checks import Contents, Fault, Finding, Seen
from archiver.verify.file_reads import Unread, read_files
from archiver.verify.inventory import Known, committed, going_on
from archiver.verify.topic_comparison import Recorded, compare
from archiver.verify.tree_scan import Entry

_MOST_SAID = 3


@dataclass(frozen=True, slots=True)
class Counts:
    """What was looked at. files: told of and read, with those salvaged or adopted; bytes: read. frames: in files as
    told. retired: files that aren't there, as they were taken away on purpose. recording: files that are being
    recorded, or finished. never_received: frames, as told; records_lost: as told.

    same: frames of the topics that are in a file, just so; unrecorded: that came after all that is committed;
    explained: that are lost, as told; sent_again: that are in no file, as names by session leave out what a sender
    sent again. times_replaced: records with Kafka's time in place of that of their receipt.
    """

    streams: int = 0
    files: int = 0
    bytes: int = 0
    frames: int = 0
    salvaged: int = 0
    adopted: int = 0
    retired: int = 0
    recording: int = 0
    never_received: int = 0
    records_lost: int = 0
    same: int = 0
    unrecorded: int = 0
    explained: int = 0
    sent_again: int = 0
    times_replaced: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it. findings: by stream and path. notes: what an operator should know that is no fault. unknown:
    streams that were asked for, and of which there is nothing."""

    counts: Counts
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    unknown: tuple[str, ...]
    account: Account


def inspect(
    location: Location,
    history: History,
    streams: Sequence[str],
    since: int | None,
    progress: Progress,
    *,
    against_topic: bool = False,
    retired_too: bool = False,
) -> Report:
    """Look at the archive of the history's group there. streams: none for all. since: ms, None for all.
    retired_too: files that were retired shall be there, too.

    Changes nothing. Raises KafkaException, OSError if the root or its private directory can't be read,
    CheckpointError if the events are gone.
    """
    return _Inspection(location, history, frozenset(streams), since, progress, retired_too).run(against_topic)


class _Inspection:
    """One run."""

    def __init__(
        self,
        location: Location,
        history: History,
        streams: frozenset[str],
        since: int | None,
        progress: Progress,
        retired_too: bool,
    ) -> None:
        self._location = location
        self._root = location.data_dir
        self._history = history
        self._streams = streams
        self._since = since
        self._progress = progress
        self._retired_too = retired_too

    def run(self, against_topic: bool) -> Report:
        known, findings = Known.learn(self._location, self._history)
        account = known.account
        told = {path: event for path, event in known.told.items() if self._wants(event.stream) and self._late(event)}
        # What wasn't there yet when the tree was listed is now, as it has been told since.
        entries, gone = tree_scan.present(self._root, known.tree, told)
        on_their_way = known.on_their_way()
        untold = self._untold(known, on_their_way)
        seen = self._read(known, entries, untold)
        for path in self._taken_away(seen):  # while others were read, which may take hours
            del seen[path]
            untold.pop(path, None)
            if entries.pop(path, None):
                gone.add(path)
        retired, absent = self._gone(known, gone)
        for path in retired:
            del told[path]
        findings = [it for it in findings if not it.stream or self._wants(it.stream)]
        findings += checks.of_files(told, seen, absent, known.told)
        findings += placement_checks.of_lines(self._location, known, told, entries, untold, self._is_wanted)
        findings += [
            Finding(Fault.UNREADABLE, known.stream_of(f"{path}/"), path, f"the directory: {why}")
            for path, why in known.tree.closed.items()
            if self._wants(known.stream_of(f"{path}/"))
        ]
        wrong = {finding.path for finding in findings if finding.fault not in checks.OF_LINES}
        intact = {
            path: one.contents for path, one in seen.items() if one.contents and path in told and path not in wrong
        }
        streams = self._of_interest(known)
        for stream in streams:
            losses = [loss for loss in account.losses if loss.stream == stream]
            findings += checks.of_stream(account.files.get(stream, ()), losses, told, intact)
            stale = self._stale(stream, known)
            on_their_way -= {name.path for name in stale}
            findings += [checks.stale(stream, self._shown(stream, str(name))) for name in stale]
        recording = sum(self._wants(known.stream_of(path)) for path in on_their_way)
        counts = self._count(known, told, seen, intact, len(streams), recording)
        counts = replace(counts, retired=len(retired))
        notes = [*placement_checks.notes(self._location, known)]
        if not known.told and known.tree.entries:
            notes.append(f"g3.files has no events of the group {self._history.group}; is --group right?")
        if note := _in_quarantine(self._history.in_quarantine_of(self._wanted_of(known.topics))):
            notes.append(note)
        for stream in streams if against_topic else []:
            if stream in known.topics:
                counts, more = self._compare(stream, known, intact, counts)
                findings += more
            elif account.files.get(stream):
                notes.append(f"{stream}: it has no topic any more, so its files aren't compared with that")
        findings.sort(key=lambda it: (it.stream, it.path))
        directories = {known.stream_of(path) for path in known.tree.entries}
        unknown = self._streams - known.topics - set(streams) - directories
        return Report(counts, tuple(findings), tuple(notes), tuple(sorted(unknown)), account)

    def _taken_away(self, seen: Mapping[str, Seen]) -> list[str]:
        """The files that couldn't be read, as they aren't there any more."""
        failed = [path for path, one in seen.items() if one.contents is None and not one.foreign]
        _, gone = tree_scan.present(self._root, tree_scan.Tree(), failed)
        return sorted(gone)

    def _gone(self, known: Known, gone: Collection[str]) -> tuple[set[str], dict[str, str]]:
        """Of the recorded files that aren't there: those that were retired, and the others, with what is wrong."""
        retired = known.account.retired.keys()
        if any(path not in retired for path in gone):
            retired = known.retired_now(self._history).keys()  # a clean-up job may be running
        said = {path: "it isn't there" + (", as it was retired" if path in retired else "") for path in gone}
        if self._retired_too:
            return set(), said
        return {*gone} & retired, {path: why for path, why in said.items() if path not in retired}

    def _shown(self, stream: str, name: str) -> str:
        return self._location.shown(Within(stream, private=True), name)

    # What is to be looked at

    def _wants(self, stream: str) -> bool:
        return not self._streams or stream in self._streams

    def _wanted_of(self, streams: Iterable[str]) -> list[str]:
        return sorted(filter(self._wants, streams))

    def _is_wanted(self, stream: str, path: str) -> bool:
        """Whether a path is to be looked at of which no event tells. path: empty for a stream as a whole."""
        return self._wants(stream) and (self._since is None or not path or _start(path) >= self._since)

    def _late(self, event: Told) -> bool:
        if isinstance(event, FileFinished):
            return self._since is None or event.last.time >= self._since
        return self._since is None or _start(event.path) >= self._since

    def _of_interest(self, known: Known) -> list[str]:
        """The streams of which the archive has anything."""
        told = {event.stream for event in known.told.values()}
        return sorted(s for s in told | known.partials.keys() | known.committed.keys() if self._wants(s))

    def _untold(self, known: Known, on_their_way: set[str]) -> dict[str, Entry]:
        """The files of which nothing was told, nor will be."""
        return {
            path: entry
            for path, entry in known.tree.entries.items()
            if path not in known.told
            and path not in on_their_way
            and self._wants(known.stream_of(path))
            and (self._since is None or max(entry.mtime, _start(path)) >= self._since)
        }

    # The files

    def _read(self, known: Known, entries: Mapping[str, Entry], untold: Mapping[str, Entry]) -> dict[str, Seen]:
        """Read all of these, stream by stream; of those that nothing was told of, only what may be a recorded file
        under another name: others' archives may be large."""
        sizes = {event.bytes for event in known.told.values()}
        jobs: dict[str, list[Unread]] = {}
        seen: dict[str, Seen] = {}
        for path, entry in (*entries.items(), *untold.items()):
            stream, event = known.stream_of(path), known.told.get(path)
            if event is None and entry.bytes not in sizes and not entry.what:
                seen[path] = Seen(stream, path, None, f"{entry.bytes} bytes", foreign=True)
            else:
                carry = len(event.carry) if isinstance(event, FileFinished) else 0
                jobs.setdefault(stream, []).append(Unread(entry, carry))
        return seen | {one.path: one for one in read_files(self._root, jobs, self._progress)}

    # What lies beside them

    def _stale(self, stream: str, known: Known) -> list[PartialName]:
        """The partials that nobody records, of those that were there before all files were read."""
        names = set(known.partials.get(stream, ())) - going_on(known.committed, stream)
        idle = tree_scan.unlocked(self._location, stream, sorted(names))
        if not idle:
            return []
        # Who recorded them may have stopped since, and have committed before that; or have finished them.
        topics = {stream}.intersection(self._history.streams())
        again, _ = committed(self._history, [*topics])
        there = tree_scan.unlocked(
            self._location, stream, [name for name in idle if name not in going_on(again, stream)]
        )
        # One that was begun just before a kill, with records that aren't committed, is tidied away at the next start.
        offset, checkpoint = again.get(stream, (None, None))
        recorded = checkpoint.partial if checkpoint else None
        uncommitted = self._history.time(stream, offset) if topics else None
        return [
            name
            for name in map(PartialName.parse, sorted(there))
            if name
            and (uncommitted is None or name.first < uncommitted)
            # What a frozen archiver has left of a file that is gone on with in a copy: removed when that is finished.
            and not (recorded and (name.path, name.first) == (recorded.path, recorded.first.time))
        ]

    # The topic

    def _compare(
        self, stream: str, known: Known, intact: Mapping[str, Contents], counts: Counts
    ) -> tuple[Counts, Sequence[Finding]]:
        account = known.account
        offset, checkpoint = known.committed.get(stream, (None, None))
        losses = [loss for loss in account.losses if loss.stream == stream]
        files = account.files.get(stream, ())
        recorded = Recorded(stream, files, intact, losses, offset, checkpoint, self._since)
        compared = compare(self._history, self._location, recorded, self._progress)
        counts = replace(
            counts,
            same=counts.same + compared.same,
            unrecorded=counts.unrecorded + compared.unrecorded,
            explained=counts.explained + compared.explained,
            sent_again=counts.sent_again + compared.sent_again,
            times_replaced=counts.times_replaced + compared.times_replaced,
        )
        return counts, compared.findings

    def _count(
        self,
        known: Known,
        told: Mapping[str, Told],
        seen: Mapping[str, Seen],
        intact: Mapping[str, Contents],
        streams: int,
        recording: int,
    ) -> Counts:
        finished = [event for event in told.values() if isinstance(event, FileFinished)]
        kinds = [type(event) for event in told.values()]
        losses = [loss for loss in known.account.losses if self._wants(loss.stream)]
        return Counts(
            streams=streams,
            files=sum(path in told for path in seen),
            bytes=sum(one.contents.bytes for one in seen.values() if one.contents),
            frames=sum(told[path].frames for path in intact),
            salvaged=kinds.count(FileSalvaged),
            adopted=kinds.count(FileAdopted),
            recording=recording,
            never_received=sum(event.missing for event in finished),
            records_lost=sum(it.records or 0 for it in losses if self._since is None or it.until >= self._since),
        )


def _start(path: str) -> int:
    """When the acquisition began that a file's path says, ms; 0 if it says nothing."""
    try:
        return start_and_number(path)[0] * 1000
    except (ValueError, OverflowError):
        return 0


def _in_quarantine(records: Mapping[str, int]) -> str:
    """What an operator has set aside, in one line; empty if nothing."""
    if not records:
        return ""
    streams = ", ".join(f"{stream} {count}" for stream, count in sorted(records.items())[:_MOST_SAID])
    more = f", and {len(records) - _MOST_SAID} more streams" if len(records) > _MOST_SAID else ""
    return f"in quarantine, and so in no file: {sum(records.values())} records ({streams}{more})"


def _why(error: OSError) -> str:
    return error.strerror or str(error)
