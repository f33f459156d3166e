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
from archiver.core.formatting import counted, size
from archiver.kafka.event_batch import publish_events
from archiver.kafka.topic_reader import History
from archiver.operations import adoption
from archiver.operations.adoption import Archive, Choice
from archiver.operations.retirement import adopted_again
from archiver.verify import tree_scan
from archiver.verify.checks import Seen
from archiver.verify.file_reads import Unread, read_files
from archiver.verify.inventory import Known
from archiver.verify.tree_scan import Entry
from g3stream.contract.topic_settings import EXPECTED_FILES_TOPIC
from g3stream.host.environment import host_name
from g3stream.kafka.topic_admin import TopicAdmin

_PROG = "archiver adopt"
_MOST_DAMAGE = 1000
"""Characters; as core/events.py takes them."""


def adopt(options: argparse.Namespace, paths: Sequence[str]) -> int:
    """Do as the options say (commands/adopt.py). paths: below the data directory. Gives the exit code."""
    return run_client(options, _PROG, lambda config: _adopt(config, options, paths))


def _adopt(config: Mapping[str, Any], options: argparse.Namespace, paths: Sequence[str]) -> int:
    location = archive_settings.kept(located(options.data_dir, options.private_dir))
    if why := _not_the_archive(location, options.group):
        print_err(f"{_PROG}: error: {location.data_dir}: {why}")
        return 1
    history = History(config, options.group)
    known, findings = Known.learn(location, history, events_may_be_lost=True)
    for finding in findings:
        print_err(f"{_PROG}: {finding.text}")
    archive = Archive(known.tree.entries, known.told, known.account.retired.keys(), known.on_their_way())
    now = _now()
    choice = adoption.named(archive, paths, now) if paths else adoption.all_untold(archive, now)
    if options.stream:
        theirs = [entry for entry in choice.read if known.stream_of(entry.path) in options.stream]
        choice = replace(choice, read=tuple(theirs))
    with ExitStack() as held, Progress() as progress:
        run = Adoption(location, options, known, choice, progress)
        if options.dry_run:
            for _ in run.events():
                pass
        else:
            held.callback(os.close, archive_lock.share(location))
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
        self, location: Location, options: argparse.Namespace, known: Known, choice: Choice, progress: Progress
    ) -> None:
        self.refused = dict(choice.refused)
        self._location = location
        self._archive = ArchiveRoot.at(location, options.group, host_name())
        self._known = known
        self._choice = choice
        self._progress = progress
        self._who, self._reason, self._dry_run = options.who, options.reason, options.dry_run
        self._damaged_too = options.damaged
        self._adopted: list[FileAdopted] = []

    def events(self) -> Iterator[FileAdopted]:
        """Read each file; gives the event of each that is adopted, once it has its line in SHA256SUMS.

        Raises OSError.
        """
        entries = {entry.path: entry for entry in self._choice.read}
        files: dict[str, list[Unread]] = {}
        for path, entry in entries.items():
            files.setdefault(self._known.stream_of(path), []).append(Unread(entry))
        others = {event.sha256: path for path, event in self._known.told.items()}
        for seen in read_files(self._location.data_dir, files, self._progress):
            told = self._known.told.get(seen.path)
            why = adoption.verdict(seen, told, others, damaged_too=self._damaged_too)
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
            (it.path, size(it.bytes), f"{it.frames:,}", f"{did}: {it.damage}" if it.damage else did)
            for it in self._adopted
        ]
        rows += [(path, "", "", f"not adopted: {why}") for path, why in sorted(self.refused.items())]
        sums = [f"{counted(len(self._adopted), 'file')} {did}, {size(sum(it.bytes for it in self._adopted))}"]
        if self._choice.recorded:
            sums.append(f"{self._choice.recorded:,} recorded already")
        if self.refused:
            sums.append(f"{len(self.refused):,} not adopted")
        head = [table(["file", " size", " frames", "what"], rows), ""] if rows else []
        return "\n".join([*head, "; ".join(sums)])

    def _event(self, seen: Seen) -> FileAdopted:
        if told := self._known.told.get(seen.path):
            return adopted_again(told, _now(), self._who, self._reason, host_name())
        contents = seen.contents
        assert contents
        return FileAdopted(
            *(self._archive.group, seen.stream, seen.path, contents.frames, contents.bytes, contents.sha256, _now()),
            *(self._who, host_name(), self._reason, (contents.broken or "")[:_MOST_DAMAGE]),
        )

    def _add_line(self, seen: Seen) -> str:
        """Give it its line in SHA256SUMS; gives why it takes none, or is claimed by others. Raises OSError."""
        contents = seen.contents
        assert contents
        claim = self._archive.claim(seen.stream, alone=False)
        try:
            added = self._archive.add_sum(seen.stream, seen.path, contents.sha256)
        finally:
            os.close(claim)
        return "" if added else "its directory's SHA256SUMS takes no line, as the log says"

    def _changed(self, entry: Entry) -> str:
        """Why its digest may not be that of the whole file, if it has been changed while it was read."""
        try:
            now = tree_scan.look(self._location.data_dir, entry.path)
        except OSError as error:
            return error.strerror or "it has been taken away"
        return "" if now == entry else "it was changed while it was read"


def _now() -> int:
    return time.time_ns() // 1_000_000
