"""Compare a topic with its files, byte for byte: each frame of the topic must be in exactly one file.

The events show which records are in which file. The topic may begin, and the recording end, within a file: then only
the part that both have is compared.
"""

import contextlib
import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from archiver.archive.location import Location, Within
from archiver.console.progress import Progress
from archiver.core.checkpoint import Checkpoint
from archiver.core.events import FileFinished, RecordsLost
from archiver.core.formatting import format_time
from archiver.core.resent_frames import ResendFilter
from archiver.core.segmentation import NOT_RECORDED_TYPES
from archiver.kafka.invalid_records import HeaderReader
from archiver.kafka.topic_reader import TopicReader
from archiver.verify.checks import Counts, Fault, Finding
from archiver.verify.recorded_spans import FileSpan, SpanIndex, UnmatchedFrames, spans
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.sequence import Record, SequenceTracker
from g3stream.contract.topics import ContractError
from g3stream.frame_format.layout import FrameFormatError
from g3stream.frame_format.reader import FrameScanner

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class RecordedStream:
    """What is known of a stream's recording."""

    stream: str
    events: Sequence[FileFinished]
    """Of its files, in order."""
    intact: Collection[str]
    """The paths of the files whose bytes are compared."""
    losses: Sequence[RecordsLost]
    offset: int | None
    """As committed; None if nothing is."""
    checkpoint: Checkpoint | None
    """As committed; None if nothing is."""
    since: int | None
    """Older frames are left out. ms since the epoch."""


def compare(
    reader: TopicReader, location: Location, recorded: RecordedStream, counts: Counts, progress: Progress
) -> list[Finding]:
    """Compare a stream's topic with its files, up to its present end; return the faults, and add to the counts.

    Raises KafkaException, OSError.
    """
    first, end = reader.offset_range(recorded.stream)
    start = _start(reader, recorded, first)
    comparison = Comparison(location, recorded, start, end, counts)
    header_reader = HeaderReader(reader, recorded.stream)
    name = f"{recorded.stream}, topic"
    count, offset = 0, start
    progress.start(name, end - start)
    try:
        for batch in reader.batches(recorded.stream, start, end):
            for message in batch:
                count, offset = count + len(message), message.offset() or 0
                if headers := header_reader.read(message):
                    kind, time_ms = message.timestamp()
                    counts.times_replaced += kind == TIMESTAMP_LOG_APPEND_TIME
                    comparison.add_record(headers, time_ms, message.value() or b"", offset)
            progress.update(name, offset + 1 - start, count)
    except ContractError as error:
        comparison.add_finding(
            Fault.NOT_IN_FILE, f"the record at offset {offset} is in no file, nor any after it: {error}"
        )
    finally:
        comparison.close()
    progress.finish(name)
    return comparison.findings


