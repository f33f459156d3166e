"""The command `archiver replay`: rebuild files from the topics."""

import argparse
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from archiver.archive import archive_lock, archive_settings
from archiver.archive.file_system_check import check_disk
from archiver.archive.location import located
from archiver.archive.ownership import check_not_elsewhere
from archiver.archive.root import ArchiveRoot
from archiver.console.progress import Progress
from archiver.console.runner import table
from archiver.core.catalog import FileCatalog, events_for_replay
from archiver.core.events import FileFinished, FileRetired
from archiver.core.formatting import format_bytes, format_duration, format_time
from archiver.kafka.topic_reader import OffsetAndMetadata, TopicReader
from archiver.replay.plan import Overrides, Selection
from archiver.replay.rebuilt import RebuildOutcome, RebuildResult, RebuildTarget, RebuiltFile
from archiver.replay.sinks import DirectoryTarget, remove_leftovers
from archiver.replay.topic_replay import ReplayResult, TopicReplay
from g3stream.host.environment import host_name


def replay(config: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Run the command with its options (commands/replay.py); return its exit code."""
    overrides = Overrides(
        None if options.time_per_file is None else round(options.time_per_file * 1000),
        None if options.gap is None else round(options.gap * 1000),
        options.name_format,
        options.carry,
    )
    selection = Selection(options.since, options.until, options.only)
    location = located(options.data_dir, options.private_dir)
    location = archive_settings.choose_settings(location, options.checksums)
    archive = ArchiveRoot(location, options.group, host_name())
    reader = TopicReader(config, options.group)
    check_not_elsewhere(archive, reader)
    with Progress() as progress:
        run = Replay(
            reader, archive, overrides, selection, progress, dry_run=options.dry_run, retired_too=options.retired
        )
        return run.run(options.stream)


class Replay:
    """One run of the command, over one stream after the other."""

    def __init__(
        self,
        reader: TopicReader,
        archive: ArchiveRoot,
        overrides: Overrides,
        selection: Selection,
        progress: Progress,
        *,
        dry_run: bool,
        retired_too: bool,
    ) -> None:
        self._reader = reader
        self._archive = archive
        self._overrides = overrides
        self._selection = selection
        self._progress = progress
        self._dry_run = dry_run
        self._retired_too = retired_too or overrides.any_given  # with other settings, they are different files
        self._retired: Mapping[str, FileRetired] = {}
        self._commits: Mapping[str, OffsetAndMetadata] = {}
        self._has_problems = False

    def run(self, streams: Sequence[str]) -> int:
        """Rebuild the files of these streams, or of all if none are named; return the exit code.

        Raises OSError, KafkaException, CheckpointError.
        """
        available = self._reader.streams()
        self._reader.check_not_hidden(sorted(set(streams) - set(available)))
        for stream in sorted(set(streams) - set(available)):
            self._print_problem(f"{stream}: no such stream; available: {', '.join(available) or 'none yet'}")
        named = bool(streams)
        streams = [stream for stream in available if stream in streams or not named]
        if not streams:
            self._print("nothing to rebuild: no stream has a topic that this user may read")
        self._commits = self._reader.committed(streams)  # before the events: files closed by then are in them
        catalog = self._read_catalog(streams if named else ())
        if not named:
            self._reader.check_not_hidden(sorted(catalog.files.keys() - set(available)))
        for unreadable in catalog.unreadable:
            self._print_problem(unreadable)
        if not self._retired_too:
            self._retired = catalog.retired
        events = {event.path for files in catalog.files.values() for event in files}
        everything = self._overrides.any_given or not self._selection.paths <= events
        if self._selection.paths and not everything:
            theirs = {
                stream for stream, files in catalog.files.items() for it in files if it.path in self._selection.paths
            }
            streams = [stream for stream in streams if stream in theirs]
        handled: set[str] = set()
        with ExitStack() as claims:
            ends = {stream: self._reader.offset_range(stream)[1] for stream in streams}
            if not self._dry_run:
                location = self._archive.location
                location = archive_settings.initialize(location, location.checksums)
                claims.callback(os.close, archive_lock.acquire_shared(location))
                check_disk(location, f"check.{secrets.token_hex(4)}")
                for stream in streams:
                    claims.callback(os.close, self._archive.claim(stream, alone=True))
                    remove_leftovers(self._archive, stream)
            for stream, end in ends.items():
                # Retention may have deleted records while the streams before were read.
                span = min(self._reader.offset_range(stream)[0], end), end
                handled |= self._replay_stream(stream, catalog.files.get(stream, ()), span, everything)
        for path in sorted(self._selection.paths - handled):
            self._print_problem(f"{path}: the topics don't contain this file")
        return int(self._has_problems)

    def _read_catalog(self, streams: Sequence[str]) -> FileCatalog:
        """Read the events of the selected files, and of all others of their acquisitions, which may be days older."""
        events, selection = self._reader.events(streams), self._selection
        return FileCatalog.from_events(
            events if selection.since_ms is None or selection.paths else events_for_replay(events, selection.since_ms)
        )

    def _replay_stream(
        self, stream: str, events: Sequence[FileFinished], span: tuple[int, int], everything: bool
    ) -> set[str]:
        """Rebuild one stream; return the paths that were rebuilt, or reported as left out."""
        first, end = span
        self._progress.start(stream, end - first)
        target = RebuildTarget(self._retired) if self._dry_run else DirectoryTarget(self._archive, self._retired)
        topic_replay = TopicReplay(
            self._reader, stream, events, span, self._commits.get(stream), self._archive.location
        )
        try:
            result = topic_replay.run(
                target, self._overrides, self._selection, self._progress, whole_topic=everything
            )
            self._progress.finish(stream)
            self._report_result(stream, result, target)
        finally:
            target.close()
        handled = {file.path for file in result.not_rebuilt} | {done.file.path for done in target.results}
        self._report(
            stream, target.results, [] if self._overrides.any_given else [e for e in events if e.path not in handled]
        )
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
            self._print_problem(f"{stream}: {result.halted}; replay stops here, as an archiver does")

    def _report(self, stream: str, done: Sequence[RebuildResult], gone: Sequence[FileFinished]) -> None:
        """Print the outcome of a stream. gone: files with an event of which the topic has no record left."""
        by_outcome = {outcome: [it for it in done if it.outcome is outcome] for outcome in RebuildOutcome}
        for outcome in (RebuildOutcome.NAME_TAKEN, RebuildOutcome.CHANGED):
            for it in by_outcome[outcome]:
                self._print_problem(f"{it.file.path}: {outcome}")
        for it in by_outcome[RebuildOutcome.RETIRED]:
            if it.file.path in self._selection.paths:
                event = self._retired[it.file.path]
                self._print_problem(
                    f"{it.file.path}: it was retired by {event.who}; --retired rebuilds it nevertheless"
                )
        since, until = self._selection.since_ms, self._selection.until_ms
        if since is not None or until is not None:
            gone = [
                event
                for event in gone
                if (since is None or event.last.time >= since) and (until is None or event.first.time <= until)
            ]
        if gone and not self._selection.paths:
            what = f"{stream}: the records of {len(gone)} files are no longer in the topic, "
            what += f"the last of them {gone[-1].path}"
            (self._print if since is None and until is None else self._print_problem)(what)
        made = [it for it in done if it.outcome is not RebuildOutcome.RETIRED]
        made_bytes = sum(it.size_bytes for it in made)
        if self._dry_run:
            left_out = len(done) - len(made)
            more = (
                f"\n{left_out} more are retired, so they aren't rebuilt (--retired rebuilds them)" if left_out else ""
            )
            self._progress.print_output(_planned(stream, made) + more)
            return
        counts = ", ".join(f"{len(files)} {outcome}" for outcome, files in by_outcome.items() if files)
        self._progress.print_output(
            f"{stream}: {counts or 'no file'}" + (f"; {format_bytes(made_bytes)}" if made else "")
        )

    def _report_not_rebuilt(self, file: RebuiltFile) -> None:
        whose = file.path if file.event else f"a file of the acquisition around {format_time(file.first_ms)}"
        span = f"{format_time(file.first_ms)} to {format_time(file.last_ms)}"
        what = f"{whose}: left out: {file.missing} ({file.frames} frames, {span})"
        asked = self._selection.since_ms is not None or file.path in self._selection.paths
        if asked and (self._selection.since_ms is None or file.last_ms >= self._selection.since_ms):
            self._print_problem(what)
        elif not self._selection.paths:
            self._print(what)

    def _report_open_file(self, file: RebuiltFile, target: RebuildTarget) -> None:
        left = target.keep_partial(file)
        if file.content:
            where = f"; left as {left}" if left else ""
            self._print(f"{file.path}: still being recorded: {file.frames} frames so far{where}")

    def _print(self, line: str) -> None:
        self._progress.print_line(line)

    def _print_problem(self, line: str) -> None:
        self._has_problems = True
        self._progress.print_line(line)


def _planned(stream: str, done: Sequence[RebuildResult]) -> str:
    rows = [
        (
            it.file.path,
            format_time(it.file.first_ms),
            format_duration(it.file.last_ms - it.file.first_ms),
            str(it.file.frames),
            format_bytes(it.size_bytes),
            it.file.close_reason.shown if it.file.close_reason else "",
        )
        for it in done
    ]
    return f"{stream}: {len(done)} files\n" + table(
        ["file", "from", " length", " frames", " size", "closed by"], rows
    )
