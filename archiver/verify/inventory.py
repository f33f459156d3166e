"""The inventory of an archive before its files are read: their names, and what Kafka knows of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from archiver.archive.location import Location
from archiver.core.catalog import FileCatalog, FileEvent
from archiver.core.checkpoint import Checkpoint, CheckpointError, decode
from archiver.core.events import FileAdopted, FileRetired
from archiver.core.paths import PartialName
from archiver.kafka.topic_reader import TopicReader
from archiver.verify import tree_scan
from archiver.verify.checks import Fault, Finding

CommittedState = tuple[int, Checkpoint | None]
"""Offset, and the state with it, if any."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is known of an archive before any file is read.

    The order of collecting matters while an archiver records: a file exists before its event, and its partial or a
    commit names it until after that. So: files, partials, commits, events. Then a file with an event must exist, and
    a file that exists has an event, or a partial or commit names it.
    """

    location: Location
    tree: tree_scan.ArchiveTree
    partials: Mapping[str, Mapping[str, tree_scan.Inode]] | None
    """By stream and name; None if there is no private directory that may be read."""
    topics: frozenset[str]
    committed: Mapping[str, CommittedState]
    catalog: FileCatalog
    file_events: Mapping[str, FileEvent]
    streams_by_id: Mapping[str, str]

    @classmethod
    def collect(
        cls, location: Location, reader: TopicReader, *, events_may_be_lost: bool = False
    ) -> tuple[Self, list[Finding]]:
        """Collect it; return it with the faults found so far.

        Raises KafkaException, OSError, CheckpointError if the events are gone.
        """
        tree = tree_scan.scan_tree(location.data_dir)
        partials = tree_scan.partials(location)
        topics = reader.streams()
        commits, findings = decode_commits(reader, topics)
        catalog = FileCatalog.from_events(reader.events())
        reader.check_not_hidden(sorted((catalog.files.keys() | (partials or {}).keys()) - set(topics)))
        file_events = catalog.file_events()
        if not file_events and not events_may_be_lost and any(state and state.files for _, state in commits.values()):
            # This also happens for a moment after the start of a broker.
            raise CheckpointError(
                f"g3.files has no event of a file of the group {reader.group}; its commits show that it finished some"
            )
        ids = {_id(path): event.stream for path, event in file_events.items()}
        inventory = cls(location, tree, partials, frozenset(topics), commits, catalog, file_events, ids)
        return inventory, findings + [Finding(Fault.EVENT, "", "", why) for why in catalog.unreadable]

    def stream_of(self, path: str) -> str:
        """Return the stream that the path belongs to, or would belong to; empty if none."""
        event = self.file_events.get(path)
        return event.stream if event else self.streams_by_id.get(_id(path), _id(path))

    def archive_locations(self) -> Iterator[str]:
        """Yield where archives of the group were, by its commits and events; for people."""
        for _, checkpoint in self.committed.values():
            if checkpoint and checkpoint.archive:
                yield checkpoint.archive.where
        for files in self.catalog.files.values():
            if files and (mark := files[-1].checkpoint.archive):
                yield mark.where

    def retired_now(self, reader: TopicReader) -> Mapping[str, FileRetired]:
        """Return the files that are retired by now, by path. Raises KafkaException."""
        since = (event for event in reader.events() if isinstance(event, FileRetired | FileAdopted))
        return FileCatalog.from_events([*self.file_events.values(), *since]).retired

    def in_progress(self) -> set[str]:
        """Return the paths of files that are being recorded or finished: their events will follow."""
        partials = [partial for names in (self.partials or {}).values() for partial in names.items()]
        paths = {parsed.path for name, _ in partials if (parsed := PartialName.parse(name))}
        inodes = {inode for _, inode in partials}
        for _, checkpoint in self.committed.values():
            if checkpoint and checkpoint.partial:
                paths.add(checkpoint.partial.path)
        linked = {path for path, entry in self.tree.entries.items() if entry.inode in inodes}
        return (paths | linked) - self.file_events.keys()


def decode_commits(reader: TopicReader, streams: Sequence[str]) -> tuple[dict[str, CommittedState], list[Finding]]:
    """Return the group's commits of these streams, and faults: those that can't be read. Raises KafkaException."""
    found: dict[str, CommittedState] = {}
    wrong = []
    for stream, (offset, metadata) in reader.committed(streams).items():
        found[stream] = offset, None
        try:
            found[stream] = offset, decode(metadata, stream) if metadata else None
        except CheckpointError as error:
            wrong.append(Finding(Fault.EVENT, stream, "", str(error)))
    return found, wrong


def open_partial(committed: Mapping[str, CommittedState], stream: str) -> set[str]:
    """Return the name of the partial that an archiver would continue, if there is one."""
    _, checkpoint = committed.get(stream, (0, None))
    return {checkpoint.partial.name} if checkpoint and checkpoint.partial else set()


def _id(path: str) -> str:
    """Return the stream id in a path; empty if it has none."""
    parts = path.split("/")
    return parts[1] if len(parts) == 3 else ""
