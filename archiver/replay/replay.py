"""The command `archiver replay`: read the topics once more, and make the files that they give."""

import argparse
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from archiver.archive import archive_lock, archive_settings
from archiver.archive.file_system_check import check_disk
from archiver.archive.location import located
from archiver.archive.ownership import check_not_elsewhere
from archiver.archive.root import ArchiveRoot
from archiver.console.progress import Progress
from archiver.console.runner import run, table
from archiver.core.catalog import Account, recent
from archiver.core.events import FileFinished, FileRetired
from archiver.core.formatting import duration, moment, size
from archiver.kafka.topic_reader import Commit, History
from archiver.replay.rebuilder import Choice, Rebuilt, Wanted
from archiver.replay.sinks import Done, DryRun, IntoDirectory, Outcome, tidy
from archiver.replay.topic_replay import Came, Rereading
from g3stream.host.environment import host_name

_PROG = "archiver replay"


def replay(options: argparse.Namespace, only: frozenset[str]) -> int:
    """Do as the options say (commands/replay.py); only: paths below the data directory. Gives the exit code."""
    choice = Choice(
        None if options.time_per_file is None else round(options.time_per_file * 1000),
        None if options.gap is None else round(options.gap * 1000),
        options.name_format,
        options.carry,
    )
    wanted = Wanted(options.since, options.until, only)

    def act(history: History) -> int:
        location = located(options.data_dir, options.private_dir)
        found = archive_settings.chosen(location, options.checksums)
        archive = ArchiveRoot.at(replace(location, checksums=found.checksums), options.group, host_name())
        check_not_elsewhere(archive, history)
        with Progress() as progress:
            replay = Replay(
                history, archive, choice, wanted, progress, dry_run=options.dry_run, retired_too=options.retired
            )
            return replay.run(options.stream)

    return run(options, _PROG, act)


