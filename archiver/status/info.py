"""The command `archiver info`: an archive on one screen, from the events, the topics and the last reports."""

import argparse
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, tzinfo
from typing import Any

import msgspec

from archiver.console.runner import print_err, print_out, with_kafka
from archiver.console.tables import Line, Part, print_parts
from archiver.core.catalog import FileCatalog, FileEvent
from archiver.core.events import FileFinished
from archiver.core.formatting import count_noun, format_bytes, format_iso, format_time
from archiver.core.paths import start_and_number
from archiver.kafka.topic_reader import TopicReader
from archiver.kafka.topic_tail import open_tails, repeat_if_deleted
from archiver.status.collect import EvidenceCollector
from archiver.status.verdict import judge
from g3stream.contract.program_status import VerifyStatus
from g3stream.host.durations import format_duration
from g3stream.host.environment import now_ms
from g3stream.host.printable import printable

_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_RATE_DAYS = 7


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of a data directory, as an archiver last reported it."""

    host: str
    data_dir: str
    free_bytes: int


@dataclass(frozen=True, slots=True)
class ArchiveInfo:
    """What is known of an archive. Times are in ms since the epoch."""

    group: str
    problems: int
    """What `archiver status` finds wrong."""
    first: FileEvent | None
    last: FileEvent | None
    streams: int
    files: int
    """Without those that were retired."""
    bytes: int
    days: int
    """Dates (UTC) on which a file begins."""
    salvaged: int
    adopted: int
    retired: int
    retired_bytes: int
    losses: int
    repairable_since: Mapping[str, int]
    """By stream with files: the time of its topic's first record; files from then on can be rebuilt."""
    bytes_per_day: float
    """Mean of the last 7 days, or since the first file if that is later, but of an hour at least."""
    disks: tuple[Disk, ...]
    verified: VerifyStatus | None


