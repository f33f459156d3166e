"""The checks of an archive: the files as they were read, compared with the archive's events.

Pure: tree_scan.py reads the files, inventory.py asks Kafka. Each fault is reported once, where it can be repaired: a
damaged file isn't reported again for its line in SHA256SUMS, which is correct, or for the frames that it lacks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType

from archiver.core.catalog import FileCatalog, FileEvent
from archiver.core.events import FileAdopted, FileFinished, RecordsLost
from archiver.core.paths import SUMS, NameFormat, file_path
from archiver.core.segmentation import NO_FRAME_NUM, Settings, State, missing_between
from archiver.core.used_names import find, with_session


class Fault(StrEnum):
    """The kinds of faults; the values are shown, and in the JSON.

    The first eight concern a file, the next three a line of SHA256SUMS.
    """

    MISSING = "missing"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    SWAPPED = "swapped"
    RENAMED = "renamed"
    DUPLICATE = "doubled"
    UNKNOWN_FILE = "foreign"
    UNREADABLE = "unreadable"
    NO_CHECKSUM = "no line"
    WRONG_CHECKSUM = "wrong line"
    ORPHAN_CHECKSUM = "line only"
    STALE = "stale partial"
    DUPLICATE_FRAMES = "frames twice"
    UNREPORTED_GAP = "untold gap"
    EVENT = "event"
    NOT_IN_FILE = "not in a file"
    DIFFERS_FROM_TOPIC = "unlike topic"


REBUILDABLE = frozenset(
    {Fault.MISSING, Fault.TRUNCATED, Fault.DAMAGED, Fault.SWAPPED, Fault.RENAMED, Fault.UNREADABLE}
)
"""Repaired by rebuilding the file, if there is an event of it."""
CHECKSUM_FAULTS = frozenset({Fault.NO_CHECKSUM, Fault.WRONG_CHECKSUM})
"""Repaired by writing the line."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault that was found."""

    fault: Fault
    stream: str
    path: str
    """Below the data directory; empty if it concerns no file."""
    text: str
    """What is wrong, in one line."""
    event: FileFinished | None = None
    """Of the file that should be there."""
    other: str | None = None
    """The other path of the same bytes, of a file that is renamed, a copy, or swapped."""


def repairable_count(findings: Iterable[Finding]) -> int:
    """Return how many of these `archiver repair` can repair, if the topics still have the records."""
    return sum(it.fault in CHECKSUM_FAULTS or (it.event is not None and it.fault in REBUILDABLE) for it in findings)


@dataclass(frozen=True, slots=True)
class SessionRun:
    """Successive frames of one session whose frame_num goes up by one."""

    session: int
    first: int
    """Of the frame_num."""
    last: int
    """Of the frame_num."""
    scans: bool
    """Whether they are of the types that no sender sends twice (Scan, Timepoint)."""


@dataclass(frozen=True, slots=True)
class FileContents:
    """The contents of a file."""

    bytes: int
    sha256: str
    frames: int
    """Whole frames before the first damage."""
    runs: tuple[SessionRun, ...] = ()
    """The runs of its frames without the carry, in order."""
    broken: str | None = None
    """Where and why the bytes are no frames any more; None if they are frames to the end."""
    cut: bool = False
    """Whether it ends inside a frame."""


@dataclass(frozen=True, slots=True)
class InspectedFile:
    """A path that ends with .g3, after it was read."""

    stream: str
    path: str
    contents: FileContents | None
    """None if it could not be read, or was not read; then `error` says why."""
    error: str = ""
    is_unknown: bool = False
    """Whether it was not read because it can't be a recorded file."""


def check_files(
    events: Mapping[str, FileEvent],
    seen: Mapping[str, InspectedFile],
    absent: Mapping[str, str],
    all_events: Mapping[str, FileEvent],
) -> list[Finding]:
    """Check the files themselves.

    events: by path, of the files that should be there.
    seen: by path, the files that are there.
    absent: by path, why a file with an event is missing.
    all_events: by path, also of the files that aren't selected.
    """
    by_digest: dict[str, list[str]] = {}
    for path, one in seen.items():
        if one.contents:
            by_digest.setdefault(one.contents.sha256, []).append(path)
    path_by_digest = {event.sha256: path for path, event in all_events.items()}
    found = []
    renamed = set()
    for path, why in absent.items():
        event = events[path]
        others = [
            other for other in by_digest.get(event.sha256, []) if other not in all_events and other not in renamed
        ]
        if others:
            renamed.add(others[0])
            text = f"it isn't there; its bytes are in {others[0]}"
            found.append(Finding(Fault.RENAMED, event.stream, path, text, _as_finished(event), others[0]))
        else:
            found.append(Finding(Fault.MISSING, event.stream, path, why, _as_finished(event)))
    for path, one in seen.items():
        own = events.get(path)
        if one.is_unknown:
            text = f"no event describes it; {one.error}"
            found.append(Finding(Fault.UNKNOWN_FILE, one.stream, path, text))
        elif one.contents is None:
            found.append(Finding(Fault.UNREADABLE, one.stream, path, one.error, _as_finished(own)))
        elif own:
            found += _check_listed(own, one.contents, path_by_digest)
        elif path not in renamed:
            found.append(_check_unlisted(one, one.contents, path_by_digest, by_digest))
    return found


