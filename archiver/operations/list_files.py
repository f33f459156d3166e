"""The command `archiver files`: lists acquisitions, their files and losses, from g3.files alone."""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from archiver.console.runner import print_err, print_lines, print_out, run, table
from archiver.core.catalog import FileCatalog, FileEvent
from archiver.core.checkpoint import Checkpoint, CheckpointError
from archiver.core.events import Event, FileAdopted, FileFinished, FileRetired, FileSalvaged, RecordsLost
from archiver.core.formatting import count_noun, format_bytes, format_duration, format_iso, format_time
from archiver.core.paths import start_and_number
from archiver.core.segmentation import CloseReason, State
from archiver.kafka.topic_reader import TopicReader

_PROG = "archiver files"
_NO_STATE = Checkpoint(State(""))


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of an acquisition."""

    event: FileFinished
    losses: tuple[RecordsLost, ...] = ()
    """The losses noticed while it was recorded."""
    retired: FileRetired | None = None
    """The event of its retirement, if it is retired."""


@dataclass(frozen=True, slots=True)
class ListedAcquisition:
    """An acquisition."""

    files: tuple[ListedFile, ...]
    """Its files, in order."""
    ended: bool
    """Whether it has ended."""

    @property
    def time_ms(self) -> int:
        """The time of its first frame, ms since the epoch."""
        return self.files[0].event.first.time

    @property
    def until_ms(self) -> int:
        """The time of its last frame, ms since the epoch."""
        return self.files[-1].event.last.time

    @property
    def losses(self) -> tuple[RecordsLost, ...]:
        """The losses of all its files."""
        return tuple(loss for file in self.files for loss in file.losses)


@dataclass(frozen=True, slots=True)
class ListedEvent:
    """A loss, or a salvaged or adopted file, that belongs to no acquisition."""

    event: RecordsLost | FileSalvaged | FileAdopted
    time_ms: int
    """Its start, ms since the epoch."""
    until_ms: int
    """Its end, ms since the epoch."""
    retired: FileRetired | None = None
    """The event of its retirement, if it is a retired file."""


Listing = ListedAcquisition | ListedEvent


def entries(catalog: FileCatalog, since_ms: int | None = None, until_ms: int | None = None) -> list[Listing]:
    """Return all that is to be listed, by time. Pure.

    since_ms, until_ms: ms since the epoch; only what overlaps the time between.
    """
    found: list[Listing] = []
    for stream, files in catalog.files.items():
        losses = [loss for loss in catalog.losses if loss.stream == stream]
        listed = _with_losses(sorted(files, key=lambda file: file.number), losses, catalog.retired)
        found += _acquisitions(listed)
    placed = {id(loss) for entry in found if isinstance(entry, ListedAcquisition) for loss in entry.losses}
    for loss in catalog.losses:
        if id(loss) not in placed:
            found.append(ListedEvent(loss, loss.until if loss.since is None else loss.since, loss.until))
    for event in catalog.file_events().values():
        if not isinstance(event, FileFinished):
            within = start_and_number(event.path)[0] * 1000 + 999  # somewhere in that second, after its other files
            found.append(ListedEvent(event, within, within, catalog.retired.get(event.path)))
    return sorted(
        (
            entry
            for entry in found
            if (since_ms is None or entry.until_ms >= since_ms) and (until_ms is None or entry.time_ms <= until_ms)
        ),
        key=lambda entry: entry.time_ms,
    )


def _acquisitions(files: Sequence[ListedFile]) -> list[ListedAcquisition]:
    """Return the acquisitions of a stream's files, which are in order.

    Several may begin in the same second, with the same start and id.
    """
    found: list[ListedAcquisition] = []
    begun: list[ListedFile] = []
    for file in files:
        last = begun[-1].event if begun else None
        if last and (last.why is not CloseReason.TIME or (last.start, last.id) != (file.event.start, file.event.id)):
            found.append(ListedAcquisition(tuple(begun), ended=True))
            begun = []
        begun.append(file)
    if begun:
        found.append(ListedAcquisition(tuple(begun), ended=begun[-1].event.why is not CloseReason.TIME))
    return found


def _with_losses(
    files: Iterable[FileFinished], losses: Sequence[RecordsLost], retired: Mapping[str, FileRetired]
) -> list[ListedFile]:
    """Return the files, each loss with the first file during which it was noticed.

    A file lasts from its first record to the one that closed it. Losses are matched by time, as a topic that was
    created again has the same offsets again. A loss that was noticed later happened after the file's end.
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
    """Run the command with its options (commands/files.py); return its exit code."""
    return run(options, _PROG, lambda reader: _list(reader, options))


