"""The command `archiver replay`: rebuild files from the topics."""

import argparse
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any

from archiver.archive import archive_lock, archive_settings
from archiver.archive.file_system_check import check_disk
from archiver.archive.location import located
from archiver.archive.ownership import check_not_elsewhere
from archiver.archive.root import ArchiveRoot
from archiver.console.progress import Progress
from archiver.console.runner import with_kafka
from archiver.console.tables import Part, Table
from archiver.core.catalog import FileCatalog, events_for_replay
from archiver.core.events import FileFinished, FileRetired
from archiver.core.formatting import format_bytes, format_time
from archiver.kafka.topic_reader import TopicReader
from archiver.replay.plan import Overrides, Selection
from archiver.replay.rebuilt import RebuildOutcome, RebuildResult, RebuildTarget, RebuiltFile
from archiver.replay.sinks import DirectoryTarget, remove_leftovers
from archiver.replay.topic_replay import ReplayResult, TopicReplay
from g3stream.host.durations import format_duration
from g3stream.host.environment import host_name


@with_kafka
def replay(config: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Run the command with its options (commands/replay.py); return its exit code."""
    overrides = Overrides(
        None if options.time_per_file is None else round(options.time_per_file * 1000),
        None if options.gap is None else round(options.gap * 1000),
        options.name_format,
        options.carry,
    )
    selection = Selection(options.since, options.until, options.only, overrides)
    location = located(options.data_dir, options.private_dir)
    location = archive_settings.choose_settings(location, options.checksums)
    archive = ArchiveRoot(location, options.group, host_name())
    reader = TopicReader(config, options.group)
    check_not_elsewhere(archive, reader)
    with Progress() as progress:
        return Replay(options, reader, archive, selection, progress).run(options.stream)


@dataclass(slots=True)
class Replay:
    """One run of the command, over one stream after the other."""

    options: argparse.Namespace
    reader: TopicReader
    archive: ArchiveRoot
    selection: Selection
    progress: Progress
    retired: Mapping[str, FileRetired] = field(default_factory=dict)
    """The files that are left out, by path."""
    has_problems: bool = False

    def run(self, streams: Sequence[str]) -> int:
        """Rebuild the files of these streams, or of all if none are named; return the exit code.

        Raises OSError, KafkaException, CheckpointError.
        """
        available = self.reader.streams()
        self.reader.check_not_hidden(sorted(set(streams) - set(available)))
        for stream in sorted(set(streams) - set(available)):
            self._print(f"{stream}: no such stream; available: {', '.join(available) or 'none yet'}", is_problem=True)
        named = bool(streams)
        streams = [stream for stream in available if stream in streams or not named]
        if not streams:
            self._print("nothing to rebuild: no stream has a topic that this user may read")
        commits = self.reader.committed(streams)  # before the events: files closed by then are in them
        catalog = self._read_catalog(streams if named else ())
        if not named:
            self.reader.check_not_hidden(sorted(catalog.files.keys() - set(available)))
        for unreadable in catalog.unreadable:
            self._print(unreadable, is_problem=True)
        if (
            not self.options.retired and not self.selection.overrides.any_given
        ):  # with other settings, they are different files
            self.retired = catalog.retired
        events = {event.path for files in catalog.files.values() for event in files}
        everything = self.selection.overrides.any_given or not self.selection.paths <= events
        if self.selection.paths and not everything:
            paths = {stream: {it.path for it in catalog.files.get(stream, ())} for stream in streams}
            streams = [stream for stream in streams if self.selection.paths & paths[stream]]
        handled: set[str] = set()
        with ExitStack() as claims:
            ends = {stream: self.reader.offset_range(stream)[1] for stream in streams}
            if not self.options.dry_run:
                location = self.archive.location
                location = archive_settings.initialize(location, location.checksums)
                claims.callback(os.close, archive_lock.acquire_shared(location))
                check_disk(location, f"check.{secrets.token_hex(4)}")
                for stream in streams:
                    claims.callback(os.close, self.archive.claim(stream, alone=True))
                    remove_leftovers(self.archive, stream)
            for stream, end in ends.items():
                # Retention may have deleted records while the streams before were read.
                span = min(self.reader.offset_range(stream)[0], end), end
                files, location = catalog.files.get(stream, ()), self.archive.location
                topic_replay = TopicReplay(self.reader, stream, files, span, commits.get(stream), location)
                handled |= self._replay_stream(topic_replay, everything)
        for path in sorted(self.selection.paths - handled):
            self._print(f"{path}: the topics don't contain this file", is_problem=True)
        return int(self.has_problems)

    def _read_catalog(self, streams: Sequence[str]) -> FileCatalog:
        """Read the events of the selected files, and of all others of their acquisitions, which may be days older."""
        events, selection = self.reader.events(streams), self.selection
        return FileCatalog.from_events(
            events if selection.since_ms is None or selection.paths else events_for_replay(events, selection.since_ms)
        )

    def _replay_stream(self, topic_replay: TopicReplay, everything: bool) -> set[str]:
        """Rebuild one stream; return the paths that were rebuilt, or reported as left out."""
        stream = topic_replay.stream
        if self.options.dry_run:
            target = RebuildTarget(self.retired)
        else:
            target = DirectoryTarget(self.archive, stream, self.retired)
        with closing(target):
            result = topic_replay.run(target, self.selection, self.progress, whole_topic=everything)
            self._report_result(stream, result, target)
        handled = {file.path for file in result.not_rebuilt} | {done.file.path for done in target.results}
        self._report(stream, target.results, [it for it in topic_replay.events if it.path not in handled])
        return handled

    # The report

    def _report_result(self, stream: str, result: ReplayResult, target: RebuildTarget) -> None:
        for note in result.notes:
            self._print(f"{stream}: {note}")
        if result.lost_records:
            self._print(
                f"{stream}: {result.lost_records} records are missing in the topic, as gaps in their numbers show"
            )
        for file in result.not_rebuilt:
            self._report_not_rebuilt(file)
        if result.open_file:
            self._report_open_file(result.open_file, target)
        if result.halted:
            self._print(f"{stream}: {result.halted}; replay stops here, as an archiver does", is_problem=True)

    def _report(self, stream: str, done: Sequence[RebuildResult], gone: Sequence[FileFinished]) -> None:
        """Print the outcome of a stream. gone: files with an event of which the topic has no record left."""
        by_outcome = {outcome: [it for it in done if it.outcome is outcome] for outcome in RebuildOutcome}
        for outcome in (RebuildOutcome.NAME_TAKEN, RebuildOutcome.CHANGED):
            for it in by_outcome[outcome]:
                self._print(f"{it.file.path}: {outcome}", is_problem=True)
        for path in (it.file.path for it in by_outcome[RebuildOutcome.RETIRED]):
            if path in self.selection.paths:
                text = f"{path}: it was retired by {self.retired[path].who}; --retired rebuilds it nevertheless"
                self._print(text, is_problem=True)
        since, until = self.selection.since_ms, self.selection.until_ms
        gone = [
            event
            for event in gone
            if (since is None or event.last.time >= since) and (until is None or event.first.time <= until)
        ]
        if gone and not self.selection.paths and not self.selection.overrides.any_given:
            what = f"{stream}: the records of {len(gone)} files are no longer in the topic, "
            what += f"the last of them {gone[-1].path}"
            self._print(what, is_problem=since is not None or until is not None)
        made = [it for it in done if it.outcome is not RebuildOutcome.RETIRED]
        made_bytes = sum(it.size_bytes for it in made)
        if self.options.dry_run:
            planned, left_out = _planned(stream, made, self.options.zone), len(done) - len(made)
            if left_out:
                planned.append(f"{left_out} more are retired, so they aren't rebuilt (--retired rebuilds them)")
            self.progress.print_output(*planned)
            return
        counts = ", ".join(f"{len(files)} {outcome}" for outcome, files in by_outcome.items() if files)
        size = f"; {format_bytes(made_bytes)}" if made else ""
        self.progress.print_output(f"{stream}: {counts or 'no file'}{size}")

    def _report_not_rebuilt(self, file: RebuiltFile) -> None:
        whose = file.path if file.event else f"a file of the acquisition around {self._time(file.first_ms)}"
        span = f"{self._time(file.first_ms)} to {self._time(file.last_ms)}"
        since, paths = self.selection.since_ms, self.selection.paths
        is_problem = file.path in paths if since is None else file.last_ms >= since
        if is_problem or not paths:
            self._print(f"{whose}: left out: {file.missing} ({file.frames} frames, {span})", is_problem=is_problem)

    def _report_open_file(self, file: RebuiltFile, target: RebuildTarget) -> None:
        left = target.keep_partial(file)
        if file.content:
            where = f"; left as {left}" if left else ""
            self._print(f"{file.path}: still being recorded: {file.frames} frames so far{where}")

    def _time(self, time_ms: int) -> str:
        return format_time(time_ms, self.options.zone)

    def _print(self, line: str, *, is_problem: bool = False) -> None:
        self.has_problems |= is_problem
        self.progress.print_line(line)


def _planned(stream: str, done: Sequence[RebuildResult], zone: tzinfo | None) -> list[Part]:
    rows = [
        (
            it.file.path,
            format_time(it.file.first_ms, zone),
            format_duration(it.file.last_ms - it.file.first_ms),
            str(it.file.frames),
            format_bytes(it.size_bytes),
            it.file.close_reason.shown if it.file.close_reason else "",
        )
        for it in done
    ]
    head = ("file", "from" if zone is UTC else "from (local)", " length", " frames", " size", "closed by")
    return [f"{stream}: {len(done)} files", Table(head, rows, frozenset({0}))]