class Replay:
    """One run over several streams, one after the other."""

    def __init__(
        self,
        history: History,
        archive: ArchiveRoot,
        choice: Choice,
        wanted: Wanted,
        progress: Progress,
        *,
        dry_run: bool,
        retired_too: bool,
    ) -> None:
        self._history = history
        self._archive = archive
        self._choice = choice
        self._wanted = wanted
        self._progress = progress
        self._dry_run = dry_run
        self._retired_too = retired_too or choice.given  # with other settings they are other files
        self._retired: Mapping[str, FileRetired] = {}
        self._commits: Mapping[str, Commit] = {}
        self._wrong = False

    def run(self, streams: Sequence[str]) -> int:
        """Rebuild the files of these streams, of all if none are named; gives the exit code.

        Raises OSError, KafkaException, CheckpointError.
        """
        there = self._history.streams()
        self._history.check_not_hidden(sorted(set(streams) - set(there)))
        for stream in sorted(set(streams) - set(there)):
            self._complain(f"{stream}: there is no such stream; there are {', '.join(there) or 'none yet'}")
        named = bool(streams)
        streams = [stream for stream in there if stream in streams or not named]
        if not streams:
            self._say("there is nothing to rebuild: no stream has a topic that this user may read")
        self._commits = self._history.committed(streams)  # first: what is closed by then will be told of
        account = self._account(streams if named else ())
        if not named:
            self._history.check_not_hidden(sorted(account.files.keys() - set(there)))
        for unreadable in account.unreadable:
            self._complain(unreadable)
        if not self._retired_too:
            self._retired = account.retired
        told = {event.path for files in account.files.values() for event in files}
        everything = self._choice.given or not self._wanted.only <= told
        if self._wanted.only and not everything:
            theirs = {
                stream for stream, files in account.files.items() for it in files if it.path in self._wanted.only
            }
            streams = [stream for stream in streams if stream in theirs]
        found: set[str] = set()
        with ExitStack() as claims:
            ends = {stream: self._history.span(stream)[1] for stream in streams}
            if not self._dry_run:
                location = archive_settings.settle(self._archive.location, self._archive.checksums)
                claims.callback(os.close, archive_lock.share(location))
                check_disk(location, f"check.{secrets.token_hex(4)}")
                for stream in streams:
                    claims.callback(os.close, self._archive.claim(stream, alone=True))
                    tidy(self._archive, stream)
            for stream, end in ends.items():
                # Retention may have taken records while the streams before were read.
                span = min(self._history.span(stream)[0], end), end
                found |= self._stream(stream, account.files.get(stream, ()), span, everything)
        for path in sorted(self._wanted.only - found):
            self._complain(f"{path}: the topics don't give this file")
        return int(self._wrong)

    def _account(self, streams: Sequence[str]) -> Account:
        """What was told of the files that are wanted, and of all others of their acquisitions, maybe days old."""
        events, wanted = self._history.events(streams), self._wanted
        return Account.of(events if wanted.since is None or wanted.only else recent(events, wanted.since))

    def _stream(self, stream: str, told: Sequence[FileFinished], span: tuple[int, int], everything: bool) -> set[str]:
        """Gives the paths that were rebuilt, or of which it was said why not."""
        first, end = span
        self._progress.begin(stream, end - first)
        target = DryRun(self._retired) if self._dry_run else IntoDirectory(self._archive, self._retired)
        rereading = Rereading(self._history, stream, told, span, self._commits.get(stream), self._archive.location)
        try:
            came = rereading.into(target, self._choice, self._wanted, self._progress, all_of_it=everything)
            self._progress.end(stream)
            self._tell(stream, came, target)
        finally:
            target.close()
        found = {file.path for file in came.left_out} | {done.file.path for done in target.done}
        self._report(stream, target.done, [] if self._choice.given else [e for e in told if e.path not in found])
        return found

    # What came of it

    def _tell(self, stream: str, came: Came, target: DryRun | IntoDirectory) -> None:
        for note in came.notes:
            self._say(f"{stream}: {note}")
        if came.lost:
            self._say(f"{stream}: {came.lost} records are missing in the topic, as their numbers show")
        for file in came.left_out:
            self._left_out(file)
        if came.open:
            self._still_open(came.open, target)
        if came.stopped:
            self._complain(f"{stream}: {came.stopped}; an archiver stops there, and so does this")

    def _report(self, stream: str, done: Sequence[Done], gone: Sequence[FileFinished]) -> None:
        """gone: files told of that the topic gave nothing of."""
        by_outcome = {outcome: [it for it in done if it.outcome is outcome] for outcome in Outcome}
        for outcome in (Outcome.OTHER, Outcome.CHANGED):
            for it in by_outcome[outcome]:
                self._complain(f"{it.file.path}: {outcome}")
        for it in by_outcome[Outcome.RETIRED]:
            if it.file.path in self._wanted.only:
                event = self._retired[it.file.path]
                self._complain(f"{it.file.path}: it was retired by {event.who}; --retired makes it all the same")
        since, until = self._wanted.since, self._wanted.until
        if since is not None or until is not None:
            gone = [
                event
                for event in gone
                if (since is None or event.last.time >= since) and (until is None or event.first.time <= until)
            ]
        if gone and not self._wanted.only:
            what = f"{stream}: {len(gone)} files have left the topic, the last of them {gone[-1].path}"
            (self._say if since is None and until is None else self._complain)(what)
        made = [it for it in done if it.outcome is not Outcome.RETIRED]
        made_bytes = sum(it.bytes for it in made)
        if self._dry_run:
            left_out = len(done) - len(made)
            more = (
                f"\n{left_out} more are retired, so they aren't made again (but with --retired)" if left_out else ""
            )
            self._progress.tell(_planned(stream, made) + more)
            return
        counts = ", ".join(f"{len(files)} {outcome}" for outcome, files in by_outcome.items() if files)
        self._progress.tell(f"{stream}: {counts or 'no file'}" + (f"; {size(made_bytes)}" if made else ""))

    def _left_out(self, file: Rebuilt) -> None:
        whose = file.path if file.told else f"a file of the acquisition in which {moment(file.first)} is"
        what = (
            f"{whose}: left out: {file.lacking} ({file.frames} frames, {moment(file.first)} to {moment(file.last)})"
        )
        asked = self._wanted.since is not None or file.path in self._wanted.only
        if asked and (self._wanted.since is None or file.last >= self._wanted.since):
            self._complain(what)
        elif not self._wanted.only:
            self._say(what)

    def _still_open(self, file: Rebuilt, target: DryRun | IntoDirectory) -> None:
        left = target.leave(file)
        if file.content:
            where = f"; left as {left}" if left else ""
            self._say(f"{file.path}: still being recorded: {file.frames} frames so far{where}")

    def _say(self, line: str) -> None:
        self._progress.say(line)

    def _complain(self, line: str) -> None:
        self._wrong = True
        self._progress.say(line)


def _planned(stream: str, done: Sequence[Done]) -> str:
    rows = [
        (
            it.file.path,
            moment(it.file.first),
            duration(it.file.last - it.file.first),
            str(it.file.frames),
            size(it.bytes),
            str(it.file.why),
        )
        for it in done
    ]
    return f"{stream}: {len(done)} files\n" + table(
        ["file", "from", " length", " frames", " size", "closed by"], rows
    )
