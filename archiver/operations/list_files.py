"""`archiver files`: what was recorded, from g3.files alone: acquisitions, their files, and what is missing."""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from archiver.console.runner import print_err, print_lines, print_out, run, table
from archiver.core.catalog import Account, Told
from archiver.core.checkpoint import Checkpoint, CheckpointError
from archiver.core.events import Event, FileAdopted, FileFinished, FileRetired, FileSalvaged, RecordsLost
from archiver.core.formatting import counted, duration, iso, moment, size
from archiver.core.paths import start_and_number
from archiver.core.segmentation import State, Why
from archiver.kafka.topic_reader import History

_PROG = "archiver files"
_NO_STATE = Checkpoint(State(""))


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file, the losses noticed while it was recorded, and its event if it is retired."""

    event: FileFinished
    losses: tuple[RecordsLost, ...] = ()
    retired: FileRetired | None = None


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Its files, in order; over: whether it has ended. Times in ms."""

    files: tuple[ListedFile, ...]
    over: bool

    @property
    def time(self) -> int:
        """Of its first frame."""
        return self.files[0].event.first.time

    @property
    def until(self) -> int:
        """Of its last frame."""
        return self.files[-1].event.last.time

    @property
    def losses(self) -> tuple[RecordsLost, ...]:
        """Of all its files."""
        return tuple(loss for file in self.files for loss in file.losses)


@dataclass(frozen=True, slots=True)
class Alone:
    """What belongs to no acquisition: a loss, or what was salvaged or adopted. Times in ms. retired: as of a file."""

    event: RecordsLost | FileSalvaged | FileAdopted
    time: int
    until: int
    retired: FileRetired | None = None


Entry = Acquisition | Alone


def entries(account: Account, since: int | None = None, until: int | None = None) -> list[Entry]:
    """All that is to be listed, by time. since, until: ms; of acquisitions that were recorded between, and what else
    happened there. Pure."""
    found: list[Entry] = []
    for stream, files in account.files.items():
        losses = [loss for loss in account.losses if loss.stream == stream]
        listed = _with_losses(sorted(files, key=lambda file: file.number), losses, account.retired)
        found += _acquisitions(listed)
    placed = {id(loss) for entry in found if isinstance(entry, Acquisition) for loss in entry.losses}
    for loss in account.losses:
        if id(loss) not in placed:
            found.append(Alone(loss, loss.until if loss.since is None else loss.since, loss.until))
    for event in account.told().values():
        if not isinstance(event, FileFinished):
            within = start_and_number(event.path)[0] * 1000 + 999  # somewhere in that second, after its other files
            found.append(Alone(event, within, within, account.retired.get(event.path)))
    return sorted(
        (
            entry
            for entry in found
            if (since is None or entry.until >= since) and (until is None or entry.time <= until)
        ),
        key=lambda entry: entry.time,
    )


def _acquisitions(files: Sequence[ListedFile]) -> list[Acquisition]:
    """Of a stream's files in order. In the same second there may be several, of the same start and id."""
    found: list[Acquisition] = []
    begun: list[ListedFile] = []
    for file in files:
        last = begun[-1].event if begun else None
        if last and (last.why is not Why.TIME or (last.start, last.id) != (file.event.start, file.event.id)):
            found.append(Acquisition(tuple(begun), over=True))
            begun = []
        begun.append(file)
    if begun:
        found.append(Acquisition(tuple(begun), over=begun[-1].event.why is not Why.TIME))
    return found


def _with_losses(
    files: Iterable[FileFinished], losses: Sequence[RecordsLost], retired: Mapping[str, FileRetired]
) -> list[ListedFile]:
    """Each loss with the first file in which it was noticed, from its first record to the one that closed it.

    By time, as offsets come again in a topic made anew. What was noticed later was lost after the file's end.
    """
    left = list(losses)
    listed = []
    for file in files:
        hits = [loss for loss in left if file.first.time <= loss.until <= file.closing.time]
        if hits:
            left = [loss for loss in left if loss not in hits]
        listed.append(ListedFile(file, tuple(hits), retired.get(file.path)))
    return listed


def show(options: argparse.Namespace) -> int:
    """Do as the options say (commands/files.py). Gives the exit code."""
    return run(options, _PROG, lambda history: _list(history, options))


