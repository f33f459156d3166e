"""How `archiver files` shows what was recorded: entries by time, as JSON or as a table."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any

from archiver.catalog.as_json import acquisition_json, loss_json, retired_json
from archiver.catalog.recorded import Acquisition, Loss, Recorded, RecordedFile, Retirement
from archiver.catalog.rows import ADOPTED, SALVAGED
from archiver.console.tables import Part, Table
from archiver.core.formatting import count_noun, format_bytes, format_iso, format_time
from archiver.core.segmentation import CloseReason
from g3stream.host.durations import format_duration

Listing = Acquisition | RecordedFile | Loss
"""An acquisition; or a salvaged or adopted file, or a loss, that belongs to none."""


def entries(recorded: Recorded) -> list[Listing]:
    """Return all that is to be listed, by time. Pure."""
    found: list[Listing] = [*recorded.acquisitions, *recorded.losses, *recorded.others]
    return sorted(found, key=begin_ms)


def begin_ms(entry: Listing) -> int:
    """Return where an entry stands among others, ms since the epoch."""
    match entry:
        case Acquisition():
            return entry.first_ms
        case RecordedFile():
            return entry.end_ms  # somewhere in that second, after its other files
        case Loss():
            return entry.until_ms if entry.since_ms is None else entry.since_ms


def paths_of(found: Iterable[Listing]) -> Iterator[str]:
    """Yield the paths of the files of what is listed."""
    return (file.path for entry in found for file in _files(entry))


def placed(found: Iterable[Listing], data_dir: Path | None) -> list[Listing]:
    """Return the entries with the absolute paths of their files, if it is known where the archive is."""
    if data_dir is None:
        return list(found)
    root = str(data_dir).rstrip("/")

    def file_there(file: RecordedFile) -> RecordedFile:
        path = f"{root}/{file.path}"
        return replace(file, path=path, retired=file.retired and replace(file.retired, path=path))

    return [
        Acquisition(tuple(map(file_there, entry.files)))
        if isinstance(entry, Acquisition)
        else (file_there(entry) if isinstance(entry, RecordedFile) else entry)
        for entry in found
    ]


def retired_of(found: Iterable[Listing]) -> list[Retirement]:
    """Return the retirements of what is listed, by time."""
    retired = (file.retired for entry in found for file in _files(entry) if file.retired)
    return sorted(retired, key=lambda it: (it.time_ms, it.path))


def _files(entry: Listing) -> tuple[RecordedFile, ...]:
    if isinstance(entry, Acquisition):
        return entry.files
    return (entry,) if isinstance(entry, RecordedFile) else ()


# As JSON, with the names documented in --help


def as_json(entry: Listing, group: str) -> dict[str, Any]:
    """Return the JSON object of an entry."""
    whose = {"stream": entry.stream, "group": group}
    match entry:
        case Loss():
            return {"kind": "loss", **whose, **loss_json(entry)}
        case RecordedFile():
            return {
                "kind": entry.kind,
                "start": format_iso(entry.start_s * 1000),
                **whose,
                **_fields(entry, "path", "frames", "bytes", "sha256", "host"),
                **_fields(entry, *(["what"] if entry.kind == SALVAGED else ["who", "reason", "damage"])),
                "retired": retired_json(entry.retired),
            }
    return {
        "kind": "acquisition",
        **whose,
        **acquisition_json(entry),
        "files": [
            {
                "first_frame": format_iso(file.begin_ms),
                "last_frame": format_iso(file.last_ms),
                **_fields(file, "path", "number", "frames", "missing", "bytes", "sha256"),
                "why": file.closed,
                "host": file.host,
                "losses": [loss_json(loss) for loss in file.losses],
                "retired": retired_json(file.retired),
            }
            for file in entry.files
        ],
    }


def retired_as_json(retired: Retirement, group: str) -> dict[str, Any]:
    """Return the JSON object of a retired file."""
    whose = {"stream": retired.stream, "group": group}
    named = _fields(retired, "path", "bytes", "sha256", "who", "reason", "host")
    return {"kind": "retired", "time": format_iso(retired.time_ms), **whose, **named}


def _fields(shown: RecordedFile | Retirement, *names: str) -> dict[str, Any]:
    return {name: getattr(shown, name) for name in names}


# As a table


def retired_as_table(retired: Sequence[Retirement], zone: tzinfo | None = UTC) -> list[Part]:
    """Return a table of retired files, with a line of totals at the end."""
    rows = [(format_time(it.time_ms, zone), it.path, format_bytes(it.bytes), it.who, it.reason) for it in retired]
    totals = f"{count_noun(len(retired), 'file')} retired, {format_bytes(sum(it.bytes for it in retired))}"
    return [Table((_headed("retired", zone), "file", " size", "by", "reason"), rows, frozenset({1, 4})), totals]


_HEAD = ("stream", " length", " frames", " missing", " lost", " size", "closed", "file")


def as_table(found: Sequence[Listing], zone: tzinfo | None = UTC) -> list[Part]:
    """Return a table of entries, with a line of totals at the end."""
    rows = [row for entry in found for row in _rows(entry, zone)]
    acquisitions = [entry for entry in found if isinstance(entry, Acquisition)]
    files = [file for entry in found for file in _files(entry)]
    finished = sum(len(it.files) for it in acquisitions)
    losses = _losses(files) + [entry for entry in found if isinstance(entry, Loss)]
    kinds = Counter(file.kind for file in files)
    special = (kinds[SALVAGED], "SALVAGED"), (kinds[ADOPTED], "adopted"), (len(retired_of(found)), "retired")
    times = count_noun(sum(loss.times for loss in losses), "time")
    totals = [
        count_noun(len(acquisitions), "acquisition"),
        count_noun(finished, "file"),
        format_bytes(sum(file.bytes for file in files)),
        count_noun(sum(file.frames for file in files), "frame"),
        *(f"{count_noun(count, 'file')} {what}" for count, what in special if count),
        f"{sum(file.missing for file in files):,} missing",
        f"LOST: {_lost(losses)} records, {times}" if losses else "nothing lost",
    ]
    head = (_headed("start", zone), *_HEAD)
    return [Table(head, rows, below=frozenset({8}), omitted=frozenset({1})), ", ".join(totals)]


def _headed(what: str, zone: tzinfo | None) -> str:
    return f"{what} (UTC)" if zone is UTC else f"{what} (local)"


def _rows(entry: Listing, zone: tzinfo | None) -> list[tuple[str, ...]]:
    match entry:
        case Loss():
            return [_lost_row("! ", entry, zone)]
        case RecordedFile():
            return _file_rows(entry, zone)
    rows: list[tuple[str, ...]] = []
    files = entry.files
    of_several = len(files) > 1
    if of_several:
        why = _shown_reason(entry.closed) if entry.over else "continues"
        rows.append((format_time(entry.first_ms, zone), entry.stream, *_figures(files), why, f"{len(files)} files"))
    for file in files:
        begun = ("  " if of_several else "") + format_time(file.begin_ms, zone)
        rows.append((begun, file.stream, *_figures([file]), _shown_reason(file.closed or ""), _shown(file)))
        rows += [_lost_row("  ! ", loss, zone) for loss in file.losses]
    return rows


def _figures(files: Sequence[RecordedFile]) -> tuple[str, ...]:
    """Return successive files' length, frames, frames missing, records lost, and size."""
    missing, losses = sum(file.missing for file in files), _losses(files)
    return (
        format_duration((files[-1].last_ms or 0) - (files[0].first_ms or 0)),
        f"{sum(file.frames for file in files):,}",
        f"{missing:,}" if missing else "",
        _lost(losses) if losses else "",
        format_bytes(sum(file.bytes for file in files)),
    )