def check_checksums(
    events: Mapping[str, FileEvent],
    here: Iterable[str],
    sums: Mapping[str, Mapping[str, str]],
    orphan_lines: Iterable[tuple[str, str]],
    files: Mapping[str, str] = MappingProxyType({}),
) -> list[Finding]:
    """Check the lines of SHA256SUMS.

    here: paths of the recorded files that are there.
    sums: by directory, hex digests by file name.
    orphan_lines: stream and path of the lines without a file and without an event.
    files: by directory, the path of its sums, if it isn't SHA256SUMS.
    """
    found = []
    for path in here:
        event = events[path]
        parent, _, name = path.rpartition("/")
        if parent not in sums:
            continue  # unreadable, which is a finding of its own
        line, file = sums[parent].get(name), files.get(parent, SUMS)
        if line is None:
            text = f"it has no line in {file}"
            found.append(Finding(Fault.NO_CHECKSUM, event.stream, path, text, _as_finished(event)))
        elif line != event.sha256:
            text = f"its line in {file} is {line[:16]}…; it should be {event.sha256[:16]}…"
            found.append(Finding(Fault.WRONG_CHECKSUM, event.stream, path, text, _as_finished(event)))
    text = "has a line for it, but there is no such file, and no event of one"
    return found + [
        Finding(Fault.ORPHAN_CHECKSUM, stream, path, f"{files.get(path.rpartition('/')[0], SUMS)} {text}")
        for stream, path in orphan_lines
    ]


def check_stream(
    events: Sequence[FileFinished],
    losses: Sequence[RecordsLost],
    selected: Mapping[str, FileEvent],
    contents: Mapping[str, FileContents],
) -> list[Finding]:
    """Check the order of a stream's files and frames.

    events: all of the stream, in the order of the topic.
    selected: by path, the events to check.
    contents: by path, of the files that match their events.
    """
    found = []
    for before, event in pairwise([None, *events]):
        assert event
        if event.path not in selected:
            continue
        if wrong := _check_event(before, event):
            found.append(Finding(Fault.EVENT, event.stream, event.path, wrong, event))
        if event.path in contents:
            state = before.checkpoint.state if before and _follows(before, event, losses) else None
            missing = _count_missing(contents[event.path].runs, state or State(event.stream), event.settings)
            if missing > event.missing:
                text = f"{missing} frames are missing by frame_num; its event says {event.missing}"
                found.append(Finding(Fault.UNREPORTED_GAP, event.stream, event.path, text, event))
    return found + _records_twice(events, selected) + _frames_twice(events, contents)


def check_catalog(catalog: FileCatalog) -> list[Finding]:
    """Return the faults of the events themselves: those that can't be read."""
    return [Finding(Fault.EVENT, "", "", why) for why in catalog.unreadable]


def stale_partial(stream: str, path: str) -> Finding:
    """Return the fault of a partial that no archiver holds, and that none would continue."""
    return Finding(Fault.STALE, stream, path, "no archiver holds it, and none would continue it")


def _check_listed(event: FileEvent, contents: FileContents, path_by_digest: Mapping[str, str]) -> list[Finding]:
    finished = _as_finished(event)
    head = len(event.carry) if isinstance(event, FileFinished) else 0
    frames = event.frames + head
    if contents.sha256 == event.sha256:
        text = ""
        known_damage = isinstance(event, FileAdopted) and event.damage
        if contents.broken and not known_damage:
            text = f"its bytes match its event, but {contents.broken}"
        elif (contents.frames, contents.bytes) != (frames, event.bytes):
            text = (
                f"it has {contents.frames} frames, {contents.bytes} bytes; "
                f"its event says {frames} frames, {event.bytes} bytes"
            )
        return [Finding(Fault.DAMAGED, event.stream, event.path, text, finished)] if text else []
    other = path_by_digest.get(contents.sha256)
    size = f"{contents.bytes} bytes" + ("" if contents.bytes == event.bytes else f" of {event.bytes}")
    if other:
        fault, text = Fault.SWAPPED, f"its bytes are those of {other}"
    elif contents.broken:
        fault = Fault.TRUNCATED if contents.cut and contents.bytes < event.bytes else Fault.DAMAGED
        text = f"{size}; {contents.broken}"
    else:
        fault, text = (
            Fault.DAMAGED,
            f"{size}; {contents.frames} whole frames of {frames}, but its bytes don't match its event",
        )
    return [Finding(fault, event.stream, event.path, text, finished, other)]


