"""Every frame that a topic still has is in exactly one file, byte for byte: the topic read beside the files.

Which records are in which file is what the events say. The topic may begin, and the recording be, in the midst of a
file: then only what both have is compared.
"""

import contextlib
import hashlib
import os
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from archiver.checkpoint import Checkpoint, RecordId
from archiver.event import FileFinished, RecordsLost
from archiver.foreign import Labels
from archiver.history import History
from archiver.inspection import Fault, Finding
from archiver.location import Location, Within
from archiver.progress import Progress
from archiver.segmentation import LEFT_OUT
from archiver.sequence import Record, Seen
from archiver.times import moment
from ingest.topic import ContractError, Kind, Label
from ingest.wire import Walk, WireError

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is known of a stream's recording. events: of its files, in order. intact: the paths of those whose bytes
    are to be compared. offset, checkpoint: as committed, None if nothing is. since: ms; older frames are left out."""

    stream: str
    events: Sequence[FileFinished]
    intact: Collection[str]
    losses: Sequence[RecordsLost]
    offset: int | None
    checkpoint: Checkpoint | None
    since: int | None


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of it, in frames. same: they are in a file, as they are in the topic. unrecorded: they came after
    all that is committed. explained: lost, and told so. times_replaced: records with Kafka's time in
    place of that of their receipt (LogAppendTime)."""

    findings: tuple[Finding, ...]
    same: int
    unrecorded: int
    explained: int
    times_replaced: int = 0


def compare(history: History, location: Location, known: Recorded, progress: Progress) -> Compared:
    """Compare a stream's topic with its files, to the end that it has now. Raises KafkaException, OSError."""
    first, end = history.span(known.stream)
    start = _start(history, known, first)
    comparison = Comparison(location, known, start, end)
    labels = Labels(history, known.stream)
    name = f"{known.stream}, topic"
    count = 0
    progress.begin(name, end - start)
    try:
        for batch in history.batches(known.stream, start, end):
            for message in batch:
                count += len(message)
                comparison.take(message, labels)
            progress.at(name, (batch[-1].offset() or 0) + 1 - start, count)
    except ContractError as error:
        comparison.stop(str(error))
    finally:
        comparison.close()
    progress.end(name)
    return comparison.result()