def _losses(files: Iterable[RecordedFile]) -> list[Loss]:
    return [loss for file in files for loss in file.losses]


def _lost(losses: Sequence[Loss]) -> str:
    """Return the number of lost records: 5; ? if it is unknown; 5+? if it is unknown for some losses."""
    known = sum(loss.records or 0 for loss in losses)
    unknown = any(loss.records is None for loss in losses)
    return f"{known:,}" * bool(known or not unknown) + "+" * bool(known and unknown) + "?" * unknown


def _lost_row(mark: str, loss: Loss, zone: tzinfo | None) -> tuple[str, ...]:
    begun = mark + format_time(loss.until_ms if loss.since_ms is None else loss.since_ms, zone)
    length = "" if loss.since_ms is None else format_duration(loss.until_ms - loss.since_ms)
    return begun, loss.stream, length, "", "", _lost([loss]), "", "LOST", loss.what


def _file_rows(file: RecordedFile, zone: tzinfo | None) -> list[tuple[str, ...]]:
    """Return the rows of a salvaged or adopted file."""
    begun = format_time(file.start_s * 1000, zone)
    salvaged = file.kind == SALVAGED
    figures = ("", f"{file.frames:,}", "", "", format_bytes(file.bytes), "SALVAGED" if salvaged else "adopted")
    rows: list[tuple[str, ...]] = [(begun, file.stream, *figures, _shown(file))]
    if salvaged:
        rows.append(("  !", file.stream, *[""] * 6, file.what or ""))
    return rows


def _shown(file: RecordedFile) -> str:
    return f"{file.path} (retired)" if file.retired else file.path


def _shown_reason(closed: str) -> str:
    return CloseReason(closed).shown if closed else ""
