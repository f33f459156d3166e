"""The inbox of a stream: buffered messages, joined to records, each once; losses are noticed here."""

import logging
from collections import deque

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import Checkpoint
from archiver.core.segmenter import FrameRun, Segmenter
from archiver.kafka.delivery_order import DeliveryCheck, is_successor
from archiver.kafka.topic_reader import record_headers
from archiver.recording.loss_reporter import LossReporter
from archiver.recording.status import ConsumedStatus
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.sequence import Record, SequenceTracker
from g3stream.contract.topic_settings import timestamps_replaced
from g3stream.contract.topics import ContractError, frames_topic

log = logging.getLogger(__name__)


class _OffsetResets:
    """What was deleted from the topic, and before which message; messages are counted as they are taken."""

    def __init__(self) -> None:
        self._taken = 0
        self._former_topic_until = 0  # up to this count, messages are from a deleted topic of the same name
        self._deleted: deque[tuple[int, str]] = deque()  # by count: what was deleted before the next one, in words

    @property
    def is_former_topic(self) -> bool:
        """Whether the next message is from a deleted topic of the same name: its offset means nothing any more."""
        return self._taken < self._former_topic_until

    @property
    def is_pending(self) -> bool:
        """Whether a deletion hasn't been reported yet."""
        return bool(self._deleted)

    @property
    def is_due(self) -> bool:
        """Whether a message after a deletion has been taken."""
        return bool(self._deleted) and self._taken > self._deleted[0][0]

    def add(self, waiting: int, deleted: str, *, is_another_topic: bool) -> None:
        """Note a deletion after the messages that wait; is_another_topic: these are from a former topic."""
        after = self._taken + waiting
        self._deleted.append((after, deleted))
        if is_another_topic:
            self._former_topic_until = after

    def on_taken(self, count: int = 1) -> None:
        """Count messages."""
        self._taken += count

    def take_due(self) -> str:
        """Return the last deletion before the last message taken, in words; empty if there was none."""
        deleted = ""
        while self.is_due:
            _, deleted = self._deleted.popleft()
        return deleted