class Comparison:
    """Compares a stream's messages, added in order from the offset `start`, with its files.

    Call `close` after the last one. It has more attributes than other classes: an index for each way to find a file.
    end: the offset after the last message.
    counts: of frames, to which it adds.
    """

    def __init__(self, location: Location, recorded: RecordedStream, start: int, end: int, counts: Counts) -> None:
        self.findings: list[Finding] = []
        self._counts = counts
        self._location = location
        self._recorded = recorded
        before = [event for event in recorded.events if event.offset <= start]
        # Records may be repeated: those of files that end before `start` are known from the state at that point.
        last = before[-1].checkpoint if before else None
        self._sequence = SequenceTracker(last.epochs, last.forgotten) if last else SequenceTracker()
        self._committed_offset = recorded.offset if recorded.offset is not None and recorded.offset <= end else None
        files = spans(location, recorded.stream, recorded.events, recorded.checkpoint)
        self._index = SpanIndex(files)
        self._file_numbers = {event.path: number for number, event in enumerate(recorded.events)}
        self._first_records = {(it.first.epoch, it.first.seq): it for it in files}
        self._current: _FileComparison | None = None
        self._resends = ResendFilter(recorded.stream, before[-1] if before else None, recorded.events)
        self._finished = len(before)  # the number of files of `events` that are finished so far
        self._unmatched = UnmatchedFrames()
        # If files are named by session at this point, these were sent again: the next file shows that, too.
        self._possibly_resent = UnmatchedFrames()

    def add_record(self, headers: RecordHeaders, time_ms: int, value: bytes, offset: int) -> None:
        """Add the record, or chunk, of a message. Raises OSError."""
        record = self._sequence.assemble(headers, time_ms, value, offset)
        if record is None:
            return
        self._sequence.mark_processed(record.headers)
        self._sequence.losses.clear()  # they were published when the records were recorded
        if record.headers.kind is Kind.FRAME and record.headers.type not in NOT_RECORDED_TYPES:
            self._on_frame(record)

    def close(self) -> None:
        """End the open comparison: there are no more messages."""
        if self._current:
            self._end_file("the topic ends before its last frame")
        self._report_unmatched(None)

    def add_finding(self, fault: Fault, text: str, path: str = "", event: FileFinished | None = None) -> None:
        """Add a fault."""
        self.findings.append(Finding(fault, self._recorded.stream, path, text, event))

    def _on_frame(self, record: Record) -> None:
        identity = (record.headers.epoch, record.headers.seq)
        started = self._first_records.get(identity)
        if started or not self._current:
            if started and self._current:
                self._end_file("the topic doesn't have its last frame")
            span = started or self._index.find(*identity)
            if span is None:
                self._on_unmatched(record)
                return
            self._report_unmatched(span)
            file = self._open_file(span)
            self._current = _FileComparison(span, file, whole=started is not None)
            if started:
                self._resends.on_file_open(span.acquisition, record)
            else:
                self._resends.on_file_continued(span.acquisition)
        current = self._current
        assert current
        if not started and self._resends.is_left_out(record):
            self._counts.sent_again += 1
            return
        current.compare_next(record)
        if identity == (current.span.last.epoch, current.span.last.seq):
            self._end_file("")

    def _open_file(self, span: FileSpan) -> BinaryIO | None:
        if span.event and span.event.path not in self._recorded.intact:
            return None
        with contextlib.suppress(OSError):  # a partial that was finished meanwhile
            parent, _, name = span.path.rpartition("/")
            within = Within(parent) if span.event else Within(self._recorded.stream, private=True)
            with self._location.open(within) as directory:
                if directory.is_file(name):
                    return os.fdopen(directory.open(name, os.O_RDONLY), "rb", _BLOCK)
        return None

    def _end_file(self, missing: str) -> None:
        """End the comparison of the current file. missing: what the topic lacks of it, in words; or empty."""
        current, self._current = self._current, None
        assert current
        self._resends.on_file_end(current.span.event)
        if current.span.event:
            self._finished = self._file_numbers[current.span.event.path] + 1
        with contextlib.closing(current):
            wrong = current.mismatch or missing or current.mismatch_at_end()
            if current.file is None:
                return
            if wrong:
                span = current.span
                self.add_finding(Fault.DIFFERS_FROM_TOPIC, wrong, span.path, span.event)
            else:
                self._counts.same += current.frames

    def _on_unmatched(self, record: Record) -> None:
        events = self._recorded.events
        while self._finished < len(events) and events[self._finished].offset <= record.offset:
            self._resends.on_file_end(events[self._finished])  # the topic has none of its frames any more
            self._finished += 1
        if self._recorded.since is not None and record.time_ms < self._recorded.since:
            return
        if self._committed_offset is not None and record.offset >= self._committed_offset:
            self._counts.unrecorded += 1
        elif any(
            record.offset < loss.offset and loss.since is not None and loss.since <= record.time_ms <= loss.until
            for loss in self._recorded.losses
        ):
            self._counts.explained += 1
        elif self._resends.is_repeated(record.headers):
            self._possibly_resent.add(record)
        else:
            self._unmatched.add(record)

    def _report_unmatched(self, current: FileSpan | None) -> None:
        """Report the unmatched frames before the file that begins now, or before the end."""
        unmatched, again = self._unmatched, self._possibly_resent
        self._unmatched, self._possibly_resent = UnmatchedFrames(), UnmatchedFrames()
        if self._resends.by_session or current is None or current.by_session:
            self._counts.sent_again += again.count
        else:
            unmatched.add(again.first, again.last, count=again.count)
        if not unmatched.first or not unmatched.last:
            return
        first, last, count = unmatched.first, unmatched.last, unmatched.count
        if self._current is None and self._committed_offset is None and first.offset > self._last_offset():
            self._counts.unrecorded += count  # nothing shows how far the recording has come
            return
        which = f"offset {first.offset}, {format_time(first.time_ms)} UTC"
        if count > 1:
            which += f", to offset {last.offset}, {format_time(last.time_ms)} UTC"
        self.add_finding(Fault.NOT_IN_FILE, f"in no file: {count} frame{'s'[: count > 1]}, {which}")

    def _last_offset(self) -> int:
        return self._recorded.events[-1].last.offset if self._recorded.events else -1


