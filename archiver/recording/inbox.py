"""The inbox of a stream: buffered messages, joined to records, each once; losses are noticed here."""

import logging
from collections import deque

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import Checkpoint
from archiver.core.segmenter import FrameRun, Segmenter
from archiver.core.sequence import Record, SequenceTracker
from archiver.kafka.delivery_order import DeliveryCheck, is_successor
from archiver.kafka.topic_reader import record_headers
from archiver.recording.loss_reporter import LossReporter
from g3stream.contract.errors import ContractError
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.topic_settings import timestamps_replaced
from g3stream.contract.topics import frames_topic

log = logging.getLogger(__name__)


class MessageInbox:
    """Messages of a stream that the loop has read and the recorder has not taken yet."""

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
        self._messages: deque[Message] = deque()
        self._newest: Message | None = None  # the newest accepted one, since `start`
        self._last_taken: Message | None = None  # the last message taken
        self._taken_count = 0
        # Up to this count, messages are from a deleted topic of the same name.
        self._former_topic_until = 0
        self._deleted: deque[tuple[int, str]] = (
            deque()
        )  # by count of messages taken: what was deleted before the next one
        self._may_begin_inside_acquisition = False  # until the first record
        self._interleaved_reported = 0

    def __bool__(self) -> bool:
        """Whether a message waits."""
        return bool(self._messages)

    def append(self, message: Message, size: int) -> None:
        """Add a message that the loop has read; it is dropped if it isn't the next one. size: bytes."""
        offset = message.offset()
        if offset is None:
            return
        is_next = self.deliveries.is_after_gap(offset) and self._follows_newest(message)
        if self.deliveries.accept(offset, is_successor=is_next):
            self._messages.append(message)
            self._newest = message
            self.buffered_bytes += size

    def _follows_newest(self, message: Message) -> bool:
        try:
            return self._newest is not None and is_successor(record_headers(message), record_headers(self._newest))
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
        self.sequence, self._interleaved_reported = SequenceTracker(checkpoint.epochs, checkpoint.forgotten), 0
        self._may_begin_inside_acquisition = not has_prior_state

    def clear(self) -> None:
        """Drop the messages that wait, and accept none until `start`."""
        self._messages.clear()
        self._newest = None
        self.buffered_bytes = self._former_topic_until = 0
        self._deleted.clear()
        self.deliveries.next_offset = None

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
                log.warning("%s: the topic begins at offset %d, within an acquisition", self._stream, offset)
        kind, self.last_time_ms = message.timestamp()
        self._check_timestamp_type(offset, replaced=kind == TIMESTAMP_LOG_APPEND_TIME)
        if self._taken_count < self._former_topic_until:
            # Its offset means nothing any more: the records after it begin at the new topic's first.
            assert self.next_offset is not None
            offset, after = self.next_offset, self.next_offset
        else:
            after = offset + 1
        record = self.sequence.assemble(headers, self.last_time_ms, message.value() or b"", offset)
        self._messages.popleft()
        self._last_taken = message
        self.buffered_bytes -= len(message)
        self._taken_count += 1
        self.next_offset = after
        return record

    @property
    def first(self) -> Message:
        """The first message that waits."""
        return self._messages[0]

    def skip_quarantined(self) -> None:
        """Drop the first message, which is quarantined."""
        message = self._messages.popleft()
        self.buffered_bytes -= len(message)
        if self._taken_count >= self._former_topic_until:
            self.next_offset = (message.offset() or 0) + 1
        self._taken_count += 1
        self.quarantined += 1

    def _check_timestamp_type(self, offset: int, *, replaced: bool) -> None:
        if replaced and not self.times_replaced:
            topic = frames_topic(self._stream)
            log.error("%s: from offset %d on %s", self._stream, offset, timestamps_replaced(topic))
        elif self.times_replaced and not replaced:
            log.info("%s: from offset %d on records have their times of receipt again", self._stream, offset)
        self.times_replaced = replaced

    def next_run(self, headers: RecordHeaders, segmenter: Segmenter) -> FrameRun | None:
        """Take the buffered frames that only continue the file after the last record, if any; they count as recorded.

        headers: of the last record, which the segmenter has applied.
        """
        if not self._messages or headers.chunk != (1, 1) or self.sequence.has_incomplete or not self._last_taken:
            return None
        if self._taken_count < self._former_topic_until:
            return None  # their offsets are of the deleted topic
        run = segmenter.take_run(self._messages, self._last_taken, headers)
        if run:
            self.sequence.advance(headers.epoch, run.headers.seq)
            self.last_time_ms, self.next_offset = run.times[-1], run.offset + 1
            self.buffered_bytes -= run.bytes
            self._taken_count += len(run.times)
        return run

    def on_offset_reset(self, earliest: int) -> None:
        """Handle records that were deleted before they were read: reading continues at `earliest`."""
        expected = self.deliveries.next_offset
        after = self._taken_count + len(self._messages)
        self._deleted.append((after, self.losses.describe_deleted(expected, earliest)))
        self.deliveries.reset(earliest)
        is_another_topic = expected is not None and expected > earliest
        if is_another_topic:
            self._former_topic_until = after
        if is_another_topic or not self._messages:
            self.next_offset = earliest

    def mark_processed(self, record: Record, previous_ms: int | None) -> None:
        """Count a record as recorded. previous_ms: of the last frame recorded before it, if known."""
        self.sequence.mark_processed(record.headers)
        if self._deleted and self._taken_count > self._deleted[0][0]:
            self._report_losses(previous_ms)

    def report_losses(self, previous_ms: int | None) -> None:
        """Report the losses noticed so far, if any. previous_ms: of the last frame recorded before, if known."""
        if self.sequence.losses or self.sequence.interleaved_producers > self._interleaved_reported:
            self._report_losses(previous_ms)

    def _report_losses(self, previous_ms: int | None) -> None:
        deleted = ""
        while self._deleted and self._taken_count > self._deleted[0][0]:
            _, deleted = self._deleted.popleft()
        self.losses.report(self.sequence.losses, previous_ms, self.last_time_ms, self.next_offset or 0, deleted)
        self.sequence.losses.clear()
        if self.sequence.interleaved_producers > self._interleaved_reported:
            self._interleaved_reported = self.sequence.interleaved_producers
            log.error(
                "%s: two ingests publish to this stream at once (alternating %d times); stop one of them",
                self._stream,
                self._interleaved_reported,
            )