class Comparison:
    """Takes a stream's messages from the offset `start` on, in order. end: the offset after the last.

    `close` when all are taken, then `result`.
    """

    def __init__(self, location: Location, known: Recorded, start: int, end: int) -> None:
        self._location = location
        self._known = known
        before = [event for event in known.events if event.offset <= start]
        # Records may come again: those of files that end before `start` are known by what was seen by then.
        last = before[-1].checkpoint if before else None
        self._seen = Seen(last.epochs, last.forgotten) if last else Seen()
        self._offset = known.offset if known.offset is not None and known.offset <= end else None
        files = _spans(location, known)
        self._index = _Index(files)
        self._opens = {(it.first.epoch, it.first.seq): it for it in files}
        self._following: _Following | None = None
        self._strays: list[Record] = []  # the first and the last of those that are in no file
        self._stray_count = 0
        self._findings: list[Finding] = []
        self._same = self._unrecorded = self._explained = self._times_replaced = 0
        self._next = start

    def take(self, message: Message, labels: Labels) -> None:
        """Take the next. Raises ContractError, KafkaException, OSError."""
        offset = message.offset()
        assert offset is not None
        self._next = offset
        if label := labels.of(message):
            kind, time = message.timestamp()
            self._times_replaced += kind == TIMESTAMP_LOG_APPEND_TIME
            self.step(label, time, message.value() or b"", offset)

    def step(self, label: Label, time: int, value: bytes, offset: int) -> None:
        """Take what a message holds. time: ms. Raises OSError."""
        record = self._seen.whole(label, time, value, offset)
        if record is None:
            return
        self._seen.saw(record.label)
        self._seen.losses.clear()  # they were told when they were recorded
        if record.label.kind is Kind.FRAME and record.label.type not in LEFT_OUT:
            self._frame(record)

    def stop(self, why: str) -> None:
        """The next record can't be understood."""
        self._find(Fault.NOT_IN_FILE, f"the record at offset {self._next} is in no file, nor any after it: {why}")

    def close(self) -> None:
        """There are no more."""
        if self._following:
            self._end("the topic ends before its last frame")
        self._tell_strays()

    def result(self) -> Compared:
        """What has come of it."""
        return Compared(
            tuple(self._findings),
            self._same,
            self._unrecorded,
            self._explained,
            times_replaced=self._times_replaced,
        )

    def _frame(self, record: Record) -> None:
        identity = (record.label.epoch, record.label.seq)
        begun = self._opens.get(identity)
        if begun or not self._following:
            if begun and self._following:
                self._end("the topic hasn't its last frame")
            span = begun or self._index.holding(*identity)
            if span is None:
                self._stray(record)
                return
            self._tell_strays()
            file = self._open(span)
            self._following = _Following(span, file, whole=begun is not None)
        following = self._following
        assert following
        following.take(record)
        if identity == (following.span.last.epoch, following.span.last.seq):
            self._end("")

    def _open(self, span: "_Span") -> BinaryIO | None:
        if span.event and span.event.path not in self._known.intact:
            return None
        with contextlib.suppress(OSError):  # the partial, if it was finished meanwhile
            parent, _, name = span.path.rpartition("/")
            within = Within(parent) if span.event else Within(self._known.stream, private=True)
            with self._location.open(within) as directory:
                if directory.is_file(name):
                    return os.fdopen(directory.open(name, os.O_RDONLY), "rb", _BLOCK)
        return None

    def _end(self, lacking: str) -> None:
        """The file that is followed has no more frames; lacking: what is wrong with that."""
        following, self._following = self._following, None
        assert following
        with following:
            wrong = following.wrong or lacking or following.wrong_at_end()
            if following.file is None:
                return
            if wrong:
                span = following.span
                self._find(Fault.DIFFERS, wrong, span.path, span.event)
            else:
                self._same += following.frames

    def _stray(self, record: Record) -> None:
        if self._known.since is not None and record.time < self._known.since:
            return
        if self._offset is not None and record.offset >= self._offset:
            self._unrecorded += 1
        elif any(
            record.offset < loss.offset and loss.since is not None and loss.since <= record.time <= loss.until
            for loss in self._known.losses
        ):
            self._explained += 1
        else:
            self._strays[1:] = [record]
            self._stray_count += 1

    def _tell_strays(self) -> None:
        """Those before the file that begins now, or before the end."""
        count, self._stray_count = self._stray_count, 0
        if not count:
            return
        first, last = self._strays[0], self._strays[-1]
        self._strays.clear()
        if self._following is None and self._offset is None and first.offset > self._last_offset():
            self._unrecorded += count  # nothing says how far it has come
            return
        which = f"offset {first.offset}, {moment(first.time)}"
        if count > 1:
            which += f", to offset {last.offset}, {moment(last.time)}"
        self._find(Fault.NOT_IN_FILE, f"in no file: {count} frame{'s'[: count > 1]}, {which}")

    def _last_offset(self) -> int:
        return self._known.events[-1].last.offset if self._known.events else -1

    def _find(self, fault: Fault, text: str, path: str = "", event: FileFinished | None = None) -> None:
        self._findings.append(Finding(fault, self._known.stream, path, text, event))


@dataclass(frozen=True, slots=True)
class _Span:
    """A file, or the one that is being recorded, as far as it is committed, and which records it holds."""

    path: str
    first: RecordId
    last: RecordId
    carry: int
    bytes: int
    event: FileFinished | None


