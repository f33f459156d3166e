"""The checks of an archive: the files as they were read, compared with the archive's events.

Pure: tree_scan.py reads the files, inventory.py asks Kafka. Each fault is reported once, where it can be repaired: a
damaged file isn't reported again for its line in SHA256SUMS, which is correct, or for the frames that it lacks.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from archiver.core.catalog import FileEvent, carry_count
from archiver.core.events import FileAdopted, FileFinished, RecordsLost
from archiver.core.paths import NameFormat, file_path
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


_REBUILDABLE = frozenset(
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
    event: FileEvent | None = None
    """Of the file that should be there."""
    other: str | None = None
    """The other path of the same bytes, of a file that is renamed, a copy, or swapped."""

    @property
    def is_rebuildable(self) -> bool:
        """Whether `archiver repair` can rebuild the file, if the topic still has its records."""
        return self.fault in _REBUILDABLE and isinstance(self.event, FileFinished)


def fault_of(event: FileEvent, fault: Fault, text: str, other: str | None = None) -> Finding:
    """Return a fault of a recorded file."""
    return Finding(fault, event.stream, event.path, text, event, other)


@dataclass(slots=True)
class Counts:
    """What was checked. The names are in the JSON."""

    streams: int = 0
    files: int = 0
    """Read, and described by an event; with those salvaged or adopted."""
    bytes: int = 0
    """Read."""
    frames: int = 0
    """In files that match their events."""
    salvaged: int = 0
    adopted: int = 0
    retired: int = 0
    """Files that aren't there, as they were deleted on purpose."""
    recording: int = 0
    """Files that are being recorded or finished."""
    never_received: int = 0
    """Frames, as reported by the events."""
    records_lost: int = 0
    """As reported by the events."""
    same: int = 0
    """Frames of the topics that are identical in a file."""
    unrecorded: int = 0
    """Frames of the topics after all that is committed."""
    explained: int = 0
    """Frames of the topics that are lost, and reported by an event."""
    sent_again: int = 0
    """Frames of the topics that a sender sent again, and that are left out of the files (names by session)."""
    times_replaced: int = 0
    """Records with Kafka's time in place of that of their receipt (LogAppendTime)."""


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
    """None if it could not be read; then `error` says why."""
    error: str = ""


def check_files(
    events: Mapping[str, FileEvent],
    seen: Mapping[str, InspectedFile],
    absent: Mapping[str, str],
    all_events: Mapping[str, FileEvent],
) -> list[Finding]:
    """Check the files themselves.

    events: by path, of the files that should be there.
    seen: by path, the files that were read.
    absent: by path, why a file with an event is missing.
    all_events: by path, also of the files that aren't selected.
    """
    by_digest: dict[str, list[str]] = defaultdict(list)
    for path, one in seen.items():
        if one.contents:
            by_digest[one.contents.sha256].append(path)
    path_by_digest = {event.sha256: path for path, event in all_events.items()}
    found = []
    renamed = set()
    for path, why in absent.items():
        event = events[path]
        unlisted = (it for it in by_digest[event.sha256] if it not in all_events and it not in renamed)
        if other := next(unlisted, None):
            renamed.add(other)
            found.append(fault_of(event, Fault.RENAMED, f"it isn't there; its bytes are in {other}", other))
        else:
            found.append(fault_of(event, Fault.MISSING, why))
    for path, one in seen.items():
        own = events.get(path)
        if one.contents is None:
            found.append(Finding(Fault.UNREADABLE, one.stream, path, one.error, own))
        elif own:
            found += _check_listed(own, one.contents, path_by_digest)
        elif path not in renamed:
            same = path_by_digest.get(one.contents.sha256) or min(by_digest[one.contents.sha256])
            found.append(_check_unlisted(one, one.contents, same))
    return found


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
            found.append(fault_of(event, Fault.EVENT, wrong))
        if event.path in contents:
            state = before.checkpoint.state if before and _follows(before, event, losses) else None
            missing = _count_missing(contents[event.path].runs, state or State(event.stream), event.settings)
            if missing > event.missing:
                text = f"{missing} frames are missing by frame_num; its event says {event.missing}"
                found.append(fault_of(event, Fault.UNREPORTED_GAP, text))
    return found + _records_twice(events, selected) + _frames_twice(events, contents)


def _check_listed(event: FileEvent, contents: FileContents, path_by_digest: Mapping[str, str]) -> Iterator[Finding]:
    frames = event.frames + carry_count(event)
    if contents.sha256 == event.sha256:
        known_damage = isinstance(event, FileAdopted) and event.damage
        if contents.broken and not known_damage:
            yield fault_of(event, Fault.DAMAGED, f"its bytes match its event, but {contents.broken}")
        elif (contents.frames, contents.bytes) != (frames, event.bytes):
            has = f"it has {contents.frames} frames, {contents.bytes} bytes"
            text = f"{has}; its event says {frames} frames, {event.bytes} bytes"
            yield fault_of(event, Fault.DAMAGED, text)
        return
    size = f"{contents.bytes} bytes" + ("" if contents.bytes == event.bytes else f" of {event.bytes}")
    if other := path_by_digest.get(contents.sha256):
        yield fault_of(event, Fault.SWAPPED, f"its bytes are those of {other}", other)
    elif contents.broken:
        fault = Fault.TRUNCATED if contents.cut and contents.bytes < event.bytes else Fault.DAMAGED
        yield fault_of(event, fault, f"{size}; {contents.broken}")
    else:
        text = f"{size}; {contents.frames} whole frames of {frames}, but its bytes don't match its event"
        yield fault_of(event, Fault.DAMAGED, text)


def _check_unlisted(one: InspectedFile, contents: FileContents, same: str) -> Finding:
    """Return the fault of a file without an event. same: a path with the same bytes."""
    if same != one.path:
        text = f"no event describes it; it is a copy of {same}"
        return Finding(Fault.DUPLICATE, one.stream, one.path, text, other=same)
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
            found.append(fault_of(other, Fault.DUPLICATE_FRAMES, text, one.path))
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
        fault_of(event, Fault.DUPLICATE_FRAMES, f"{text}; {count} frames in all", one)
        for (one, _), (event, text, count) in twice.items()
    ]