def _check_unlisted(
    one: InspectedFile,
    contents: FileContents,
    path_by_digest: Mapping[str, str],
    by_digest: Mapping[str, Sequence[str]],
) -> Finding:
    same = path_by_digest.get(contents.sha256) or min(by_digest[contents.sha256])
    if same != one.path:
        return Finding(
            Fault.DUPLICATE, one.stream, one.path, f"no event describes it; it is a copy of {same}", other=same
        )
    what = contents.broken or f"{contents.frames} whole frames"
    return Finding(Fault.UNKNOWN_FILE, one.stream, one.path, f"no event describes it; {contents.bytes} bytes, {what}")


def _check_event(before: FileFinished | None, event: FileFinished) -> str:
    """Return what is wrong with an event, by itself and after the one before; empty if nothing."""
    if event.path != file_path(event.start, event.id, event.suffix, event.settings.name_format):
        return f"its event says start {event.start}, id {event.id} and suffix {event.suffix}, which isn't this path"
    if before and event.number != before.number + 1:
        return (
            f"it is file number {event.number}, but the event before it is of number {before.number}, {before.path}"
        )
    return ""


def _follows(before: FileFinished, event: FileFinished, losses: Sequence[RecordsLost]) -> bool:
    """Whether the state after one file is the state before the next: no records were lost between them."""
    return (
        event.number == before.number + 1
        and before.offset <= event.first.offset
        and not any(
            before.offset <= loss.offset and (loss.first or loss).offset <= event.first.offset for loss in losses
        )
    )


def _count_missing(runs: Sequence[SessionRun], before: State, settings: Settings) -> int:
    """Count the frames that are missing before and between these runs, as segmentation does. before: the state."""
    by_session = settings.name_format is NameFormat.SESSION
    missing, session, num, names = 0, before.session, before.num, before.names
    for run in runs:
        if not by_session and session is not None and run.session < session:
            continue
        if run.session != session:
            names = with_session(names, session, num) if by_session else names
            known = find(names, run.session) if by_session else None
            session, num = run.session, NO_FRAME_NUM if known is None or known.num is None else known.num
        missing += missing_between(num, run.first)
        num = max(num, run.last)
    return missing


def _records_twice(events: Sequence[FileFinished], selected: Mapping[str, FileEvent]) -> list[Finding]:
    spans = sorted(
        ((e.first.epoch, e.first.seq, e.last.seq, e) for e in events if e.first.epoch == e.last.epoch),
        key=lambda span: span[:3],
    )
    found = []
    for (epoch, _, last, one), (other_epoch, first, _, other) in pairwise(spans):
        if epoch == other_epoch and first <= last and (one.path in selected or other.path in selected):
            text = f"the records {epoch}:{first} to {epoch}:{min(last, other.last.seq)} are in {one.path} too"
            found.append(Finding(Fault.DUPLICATE_FRAMES, other.stream, other.path, text, other, one.path))
    return found


def _frames_twice(events: Sequence[FileFinished], contents: Mapping[str, FileContents]) -> list[Finding]:
    spans = sorted(
        (
            (run.session, run.first, run.last, event)
            for event in events
            if event.path in contents
            for run in contents[event.path].runs
            if run.scans
        ),
        key=lambda span: span[:3],
    )
    twice: dict[tuple[str, str], tuple[FileFinished, str, int]] = {}
    furthest: tuple[int, int, FileFinished] | None = None
    for session, first, last, event in spans:
        if furthest and furthest[0] == session and first <= furthest[1] and event is not furthest[2]:
            one, other = sorted((furthest[2], event), key=lambda e: e.number)
            until = min(last, furthest[1])
            text = f"frames of session {session}, frame_num {first} to {until}, are in {one.path} too"
            key = (one.path, other.path)
            _, text, count = twice.get(key, (other, text, 0))
            twice[key] = other, text, count + until - first + 1
        if furthest is None or furthest[0] != session or last >= furthest[1]:
            furthest = session, last, event
    return [
        Finding(Fault.DUPLICATE_FRAMES, event.stream, event.path, f"{text}; {count} frames in all", event, one)
        for (one, _), (event, text, count) in twice.items()
    ]


def _as_finished(event: FileEvent | None) -> FileFinished | None:
    return event if isinstance(event, FileFinished) else None