class _Following:
    """One file beside the topic; a context manager that closes it. whole: from its first frame on.

    file: None if it isn't to be compared. wrong: the first difference, if any. frames: so many have been taken.
    """

    def __init__(self, span: _Span, file: BinaryIO | None, *, whole: bool) -> None:
        self.span = span
        self.file = file
        self.wrong = ""
        self.frames = 0
        self._whole = whole
        self._at = 0
        self._length = 0
        self._tail = hashlib.sha256()
        if file and whole:
            self._at = _after_carry(file, span)
            file.seek(self._at)

    def take(self, record: Record) -> None:
        """The next frame. Raises OSError."""
        self.frames += 1
        if self.file is None or self.wrong:
            return
        if not self._whole:
            for part in record.value:
                self._tail.update(part)
            self._length += record.bytes
        elif self._at + record.bytes > self.span.bytes or any(
            self.file.read(len(part)) != part for part in record.value
        ):
            self.wrong = (
                f"at byte {self._at} it isn't the frame of {record.bytes} bytes "
                f"that is at offset {record.offset} of the topic, {moment(record.time)}"
            )
        self._at += record.bytes

    def wrong_at_end(self) -> str:
        """What is wrong now that its last frame has been taken. Raises OSError."""
        if self.file is None:
            return ""
        if self._whole:
            more = self.span.bytes - self._at
            return f"after its last frame in the topic it has {more} bytes more" if more else ""
        self._at = self.span.bytes - self._length
        digest = hashlib.sha256()
        if self._at >= 0:
            self.file.seek(self._at)
            left = self._length
            while left and (block := self.file.read(min(_BLOCK, left))):
                digest.update(block)
                left -= len(block)
        if digest.digest() == self._tail.digest():
            return ""
        return f"its last {self._length} bytes aren't its last {self.frames} frames in the topic, which begins in it"

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self.file:
            self.file.close()


def _spans(location: Location, known: Recorded) -> list[_Span]:
    """The files, and last the one that is open, if it isn't among them already."""
    found = [_Span(e.path, e.first, e.last, len(e.carry), e.bytes, e) for e in known.events]
    partial = known.checkpoint.partial if known.checkpoint else None
    if partial and not any(it.first == partial.first for it in found[-1:]):
        path = location.shown(Within(known.stream, private=True), partial.name)
        found.append(_Span(path, partial.first, partial.last, len(partial.carry), partial.length, None))
    return found


class _Index:
    """Finds the file that has a record in its midst."""

    def __init__(self, files: Sequence[_Span]) -> None:
        self._mixed = [it for it in files if it.first.epoch != it.last.epoch]  # two ingests took turns: rare
        self._plain: dict[str, list[_Span]] = {}
        for it in sorted(files, key=_first_seq):
            if it.first.epoch == it.last.epoch:
                self._plain.setdefault(it.first.epoch, []).append(it)

    def holding(self, epoch: str, seq: int) -> _Span | None:
        """The file."""
        plain = self._plain.get(epoch, [])
        at = bisect_right(plain, seq, key=_first_seq) - 1
        if at >= 0 and seq <= plain[at].last.seq:
            return plain[at]
        for it in self._mixed:
            if (it.first.epoch == epoch and it.first.seq <= seq) or (it.last.epoch == epoch and seq <= it.last.seq):
                return it
        return None


def _first_seq(it: _Span) -> int:
    return it.first.seq


def _after_carry(file: BinaryIO, span: _Span) -> int:
    """Where the frames of a file begin that aren't its carry. Raises OSError."""
    walk = Walk(span.bytes, {})
    left = span.bytes
    with contextlib.suppress(WireError):
        while walk.frames < span.carry and left and (block := file.read(min(_BLOCK, left))):
            left -= len(block)
            for frame in walk.frames_of(block):
                if walk.frames == span.carry:
                    return frame.end
    return 0


def _start(history: History, known: Recorded, first: int) -> int:
    """Where to begin to read: at the topic's first record, or, with `since`, at the first file of which is asked."""
    if known.since is None:
        return first
    for event in known.events:
        if event.last.time >= known.since:
            return event.first.offset if history.holds(known.stream, event.first) else first
    if known.events and history.holds(known.stream, known.events[-1].closing):
        return known.events[-1].offset
    return first