class MessageInbox:
    """Messages of a stream that the loop has read and the recorder has not taken yet.

    Its attributes are mostly what a status shows of it.
    """

    def __init__(self, archive: ArchiveRoot, stream: str, offset: int | None) -> None:
        self.next_offset = offset
        """After the last message taken; None if none was, and nothing is committed."""
        self.last_time_ms = 0
        """Of the last message taken, ms since the epoch."""
        self.buffered_bytes = 0
        """Of the messages that wait."""
        self.quarantined = 0
        """Records that were left out, as they are quarantined."""
        self.deliveries = DeliveryCheck(stream)
        """Accepts each offset once, in order."""
        self.sequence = SequenceTracker()
        """The records that were taken."""
        self.losses = LossReporter(archive, stream)
        self.times_replaced = False
        """Whether the last record has Kafka's time, not that of its receipt. It is recorded by that time
        nevertheless: no other is known, it is the same for every archive, and what is in Kafka can't be changed."""
        self._stream = stream
        self._end_offset: int | None = None  # after the topic's last record, as last reported by Kafka
        self._messages: deque[Message] = deque()
        # The last message taken since `start`; its headers once it is processed, if it is a whole record.
        self._last: tuple[Message, RecordHeaders | None] | None = None
        self._resets = _OffsetResets()
        self._may_begin_inside_acquisition = False  # until the first record
        self._interleaved_logged = 0  # of `sequence.interleaved_producers`

    def __bool__(self) -> bool:
        """Whether a message waits."""
        return bool(self._messages)

    def append(self, message: Message, size: int) -> None:
        """Add a message that the loop has read; it is dropped if it isn't the next one. size: bytes."""
        offset = message.offset()
        if offset is not None and self.deliveries.accept(offset, lambda: self._follows_newest(message)):
            self._messages.append(message)
            self.buffered_bytes += size

    def _follows_newest(self, message: Message) -> bool:
        newest = self._messages[-1] if self._messages else self._last and self._last[0]
        try:
            return newest is not None and is_successor(record_headers(message), record_headers(newest))
        except ContractError:
            return False  # reported when the message is taken

    def start(self, offset: int, checkpoint: Checkpoint, *, has_prior_state: bool) -> None:
        """Accept messages from that offset on.

        checkpoint: has the records before it.
        has_prior_state: whether that checkpoint was committed, or is in an event.
        """
        self.clear()
        self.next_offset = offset
        self.deliveries.reset(offset)
        self.sequence = SequenceTracker(checkpoint.epochs, checkpoint.forgotten)
        self._interleaved_logged = 0
        self._may_begin_inside_acquisition = not has_prior_state

    def clear(self) -> None:
        """Drop the messages that wait, and accept none until `start`."""
        self._messages.clear()
        self._last = None
        self.buffered_bytes = 0
        self._resets = _OffsetResets()
        self.deliveries.stop()

    def next_record(self) -> Record | None:
        """Take the first message; return the record that it completes, if any.

        Raises ContractError if it can't be read; then the message stays.
        """
        message = self._messages[0]
        headers = record_headers(message)
        offset = message.offset()
        assert offset is not None
        if self._may_begin_inside_acquisition:
            self._may_begin_inside_acquisition = False
            if headers.kind is Kind.FRAME:
                text = "%s: the topic begins at offset %d, within an acquisition; its records before are in no file"
                log.warning(text, self._stream, offset)
        kind, self.last_time_ms = message.timestamp()
        if (kind == TIMESTAMP_LOG_APPEND_TIME) != self.times_replaced:
            self._on_timestamp_type(offset)
        if self._resets.is_former_topic:
            # Its offset means nothing any more: the records after it begin at the new topic's first.
            assert self.next_offset is not None
            offset = self.next_offset
        record = self.sequence.assemble(headers, self.last_time_ms, message.value() or b"", offset)
        self._drop_first()
        return record

    def skip_quarantined(self) -> None:
        """Drop the first message, which is quarantined."""
        self._drop_first()
        self.quarantined += 1

    def _drop_first(self) -> None:
        message = self._messages.popleft()
        self._last = message, None
        self.buffered_bytes -= len(message)
        if not self._resets.is_former_topic:
            self.next_offset = (message.offset() or 0) + 1
        self._resets.on_taken()

    def on_end_offset(self, end_offset: int | None) -> None:
        """Note the offset after the topic's last record, as Kafka reports it."""
        self._end_offset = end_offset

    def status(self, unprocessed: int | None) -> ConsumedStatus:
        """Return the present status. Thread-safe. unprocessed: the offset of a record that waits outside."""
        return ConsumedStatus(
            self.next_offset if unprocessed is None else unprocessed,
            self._end_offset,
            self.last_time_ms,
            self.losses.count,
            self.losses.records,
            self.sequence.duplicates,
            self.sequence.interleaved_producers,
            self.deliveries.faults,
            self.quarantined,
            self.times_replaced,
        )

    @property
    def first(self) -> Message:
        """The first message that waits."""
        return self._messages[0]

    def _on_timestamp_type(self, offset: int) -> None:
        self.times_replaced = not self.times_replaced
        if self.times_replaced:
            topic = frames_topic(self._stream)
            log.error("%s: from offset %d on %s", self._stream, offset, timestamps_replaced(topic))
        else:
            log.info("%s: from offset %d on records have their times of receipt again", self._stream, offset)

    def next_run(self, segmenter: Segmenter) -> FrameRun[Message] | None:
        """Take the messages that only continue the file after the last record, if any; they count as recorded.

        segmenter: has applied the last record.
        """
        before, headers = self._last or (None, None)
        if not before or not headers or self.sequence.has_incomplete or self._resets.is_pending:
            return None
        run = segmenter.take_run(self._messages, before, headers)
        if run:
            self._last = run.last, run.headers
            self.sequence.advance(run.headers.epoch, run.headers.seq)
            self.last_time_ms, self.next_offset = run.times[-1], run.offset + 1
            self.buffered_bytes -= run.bytes
            self._resets.on_taken(len(run.times))
        return run

    def on_offset_reset(self, earliest: int) -> None:
        """Handle records that were deleted before they were read: reading continues at `earliest`."""
        expected = self.deliveries.next_offset
        is_another_topic = expected is not None and expected > earliest
        deleted = self.losses.describe_deleted(expected, earliest)
        self._resets.add(len(self._messages), deleted, is_another_topic=is_another_topic)
        self.deliveries.reset(earliest)
        if is_another_topic or not self._messages:
            self.next_offset = earliest

    def mark_processed(self, record: Record, previous_ms: int | None) -> None:
        """Count a record as recorded. previous_ms: of the last frame recorded before it, if known."""
        self.sequence.mark_processed(record.headers)
        if self._last and record.headers.chunk == (1, 1):
            self._last = self._last[0], record.headers
        if self._resets.is_due:
            self._report_losses(previous_ms)

    def report_losses(self, previous_ms: int | None) -> None:
        """Report the losses noticed so far, if any. previous_ms: of the last frame recorded before, if known."""
        if self.sequence.losses:
            self._report_losses(previous_ms)
        interleaved = self.sequence.interleaved_producers
        if interleaved > self._interleaved_logged:
            self._interleaved_logged = interleaved
            what = "%s: two ingests publish to this stream at once (alternating %d times); stop one of them"
            log.error(what, self._stream, interleaved)

    def _report_losses(self, previous_ms: int | None) -> None:
        deleted = self._resets.take_due()
        self.losses.report(self.sequence.losses, previous_ms, self.last_time_ms, self.next_offset or 0, deleted)
        self.sequence.losses.clear()
