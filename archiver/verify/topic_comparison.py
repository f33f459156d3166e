"""Every frame that a topic still has is in exactly one file, byte for byte: the topic read beside the files.

Which records are in which file is what the events say. The topic may begin, and the recording be, in the midst of a
file: then only what both have is compared.
"""

import contextlib
import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from archiver.archive.location import Location, Within
from archiver.console.progress import Progress
from archiver.core.checkpoint import Checkpoint
from archiver.core.events import FileFinished, RecordsLost
from archiver.core.formatting import moment
from archiver.core.resent_frames import SentAgain
from archiver.core.segmentation import LEFT_OUT
from archiver.core.sequence import Record, Seen
from archiver.kafka.invalid_records import Labels
from archiver.kafka.topic_reader import History
from archiver.verify.checks import Fault, Finding
from archiver.verify.recorded_spans import Index, Span, Strays, spans
from g3stream.contract.errors import ContractError
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.frames.layout import FrameFormatError
from g3stream.frames.scanner import FrameScanner

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
    all that is committed. explained: lost, and told so. sent_again: in no file, as names by session leave out what a
    sender sent again. times_replaced: records with Kafka's time in place of that of their receipt (LogAppendTime)."""

    findings: tuple[Finding, ...]
    same: int
    unrecorded: int
    explained: int
    sent_again: int = 0
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
        files = spans(location, known.stream, known.events, known.checkpoint)
        self._index = Index(files)
        self._numbers = {event.path: number for number, event in enumerate(known.events)}
        self._opens = {(it.first.epoch, it.first.seq): it for it in files}
        self._following: _Following | None = None
        self._sent_again = SentAgain(known.stream, before[-1] if before else None, known.events)
        self._finished = len(before)  # how many of the events' files are finished by now
        self._strays = Strays()
        self._maybe_sent_again = Strays()  # if files are named by session then, which the next one says, too
        self._findings: list[Finding] = []
        self._same = self._unrecorded = self._explained = self._times_replaced = self._left_out = 0
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

    def step(self, label: RecordHeaders, time: int, value: bytes, offset: int) -> None:
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
        self._tell_strays(None)

    def result(self) -> Compared:
        """What has come of it."""
        return Compared(
            tuple(self._findings),
            self._same,
            self._unrecorded,
            self._explained,
            sent_again=self._left_out,
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
            self._tell_strays(span)
            file = self._open(span)
            self._following = _Following(span, file, whole=begun is not None)
            if begun:
                self._sent_again.opens(span.acquisition, record.label, record.time)
            else:
                self._sent_again.goes_on(span.acquisition)
        following = self._following
        assert following
        if not begun and self._sent_again.leaves_out(record.label, record.time):
            self._left_out += 1
            return
        following.take(record)
        if identity == (following.span.last.epoch, following.span.last.seq):
            self._end("")

    def _open(self, span: Span) -> BinaryIO | None:
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
        self._sent_again.ends(following.span.event)
        if following.span.event:
            self._finished = self._numbers[following.span.event.path] + 1
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
        events = self._known.events
        while self._finished < len(events) and events[self._finished].offset <= record.offset:
            self._sent_again.ends(events[self._finished])  # none of its frames is in the topic any more
            self._finished += 1
        if self._known.since is not None and record.time < self._known.since:
            return
        if self._offset is not None and record.offset >= self._offset:
            self._unrecorded += 1
        elif any(
            record.offset < loss.offset and loss.since is not None and loss.since <= record.time <= loss.until
            for loss in self._known.losses
        ):
            self._explained += 1
        elif self._sent_again.is_repeated(record.label):
            self._maybe_sent_again.add(record)
        else:
            self._strays.add(record)

    def _tell_strays(self, following: Span | None) -> None:
        """Those before the file that begins now, or before the end."""
        strays, again = self._strays, self._maybe_sent_again
        self._strays, self._maybe_sent_again = Strays(), Strays()
        if self._sent_again.by_session or following is None or following.by_session:
            self._left_out += again.count
        else:
            strays.include(again)
        if not strays.first or not strays.last:
            return
        first, last, count = strays.first, strays.last, strays.count
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


class _Following:
    """One file beside the topic; a context manager that closes it. whole: from its first frame on.

    file: None if it isn't to be compared. wrong: the first difference, if any. frames: so many have been taken.
    """

    def __init__(self, span: Span, file: BinaryIO | None, *, whole: bool) -> None:
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


def _after_carry(file: BinaryIO, span: Span) -> int:
    """Where the frames of a file begin that aren't its carry. Raises OSError."""
    walk = FrameScanner(span.bytes, {})
    left = span.bytes
    with contextlib.suppress(FrameFormatError):
        while walk.frames < span.carry and left and (block := file.read(min(_BLOCK, left))):
            left -= len(block)
            for frame in walk.scan(block):
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