def _list(history: History, options: argparse.Namespace) -> int:
    wanted = set(options.stream)
    told = (e for e in history.events() if not wanted or isinstance(e, Exception) or e.stream in wanted)
    account = Account.of(map(_without_state, told))
    found = entries(account, options.since, options.until)
    retired = sorted(_retired_of(found), key=lambda event: (event.time, event.path)) if options.retired else []
    if options.json:
        for shown in map(retired_as_json, retired) if options.retired else map(as_json, found):
            print_out(json.dumps(shown))
        for what in account.unreadable:
            print_out(json.dumps({"kind": "unreadable", "what": what}))
        return 0
    for what in account.unreadable:
        print_err(f"{_PROG}: an event of {options.group} can't be understood, and isn't listed: {what}")
    if retired:
        print_lines(retired_as_table(retired))
    elif found and not options.retired:
        print_lines(as_table(found))
    else:
        did = "no retired file" if options.retired else "finished no file"
        which = f" of {', '.join(sorted(wanted))}" if wanted else ""
        when = "" if options.since is None and options.until is None else " in that time"
        print_err(f"the group {options.group} has {did}{which}{when}")
    return 0


def _retired_of(found: Iterable[Entry]) -> Iterator[FileRetired]:
    for entry in found:
        for it in entry.files if isinstance(entry, Acquisition) else [entry]:
            if it.retired:
                yield it.retired


def _without_state(event: Event | CheckpointError) -> Event | CheckpointError:
    """All of an event that is listed. The state after each of very many files is much, and isn't."""
    return replace(event, checkpoint=_NO_STATE) if isinstance(event, FileFinished) else event


def as_json(entry: Entry) -> dict[str, Any]:
    """By the names that --help promises."""
    if isinstance(entry, Alone):
        event = entry.event
        if isinstance(event, RecordsLost):
            return {"kind": "loss", "stream": event.stream, "group": event.group, **_loss(event)}
        told = msgspec.to_builtins(event)
        names = ["stream", "group", "path", "frames", "bytes", "sha256", "host"]
        names += ["what"] if isinstance(event, FileSalvaged) else ["who", "reason", "damage"]
        return {
            "kind": "salvaged" if isinstance(event, FileSalvaged) else "adopted",
            "start": iso(start_and_number(event.path)[0] * 1000),
            **{name: told[name] for name in names},
            "retired": _retired(entry.retired),
        }
    first = entry.files[0].event
    return {
        "kind": "acquisition",
        "stream": first.stream,
        "group": first.group,
        "id": first.id,
        "start": iso(first.start * 1000),
        "first_frame": iso(entry.time),
        "last_frame": iso(entry.until),
        "frames": sum(file.event.frames for file in entry.files),
        "missing": sum(file.event.missing for file in entry.files),
        "bytes": sum(file.event.bytes for file in entry.files),
        "lost_records": _known_sum(entry.losses),
        "over": entry.over,
        "why": str(entry.files[-1].event.why),
        "files": [_file(file) for file in entry.files],
    }


def _file(file: ListedFile) -> dict[str, Any]:
    told = msgspec.to_builtins(file.event)
    return {
        "first_frame": iso(file.event.first.time),
        "last_frame": iso(file.event.last.time),
        **{n: told[n] for n in ("path", "number", "frames", "missing", "bytes", "sha256", "why", "host")},
        "losses": [_loss(loss) for loss in file.losses],
        "retired": _retired(file.retired),
    }


def _retired(event: FileRetired | None) -> dict[str, Any] | None:
    return (
        None
        if event is None
        else {"time": iso(event.time), "who": event.who, "reason": event.reason, "host": event.host}
    )


def _loss(loss: RecordsLost) -> dict[str, Any]:
    since = None if loss.since is None else iso(loss.since)
    told = {name: getattr(loss, name) for name in ("records", "times", "what", "cause", "offset", "host")}
    return {**told, "since": since, "until": iso(loss.until)}


def _known_sum(losses: Iterable[RecordsLost]) -> int | None:
    total = 0
    for loss in losses:
        if loss.records is None:
            return None
        total += loss.records
    return total


def retired_as_json(event: FileRetired) -> dict[str, Any]:
    """By the names that --help promises."""
    names = ("stream", "group", "path", "bytes", "sha256", "who", "reason", "host")
    return {"kind": "retired", "time": iso(event.time), **{name: getattr(event, name) for name in names}}


def retired_as_table(events: Sequence[FileRetired]) -> str:
    """For people, with a line of sums at the end."""
    rows = [(moment(it.time), it.path, size(it.bytes), it.who, it.reason) for it in events]
    lines = table(("retired (UTC)", "file", " size", "by", "reason"), rows)
    return f"{lines}\n{counted(len(events), 'file')} retired, {size(sum(it.bytes for it in events))}"


_HEAD = ("start (UTC)", "stream", " length", " frames", " missing", " lost", " size", "closed", "file")


