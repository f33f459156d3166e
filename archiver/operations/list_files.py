"""The command `archiver files`: lists acquisitions, their files and losses, from g3.files alone."""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from archiver.console.runner import print_err, print_lines, print_out, table
from archiver.core.catalog import FileCatalog, FileEvent
from archiver.core.checkpoint import Checkpoint, CheckpointError
from archiver.core.events import Event, FileAdopted, FileFinished, FileRetired, FileSalvaged, RecordsLost
from archiver.core.formatting import count_noun, format_bytes, format_duration, format_iso, format_time
from archiver.core.paths import start_and_number
from archiver.core.segmentation import CloseReason, State
from archiver.kafka.topic_reader import TopicReader

_NO_STATE = Checkpoint(State(""))


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of an acquisition."""

    event: FileFinished
    losses: tuple[RecordsLost, ...] = ()
    """The losses noticed while it was recorded."""
    retired: FileRetired | None = None
    """The event of its retirement, if it is retired."""


@dataclass(slots=True)
class ListedAcquisition:
    """An acquisition."""

    files: list[ListedFile]
    """Its files, in order."""
    ended: bool = True
    """Whether it has ended."""

    @property
    def time_ms(self) -> int:
        """The time of its first frame, ms since the epoch."""
        return self.files[0].event.first.time

    @property
    def until_ms(self) -> int:
        """The time of its last frame, ms since the epoch."""
        return self.files[-1].event.last.time


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


def list_files(config: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Run the command with its options (commands/files.py); return its exit code."""
    wanted = set(options.stream)
    events = TopicReader(config, options.group).events()
    selected = (e for e in events if not wanted or isinstance(e, Exception) or e.stream in wanted)
    catalog = FileCatalog.from_events(map(_without_state, selected))
    found = entries(catalog, options.since, options.until)
    if options.json:
        for shown in map(retired_as_json, _retired_of(found)) if options.retired else map(as_json, found):
            print_out(json.dumps(shown))
        for what in catalog.unreadable:
            print_out(json.dumps({"kind": "unreadable", "what": what}))
        return 0
    for what in catalog.unreadable:
        print_err(f"{options.parser.prog}: an event of {options.group} can't be understood, and isn't listed: {what}")
    if options.retired and (retired := _retired_of(found)):
        print_lines(retired_as_table(retired))
    elif found and not options.retired:
        print_lines(as_table(found))
    else:
        did = "no retired file" if options.retired else "finished no file"
        which = f" of {', '.join(sorted(wanted))}" if wanted else ""
        when = "" if options.since is None and options.until is None else " in that time"
        print_err(f"the group {options.group} has {did}{which}{when}")
    return 0


def _without_state(event: Event | CheckpointError) -> Event | CheckpointError:
    """Return the event without its checkpoint, which isn't listed: of very many files it takes much memory."""
    return replace(event, checkpoint=_NO_STATE) if isinstance(event, FileFinished) else event


# What is listed


def entries(catalog: FileCatalog, since_ms: int | None = None, until_ms: int | None = None) -> list[Listing]:
    """Return all that is to be listed, by time. Pure.

    since_ms, until_ms: ms since the epoch; only what overlaps the time between.
    """
    found: list[Listing] = []
    placed: set[int] = set()
    for stream, files in catalog.files.items():
        losses = [loss for loss in catalog.losses if loss.stream == stream]
        listed = _with_losses(sorted(files, key=lambda file: file.number), losses, catalog.retired)
        placed.update(map(id, _losses(listed)))
        found += _acquisitions(listed)
    for loss in catalog.losses:
        if id(loss) not in placed:
            found.append(ListedEvent(loss, loss.until if loss.since is None else loss.since, loss.until))
    for event in catalog.file_events().values():
        if not isinstance(event, FileFinished):
            within = _start_ms(event.path) + 999  # somewhere in that second, after its other files
            found.append(ListedEvent(event, within, within, catalog.retired.get(event.path)))
    return sorted(
        (
            entry
            for entry in found
            if (since_ms is None or entry.until_ms >= since_ms) and (until_ms is None or entry.time_ms <= until_ms)
        ),
        key=lambda entry: entry.time_ms,
    )


def _acquisitions(files: Iterable[ListedFile]) -> list[ListedAcquisition]:
    """Return the acquisitions of a stream's files, which are in order.

    Several may begin in the same second, with the same start and id.
    """
    found: list[ListedAcquisition] = []
    last: FileFinished | None = None
    for file in files:
        event = file.event
        if last and last.why is CloseReason.TIME and (last.start, last.id) == (event.start, event.id):
            found[-1].files.append(file)
        else:
            found.append(ListedAcquisition([file]))
        last = event
    if last:
        found[-1].ended = last.why is not CloseReason.TIME
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


def _retired_of(found: Iterable[Listing]) -> list[FileRetired]:
    """Return the retirements of what is listed, by time."""
    listed = (it for entry in found for it in (entry.files if isinstance(entry, ListedAcquisition) else [entry]))
    return sorted((it.retired for it in listed if it.retired), key=lambda event: (event.time, event.path))


def _losses(files: Iterable[ListedFile]) -> list[RecordsLost]:
    return [loss for file in files for loss in file.losses]


def _total(files: Iterable[ListedFile], field: str) -> int:
    return sum(getattr(file.event, field) for file in files)


def _start_ms(path: str) -> int:
    """Return the start in a file's path, ms since the epoch."""
    return start_and_number(path)[0] * 1000


# As JSON, with the names documented in --help