def _list(reader: TopicReader, options: argparse.Namespace) -> int:
    wanted = set(options.stream)
    events = (e for e in reader.events() if not wanted or isinstance(e, Exception) or e.stream in wanted)
    catalog = FileCatalog.from_events(map(_without_state, events))
    found = entries(catalog, options.since, options.until)
    retired = sorted(_retired_of(found), key=lambda event: (event.time, event.path)) if options.retired else []
    if options.json:
        for shown in map(retired_as_json, retired) if options.retired else map(as_json, found):
            print_out(json.dumps(shown))
        for what in catalog.unreadable:
            print_out(json.dumps({"kind": "unreadable", "what": what}))
        return 0
    for what in catalog.unreadable:
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


def _retired_of(found: Iterable[Listing]) -> Iterator[FileRetired]:
    for entry in found:
        for it in entry.files if isinstance(entry, ListedAcquisition) else [entry]:
            if it.retired:
                yield it.retired


def _without_state(event: Event | CheckpointError) -> Event | CheckpointError:
    """Return the event without its checkpoint, which isn't listed: of very many files it takes much memory."""
    return replace(event, checkpoint=_NO_STATE) if isinstance(event, FileFinished) else event


def as_json(entry: Listing) -> dict[str, Any]:
    """Return the JSON object of an entry, with the names documented in --help."""
    if isinstance(entry, ListedEvent):
        event = entry.event
        if isinstance(event, RecordsLost):
            return {"kind": "loss", "stream": event.stream, "group": event.group, **_loss(event)}
        fields = msgspec.to_builtins(event)
        names = ["stream", "group", "path", "frames", "bytes", "sha256", "host"]
        names += ["what"] if isinstance(event, FileSalvaged) else ["who", "reason", "damage"]
        return {
            "kind": "salvaged" if isinstance(event, FileSalvaged) else "adopted",
            "start": format_iso(start_and_number(event.path)[0] * 1000),
            **{name: fields[name] for name in names},
            "retired": _retired(entry.retired),
        }
    first = entry.files[0].event
    return {
        "kind": "acquisition",
        "stream": first.stream,
        "group": first.group,
        "id": first.id,
        "start": format_iso(first.start * 1000),
        "first_frame": format_iso(entry.time_ms),
        "last_frame": format_iso(entry.until_ms),
        "frames": sum(file.event.frames for file in entry.files),
        "missing": sum(file.event.missing for file in entry.files),
        "bytes": sum(file.event.bytes for file in entry.files),
        "lost_records": _sum_if_known(entry.losses),
        "over": entry.ended,
        "why": str(entry.files[-1].event.why),
        "files": [_file(file) for file in entry.files],
    }


def _file(file: ListedFile) -> dict[str, Any]:
    fields = msgspec.to_builtins(file.event)
    return {
        "first_frame": format_iso(file.event.first.time),
        "last_frame": format_iso(file.event.last.time),
        **{n: fields[n] for n in ("path", "number", "frames", "missing", "bytes", "sha256", "why", "host")},
        "losses": [_loss(loss) for loss in file.losses],
        "retired": _retired(file.retired),
    }


def _retired(event: FileRetired | None) -> dict[str, Any] | None:
    return (
        None
        if event is None
        else {"time": format_iso(event.time), "who": event.who, "reason": event.reason, "host": event.host}
    )


def _loss(loss: RecordsLost) -> dict[str, Any]:
    since_ms = None if loss.since is None else format_iso(loss.since)
    fields = {name: getattr(loss, name) for name in ("records", "times", "what", "cause", "offset", "host")}
    return {**fields, "since": since_ms, "until": format_iso(loss.until)}


def _sum_if_known(losses: Iterable[RecordsLost]) -> int | None:
    total = 0
    for loss in losses:
        if loss.records is None:
            return None
        total += loss.records
    return total


def retired_as_json(event: FileRetired) -> dict[str, Any]:
    """Return the JSON object of a retired file, with the names documented in --help."""
    names = ("stream", "group", "path", "bytes", "sha256", "who", "reason", "host")
    return {"kind": "retired", "time": format_iso(event.time), **{name: getattr(event, name) for name in names}}


def retired_as_table(events: Sequence[FileRetired]) -> str:
    """Return a table of retired files, with a line of totals at the end."""
    rows = [(format_time(it.time), it.path, format_bytes(it.bytes), it.who, it.reason) for it in events]
    lines = table(("retired (UTC)", "file", " size", "by", "reason"), rows)
    return f"{lines}\n{count_noun(len(events), 'file')} retired, {format_bytes(sum(it.bytes for it in events))}"


_HEAD = ("start (UTC)", "stream", " length", " frames", " missing", " lost", " size", "closed", "file")