def as_table(found: Sequence[Entry]) -> str:
    """For people, with a line of sums at the end."""
    rows: list[tuple[str, ...]] = []
    for entry in found:
        rows += _rows(entry)
    acquisitions = [entry for entry in found if isinstance(entry, Acquisition)]
    files = [file for acquisition in acquisitions for file in acquisition.files]
    alone = [entry.event for entry in found if isinstance(entry, Alone)]
    salvaged = [event for event in alone if isinstance(event, FileSalvaged)]
    adopted = [event for event in alone if isinstance(event, FileAdopted)]
    losses = [loss for acquisition in acquisitions for loss in acquisition.losses]
    losses += [event for event in alone if isinstance(event, RecordsLost)]
    said = [counted(len(acquisitions), "acquisition"), counted(len(files), "file")]
    held: list[Told] = [*(file.event for file in files), *salvaged, *adopted]
    said.append(size(sum(event.bytes for event in held)))
    said.append(counted(sum(event.frames for event in held), "frame"))
    if salvaged:
        said.append(f"{counted(len(salvaged), 'file')} SALVAGED")
    if adopted:
        said.append(f"{counted(len(adopted), 'file')} adopted")
    if retired := sum(it.retired is not None for it in (*files, *found) if not isinstance(it, Acquisition)):
        said.append(f"{counted(retired, 'file')} retired")
    said.append(f"{sum(file.event.missing for file in files):,} missing")
    said.append(
        f"LOST: {_lost(losses)} records, {counted(sum(loss.times for loss in losses), 'time')}"
        if losses
        else "nothing lost"
    )
    return f"{table(_HEAD, rows)}\n{', '.join(said)}"


def _rows(entry: Entry) -> list[tuple[str, ...]]:
    if isinstance(entry, Alone):
        if isinstance(entry.event, RecordsLost):
            return [_lost_row("! ", entry.event)]
        return _alone_rows(entry.event, entry.retired)
    rows: list[tuple[str, ...]] = []
    first = entry.files[0].event
    of_several = len(entry.files) > 1
    if of_several:
        total = _figures(
            entry.until - entry.time,
            sum(file.event.frames for file in entry.files),
            sum(file.event.missing for file in entry.files),
            entry.losses,
            sum(file.event.bytes for file in entry.files),
        )
        why = str(entry.files[-1].event.why) if entry.over else "goes on"
        rows.append((moment(entry.time), first.stream, *total, why, f"{len(entry.files)} files"))
    for file in entry.files:
        event = file.event
        figures = _figures(event.last.time - event.first.time, event.frames, event.missing, file.losses, event.bytes)
        begun = ("  " if of_several else "") + moment(event.first.time)
        rows.append((begun, event.stream, *figures, str(event.why), _shown(event.path, file.retired)))
        rows += [_lost_row("  ! ", loss) for loss in file.losses]
    return rows


def _figures(
    length: int, frames: int, missing: int, losses: Sequence[RecordsLost], size_bytes: int
) -> tuple[str, str, str, str, str]:
    return (
        duration(length),
        f"{frames:,}",
        f"{missing:,}" if missing else "",
        _lost(losses) if losses else "",
        size(size_bytes),
    )


def _lost(losses: Sequence[RecordsLost]) -> str:
    """5; ?: some, nobody knows how many; 5+?: these, and some."""
    known = sum(loss.records or 0 for loss in losses)
    unknown = any(loss.records is None for loss in losses)
    return f"{known:,}" * bool(known or not unknown) + "+" * bool(known and unknown) + "?" * unknown


def _lost_row(mark: str, loss: RecordsLost) -> tuple[str, ...]:
    begun = mark + moment(loss.until if loss.since is None else loss.since)
    length = "" if loss.since is None else duration(loss.until - loss.since)
    return begun, loss.stream, length, "", "", _lost([loss]), "", "LOST", loss.what


def _alone_rows(event: FileSalvaged | FileAdopted, retired: FileRetired | None) -> list[tuple[str, ...]]:
    begun = moment(start_and_number(event.path)[0] * 1000)
    salvaged = isinstance(event, FileSalvaged)
    figures = ("", f"{event.frames:,}", "", "", size(event.bytes), "SALVAGED" if salvaged else "adopted")
    rows: list[tuple[str, ...]] = [(begun, event.stream, *figures, _shown(event.path, retired))]
    if isinstance(event, FileSalvaged):
        rows.append(("  !", event.stream, *[""] * 6, event.what))
    return rows


def _shown(path: str, retired: FileRetired | None) -> str:
    return f"{path} (retired)" if retired else path