def as_json(entry: Listing) -> dict[str, Any]:
    """Return the JSON object of an entry."""
    if isinstance(entry, ListedEvent):
        event = entry.event
        if isinstance(event, RecordsLost):
            return {"kind": "loss", **_fields(event, "stream", "group"), **_loss(event)}
        salvaged = isinstance(event, FileSalvaged)
        return {
            "kind": "salvaged" if salvaged else "adopted",
            "start": format_iso(_start_ms(event.path)),
            **_fields(event, "stream", "group", "path", "frames", "bytes", "sha256", "host"),
            **_fields(event, *(["what"] if salvaged else ["who", "reason", "damage"])),
            "retired": _retired(entry.retired),
        }
    files, first, last = entry.files, entry.files[0].event, entry.files[-1].event
    lost = [loss.records for loss in _losses(files)]
    return {
        "kind": "acquisition",
        **_fields(first, "stream", "group", "id"),
        "start": format_iso(first.start * 1000),
        "first_frame": format_iso(entry.time_ms),
        "last_frame": format_iso(entry.until_ms),
        **{field: _total(files, field) for field in ("frames", "missing", "bytes")},
        "lost_records": None if None in lost else sum(records or 0 for records in lost),
        "over": entry.ended,
        "why": last.why,
        "files": [
            {
                "first_frame": format_iso(file.event.first.time),
                "last_frame": format_iso(file.event.last.time),
                **_fields(file.event, "path", "number", "frames", "missing", "bytes", "sha256", "why", "host"),
                "losses": [_loss(loss) for loss in file.losses],
                "retired": _retired(file.retired),
            }
            for file in files
        ],
    }


def retired_as_json(event: FileRetired) -> dict[str, Any]:
    """Return the JSON object of a retired file."""
    names = ("stream", "group", "path", "bytes", "sha256", "who", "reason", "host")
    return {"kind": "retired", "time": format_iso(event.time), **_fields(event, *names)}


def _retired(event: FileRetired | None) -> dict[str, Any] | None:
    return {"time": format_iso(event.time), **_fields(event, "who", "reason", "host")} if event else None


def _loss(loss: RecordsLost) -> dict[str, Any]:
    since = None if loss.since is None else format_iso(loss.since)
    named = _fields(loss, "records", "times", "what", "cause", "offset", "host")
    return {**named, "since": since, "until": format_iso(loss.until)}


def _fields(event: Event, *names: str) -> dict[str, Any]:
    return {name: getattr(event, name) for name in names}


# As a table


def retired_as_table(events: Sequence[FileRetired]) -> str:
    """Return a table of retired files, with a line of totals at the end."""
    rows = [(format_time(it.time), it.path, format_bytes(it.bytes), it.who, it.reason) for it in events]
    lines = table(("retired (UTC)", "file", " size", "by", "reason"), rows)
    return f"{lines}\n{count_noun(len(events), 'file')} retired, {format_bytes(sum(it.bytes for it in events))}"


_HEAD = ("start (UTC)", "stream", " length", " frames", " missing", " lost", " size", "closed", "file")


def as_table(found: Sequence[Listing]) -> str:
    """Return a table of entries, with a line of totals at the end."""
    rows = [row for entry in found for row in _rows(entry)]
    files = [file for entry in found if isinstance(entry, ListedAcquisition) for file in entry.files]
    alone = [entry for entry in found if isinstance(entry, ListedEvent)]
    losses = _losses(files) + [it.event for it in alone if isinstance(it.event, RecordsLost)]
    counted: list[FileEvent] = [file.event for file in files]
    counted += [it.event for it in alone if not isinstance(it.event, RecordsLost)]
    kinds = Counter(map(type, counted))
    totals = [count_noun(len(found) - len(alone), "acquisition"), count_noun(len(files), "file")]
    totals.append(format_bytes(sum(event.bytes for event in counted)))
    totals.append(count_noun(sum(event.frames for event in counted), "frame"))
    for count, what in (
        (kinds[FileSalvaged], "SALVAGED"),
        (kinds[FileAdopted], "adopted"),
        (len(_retired_of(found)), "retired"),
    ):
        if count:
            totals.append(f"{count_noun(count, 'file')} {what}")
    totals.append(f"{_total(files, 'missing'):,} missing")
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
    files = entry.files
    of_several = len(files) > 1
    if of_several:
        why = files[-1].event.why.shown if entry.ended else "continues"
        stream = files[0].event.stream
        rows.append((format_time(entry.time_ms), stream, *_figures(files), why, f"{len(files)} files"))
    for file in files:
        event = file.event
        begun = ("  " if of_several else "") + format_time(event.first.time)
        rows.append((begun, event.stream, *_figures([file]), event.why.shown, _shown(event.path, file.retired)))
        rows += [_lost_row("  ! ", loss) for loss in file.losses]
    return rows


def _figures(files: Sequence[ListedFile]) -> tuple[str, ...]:
    """Return successive files' length, frames, frames missing, records lost, and size."""
    missing, losses = _total(files, "missing"), _losses(files)
    return (
        format_duration(files[-1].event.last.time - files[0].event.first.time),
        f"{_total(files, 'frames'):,}",
        f"{missing:,}" if missing else "",
        _lost(losses) if losses else "",
        format_bytes(_total(files, "bytes")),
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
    begun = format_time(_start_ms(event.path))
    salvaged = isinstance(event, FileSalvaged)
    figures = ("", f"{event.frames:,}", "", "", format_bytes(event.bytes), "SALVAGED" if salvaged else "adopted")
    rows: list[tuple[str, ...]] = [(begun, event.stream, *figures, _shown(event.path, retired))]
    if isinstance(event, FileSalvaged):
        rows.append(("  !", event.stream, *[""] * 6, event.what))
    return rows


def _shown(path: str, retired: FileRetired | None) -> str:
    return f"{path} (retired)" if retired else path