def as_table(found: Sequence[Listing]) -> str:
    """Return a table of entries, with a line of totals at the end."""
    rows: list[tuple[str, ...]] = []
    for entry in found:
        rows += _rows(entry)
    acquisitions = [entry for entry in found if isinstance(entry, ListedAcquisition)]
    files = [file for acquisition in acquisitions for file in acquisition.files]
    alone = [entry.event for entry in found if isinstance(entry, ListedEvent)]
    salvaged = [event for event in alone if isinstance(event, FileSalvaged)]
    adopted = [event for event in alone if isinstance(event, FileAdopted)]
    losses = [loss for acquisition in acquisitions for loss in acquisition.losses]
    losses += [event for event in alone if isinstance(event, RecordsLost)]
    totals = [count_noun(len(acquisitions), "acquisition"), count_noun(len(files), "file")]
    counted: list[FileEvent] = [*(file.event for file in files), *salvaged, *adopted]
    totals.append(format_bytes(sum(event.bytes for event in counted)))
    totals.append(count_noun(sum(event.frames for event in counted), "frame"))
    if salvaged:
        totals.append(f"{count_noun(len(salvaged), 'file')} SALVAGED")
    if adopted:
        totals.append(f"{count_noun(len(adopted), 'file')} adopted")
    if retired := sum(it.retired is not None for it in (*files, *found) if not isinstance(it, ListedAcquisition)):
        totals.append(f"{count_noun(retired, 'file')} retired")
    totals.append(f"{sum(file.event.missing for file in files):,} missing")
    totals.append(
        f"LOST: {_lost(losses)} records, {count_noun(sum(loss.times for loss in losses), 'time')}"
        if losses
        else "nothing lost"
    )
    return f"{table(_HEAD, rows)}\n{', '.join(totals)}"


def _rows(entry: Listing) -> list[tuple[str, ...]]:
    if isinstance(entry, ListedEvent):
        if isinstance(entry.event, RecordsLost):
            return [_lost_row("! ", entry.event)]
        return _event_rows(entry.event, entry.retired)
    rows: list[tuple[str, ...]] = []
    first = entry.files[0].event
    of_several = len(entry.files) > 1
    if of_several:
        total = _figures(
            entry.until_ms - entry.time_ms,
            sum(file.event.frames for file in entry.files),
            sum(file.event.missing for file in entry.files),
            entry.losses,
            sum(file.event.bytes for file in entry.files),
        )
        why = entry.files[-1].event.why.shown if entry.ended else "continues"
        rows.append((format_time(entry.time_ms), first.stream, *total, why, f"{len(entry.files)} files"))
    for file in entry.files:
        event = file.event
        figures = _figures(event.last.time - event.first.time, event.frames, event.missing, file.losses, event.bytes)
        begun = ("  " if of_several else "") + format_time(event.first.time)
        rows.append((begun, event.stream, *figures, event.why.shown, _shown(event.path, file.retired)))
        rows += [_lost_row("  ! ", loss) for loss in file.losses]
    return rows


def _figures(
    length: int, frames: int, missing: int, losses: Sequence[RecordsLost], size_bytes: int
) -> tuple[str, str, str, str, str]:
    return (
        format_duration(length),
        f"{frames:,}",
        f"{missing:,}" if missing else "",
        _lost(losses) if losses else "",
        format_bytes(size_bytes),
    )


def _lost(losses: Sequence[RecordsLost]) -> str:
    """Return the number of lost records: 5; ? if it is unknown; 5+? if it is unknown for some losses."""
    known = sum(loss.records or 0 for loss in losses)
    unknown = any(loss.records is None for loss in losses)
    return f"{known:,}" * bool(known or not unknown) + "+" * bool(known and unknown) + "?" * unknown


def _lost_row(mark: str, loss: RecordsLost) -> tuple[str, ...]:
    begun = mark + format_time(loss.until if loss.since is None else loss.since)
    length = "" if loss.since is None else format_duration(loss.until - loss.since)
    return begun, loss.stream, length, "", "", _lost([loss]), "", "LOST", loss.what


def _event_rows(event: FileSalvaged | FileAdopted, retired: FileRetired | None) -> list[tuple[str, ...]]:
    begun = format_time(start_and_number(event.path)[0] * 1000)
    salvaged = isinstance(event, FileSalvaged)
    figures = ("", f"{event.frames:,}", "", "", format_bytes(event.bytes), "SALVAGED" if salvaged else "adopted")
    rows: list[tuple[str, ...]] = [(begun, event.stream, *figures, _shown(event.path, retired))]
    if isinstance(event, FileSalvaged):
        rows.append(("  !", event.stream, *[""] * 6, event.what))
    return rows


def _shown(path: str, retired: FileRetired | None) -> str:
    return f"{path} (retired)" if retired else path