class _FileComparison:
    """Compares one file with the topic.

    file: None if its bytes aren't compared.
    whole: whether the topic has the file's frames from its first one.
    """

    def __init__(self, span: FileSpan, file: BinaryIO | None, *, whole: bool) -> None:
        self.span = span
        self.file = file
        self.mismatch = ""
        """The first difference, in words; empty if there is none."""
        self.frames = 0
        """Frames compared so far."""
        self._from_first_frame = whole
        self._position = 0
        self._compared_bytes = 0
        self._tail_digest = hashlib.sha256()
        if file and whole:
            self._position = _after_carry(file, span)
            file.seek(self._position)

    def compare_next(self, record: Record) -> None:
        """Compare the next frame. Raises OSError."""
        self.frames += 1
        if self.file is None or self.mismatch:
            return
        if not self._from_first_frame:
            for part in record.value:
                self._tail_digest.update(part)
            self._compared_bytes += record.bytes
        elif self._position + record.bytes > self.span.bytes or any(
            self.file.read(len(part)) != part for part in record.value
        ):
            self.mismatch = (
                f"at byte {self._position} it isn't the frame of {record.bytes} bytes "
                f"that is at offset {record.offset} of the topic, {format_time(record.time_ms)} UTC"
            )
        self._position += record.bytes

    def mismatch_at_end(self) -> str:
        """Return what is wrong after its last frame, in words; empty if nothing. Raises OSError."""
        if self.file is None:
            return ""
        if self._from_first_frame:
            more = self.span.bytes - self._position
            return f"it has {more} more bytes after its last frame in the topic" if more else ""
        self._position = self.span.bytes - self._compared_bytes
        digest = hashlib.sha256()
        if self._position >= 0:
            self.file.seek(self._position)
            left = self._compared_bytes
            while left and (block := self.file.read(min(_BLOCK, left))):
                digest.update(block)
                left -= len(block)
        if digest.digest() == self._tail_digest.digest():
            return ""
        which = f"its last {self.frames} frames in the topic, which begins within it"
        return f"its last {self._compared_bytes} bytes aren't {which}"

    def close(self) -> None:
        """Close the file."""
        if self.file:
            self.file.close()


def _after_carry(file: BinaryIO, span: FileSpan) -> int:
    """Return the position of a file's first frame after its carry. Raises OSError."""
    scanner = FrameScanner(span.bytes)
    with contextlib.suppress(FrameFormatError):
        while scanner.frames < span.carry and (block := file.read(_BLOCK)):
            for frame in scanner.scan(block):
                if scanner.frames == span.carry:
                    return frame.end
    return 0


def _start(reader: TopicReader, recorded: RecordedStream, first: int) -> int:
    """Return the offset to read from: the topic's first or, with `since`, that of the first selected file."""
    if recorded.since is None:
        return first
    for event in recorded.events:
        if event.last.time >= recorded.since:
            return event.first.offset if reader.has_record(recorded.stream, event.first) else first
    if recorded.events and reader.has_record(recorded.stream, recorded.events[-1].closing):
        return recorded.events[-1].offset
    return first
