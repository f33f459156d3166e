"""What is known of an archive before any of its files is read: their names, and all that Kafka knows of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from archiver.archive.location import Location
from archiver.core.catalog import Account, Told
from archiver.core.checkpoint import Checkpoint, CheckpointError, decode
from archiver.core.events import FileAdopted, FileRetired
from archiver.core.paths import PartialName
from archiver.kafka.topic_reader import History
from archiver.verify import checks, tree_scan
from archiver.verify.checks import Fault, Finding

Committed = tuple[int, Checkpoint | None]
"""Offset, and the state with it, if any."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known before any file is read.

    The order in which it is learnt matters while an archiver records: a file is there before its event, and its
    partial, or a commit, tells of it until after that. So: files, partials, commits, events. What was told by then
    must be there; and what was there has been told of, or was seen on its way.

    has_private: whether there is a private directory that may be read.
    """

    tree: tree_scan.Tree
    has_private: bool
    partials: Mapping[str, Mapping[str, tree_scan.Inode]]
    topics: frozenset[str]
    committed: Mapping[str, Committed]
    account: Account
    told: Mapping[str, Told]
    ids: Mapping[str, str]

    @classmethod
    def learn(
        cls, location: Location, history: History, *, events_may_be_lost: bool = False
    ) -> tuple[Self, list[Finding]]:
        """Learn it; gives what is wrong already, too. Raises KafkaException, OSError, CheckpointError (no events)."""
        tree = tree_scan.tree(location.data_dir)
        has_private, partials = tree_scan.has_private(location), tree_scan.partials(location)
        topics = history.streams()
        commits, findings = committed(history, topics)
        account = Account.of(history.events())
        history.check_not_hidden(sorted((account.files.keys() | partials.keys()) - set(topics)))
        told = account.told()
        if not told and not events_may_be_lost and any(state and state.files for _, state in commits.values()):
            # So it is for a moment after the start of a broker, too.
            raise CheckpointError(
                f"g3.files tells of no file of the group {history.group}; its commits say that it finished some"
            )
        ids = {_id(path): event.stream for path, event in told.items()}
        known = cls(tree, has_private, partials, frozenset(topics), commits, account, told, ids)
        return known, findings + checks.of_account(account)

    def stream_of(self, path: str) -> str:
        """Whose file that is, or would be; empty if it is nobody's."""
        event = self.told.get(path)
        return event.stream if event else self.ids.get(_id(path), _id(path))

    def places(self) -> Iterator[str]:
        """Where archives of the group were, as its commits and events say; for people."""
        for _, checkpoint in self.committed.values():
            if checkpoint and checkpoint.archive:
                yield checkpoint.archive.where
        for files in self.account.files.values():
            if files and (mark := files[-1].checkpoint.archive):
                yield mark.where

    def retired_now(self, history: History) -> Mapping[str, FileRetired]:
        """The files that are retired by now, by path. Raises KafkaException."""
        since = (event for event in history.events() if isinstance(event, FileRetired | FileAdopted))
        return Account.of([*self.told.values(), *since]).retired

    def on_their_way(self) -> set[str]:
        """The paths of which an event will tell."""
        names = [PartialName.parse(name) for names in self.partials.values() for name in names]
        paths = {name.path for name in names if name}
        inodes = {inode for names in self.partials.values() for inode in names.values()}
        for _, checkpoint in self.committed.values():
            if checkpoint and checkpoint.partial:
                paths.add(checkpoint.partial.path)
        linked = {path for path, entry in self.tree.entries.items() if entry.inode in inodes}
        return (paths | linked) - self.told.keys()


def committed(history: History, streams: Sequence[str]) -> tuple[dict[str, Committed], list[Finding]]:
    """What the group has committed of these; and what of it can't be understood. Raises KafkaException."""
    found: dict[str, Committed] = {}
    wrong = []
    for stream, (offset, metadata) in history.committed(streams).items():
        found[stream] = offset, None
        try:
            found[stream] = offset, decode(metadata, stream) if metadata else None
        except CheckpointError as error:
            wrong.append(Finding(Fault.EVENT, stream, "", str(error)))
    return found, wrong


def going_on(committed: Mapping[str, Committed], stream: str) -> set[str]:
    """The name of the partial with which an archiver would go on, if there is one."""
    _, checkpoint = committed.get(stream, (0, None))
    return {checkpoint.partial.name} if checkpoint and checkpoint.partial else set()


def _id(path: str) -> str:
    """The stream id whose file that would be; empty if it is none's."""
    parts = path.split("/")
    return parts[1] if len(parts) == 3 else ""