@with_kafka
def show_info(config: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Run the command with its options (commands/info.py); return its exit code."""
    reader, now = TopicReader(config, options.group), now_ms()
    catalog = FileCatalog.from_events(reader.events())
    with EvidenceCollector(config, options.group) as collector:
        evidence = collector.collect()
    problems = len(judge(evidence, now).problems)
    since = repeat_if_deleted(lambda: _repairable_since(reader, catalog.files))
    disks = {
        (it.host, it.data_dir): Disk(it.host, it.data_dir, it.disk_free_bytes)
        for it in evidence.archivers.values()
        if it.disk_free_bytes is not None
    }
    found = summarize(options.group, catalog, problems, since, [*disks.values()], evidence.verified, now)
    if options.json:
        print_out(json.dumps(as_json(found)))
    elif found.last is None and not found.disks:
        print_err(f"the group {options.group} has finished no file; is --group right?")
    else:
        print_parts(as_text(found, now, options.zone))
    return int(bool(problems))


def _repairable_since(reader: TopicReader, recorded: Collection[str]) -> dict[str, int]:
    """Return the time of the first record of each stream with files, ms since the epoch. Raises KafkaException."""
    with open_tails(reader) as tails:
        streams = [stream for stream in tails.streams() if stream in recorded]
        firsts = {stream: first for stream, (first, end) in tails.offset_ranges(streams).items() if first < end}
        found = tails.read({stream: (first, first + 1) for stream, first in firsts.items()})
    # Without a record at that offset, as after a transaction, it is the next one.
    times = {
        stream: found[stream][0].time_ms if found[stream] else reader.record_time_ms(stream, first)
        for stream, first in firsts.items()
    }
    return {stream: time_ms for stream, time_ms in times.items() if time_ms is not None}


def summarize(
    group: str,
    catalog: FileCatalog,
    problems: int,
    repairable_since: Mapping[str, int],
    disks: Sequence[Disk],
    verified: VerifyStatus | None,
    now: int,
) -> ArchiveInfo:
    """Summarize an archive's events. Pure. now: ms since the epoch."""
    events = catalog.file_events()
    kept = sorted((it for path, it in events.items() if path not in catalog.retired), key=begin_ms)
    recent = [it for it in events.values() if now - begin_ms(it) < _RATE_DAYS * _DAY_MS]
    age_ms = max((now - begin_ms(it) for it in recent), default=0)
    return ArchiveInfo(
        group=group,
        problems=problems,
        first=kept[0] if kept else None,
        last=kept[-1] if kept else None,
        streams=len({it.stream for it in kept}),
        files=len(kept),
        bytes=sum(it.bytes for it in kept),
        days=len({begin_ms(it) // _DAY_MS for it in kept}),
        salvaged=len(catalog.salvaged),
        adopted=len(catalog.adopted),
        retired=len(catalog.retired),
        retired_bytes=sum(events[path].bytes for path in catalog.retired),
        losses=len(catalog.losses),
        repairable_since=repairable_since,
        bytes_per_day=sum(it.bytes for it in recent) * _DAY_MS / max(age_ms, _HOUR_MS),
        disks=tuple(sorted(disks, key=lambda it: (it.host, it.data_dir))),
        verified=verified,
    )


def begin_ms(event: FileEvent) -> int:
    """Return when a file's first frame was received, ms since the epoch; without that, the start in its name."""
    return event.first.time if isinstance(event, FileFinished) else start_and_number(event.path)[0] * 1000


def as_text(info: ArchiveInfo, now: int, zone: tzinfo | None = UTC) -> list[Part]:
    """Return the screen: a line for each fact. now: ms since the epoch. zone: None for the host's."""
    state = f"{count_noun(info.problems, 'problem')}, see archiver status" if info.problems else "all is well"
    local = "" if zone is UTC else " (local times)"
    head = Line(f"archive of the group {info.group}: {state}{local}", "bold red" if info.problems else "bold green")
    return [head, *(printable(f"  {name:<13} {fact}") for name, fact in _lines(info, now, zone))]


def _lines(info: ArchiveInfo, now: int, zone: tzinfo | None) -> Iterator[tuple[str, str]]:
    for disk in info.disks:
        left = f"{format_bytes(disk.free_bytes)} free"
        if info.bytes_per_day:
            days = disk.free_bytes / info.bytes_per_day
            left += f", {days:,.0f} days at {format_bytes(round(info.bytes_per_day))} a day"
        yield "directory", f"{disk.host}:{disk.data_dir}"
        yield "disk", left
    if info.first and info.last:
        yield "first file", f"{format_time(begin_ms(info.first), zone)}  {info.first.path}"
        yield "last file", f"{format_time(begin_ms(info.last), zone)}  {info.last.path}"
    text = f"{count_noun(info.files, 'file')}, {format_bytes(info.bytes)}"
    yield "recorded", f"{text}, of {count_noun(info.streams, 'stream')}, on {count_noun(info.days, 'day')}"
    parts = [f"{count:,} {what}" for count, what in ((info.salvaged, "salvaged"), (info.adopted, "adopted")) if count]
    if parts:
        yield "of these", ", ".join(parts)
    if info.retired:
        yield "retired", f"{count_noun(info.retired, 'file')}, {format_bytes(info.retired_bytes)}"
    yield "lost", f"records, {info.losses:,} times: archiver files" if info.losses else "nothing"
    yield from (("repairable", line) for line in _reach(info.repairable_since, zone))
    if it := info.verified:
        found = ", ".join(f"{n:,} {what}" for n, what in ((it.wrong, "wrong"), (it.unknown, "unknown")) if n)
        topics = ", compared with the topics" if it.against_topic else ""
        ago = format_duration(max(0, now - it.time_ms))
        yield "last verify", f"{format_time(it.time_ms, zone)} ({ago} ago) on {it.host}{topics}"
        yield "", f"{count_noun(it.files, 'file')}, {format_bytes(it.bytes)}: {found or 'nothing is wrong'}"
    else:
        yield "last verify", "never, or it could not be published"


def _reach(since: Mapping[str, int], zone: tzinfo | None) -> Iterator[str]:
    """Yield since when files can be rebuilt from the topics: of all streams, and of those that reach back least."""
    if not since:
        yield "nothing: no topic still has records of a finished file's stream"
        return
    latest = sorted(since.items(), key=lambda it: -it[1])
    yield f"files since {format_time(latest[0][1], zone)}"
    if len(latest) > 1 and latest[-1][1] < latest[0][1]:
        yield f"the earliest: {latest[-1][0]}, since {format_time(latest[-1][1], zone)}"


def as_json(info: ArchiveInfo) -> dict[str, Any]:
    """Return the JSON object, with the names documented in --help."""
    return {
        "group": info.group,
        "ok": not info.problems,
        "first_file": info.first.path if info.first else None,
        "first_time": format_iso(begin_ms(info.first)) if info.first else None,
        "last_file": info.last.path if info.last else None,
        "last_time": format_iso(begin_ms(info.last)) if info.last else None,
        "streams": info.streams,
        "files": info.files,
        "bytes": info.bytes,
        "days": info.days,
        "salvaged": info.salvaged,
        "adopted": info.adopted,
        "retired": info.retired,
        "retired_bytes": info.retired_bytes,
        "losses": info.losses,
        "repairable_since": {stream: format_iso(at) for stream, at in sorted(info.repairable_since.items())},
        "bytes_per_day": round(info.bytes_per_day),
        "directories": [asdict(disk) for disk in info.disks],
        "verified": _verified_json(info.verified) if info.verified else None,
    }


def _verified_json(verified: VerifyStatus) -> dict[str, Any]:
    fields = msgspec.structs.asdict(verified)
    del fields["group"]
    return {"time": format_iso(fields.pop("time_ms")), **fields}
