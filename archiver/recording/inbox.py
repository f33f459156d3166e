"""A stream's messages on their way in: they wait here, become records, each once; losses that show are told."""

import logging
from collections import deque

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import Checkpoint
from archiver.core.fast_path import FrameRun, take_run
from archiver.core.segmentation import FrameWindow
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
    """What the loop has read of a stream and the recording hasn't taken yet.

    next_offset: the offset after the last message taken, None if none was and nothing is committed. last_time_ms: of
    that message, ms. buffered_bytes: of the messages that wait. deliveries: which messages are taken in. sequence:
    which records have been. losses: what was told of them. quarantined: how many records were in quarantine.
    """

    def __init__(self, archive: ArchiveRoot, stream: str, offset: int | None) -> None:
        self.next_offset = offset
        self.last_time_ms = 0
        self.buffered_bytes = 0
        self.quarantined = 0
        self.deliveries = DeliveryCheck(stream)
        self.sequence = SequenceTracker()
        self.losses = LossReporter(archive, stream)
        self.times_replaced = False
        """Whether the last record bears Kafka's time, not that of its receipt. It is recorded by that all the same:
        no other is known, it is the same for every archive, and what is in Kafka already can't be mended."""
        self._stream = stream
        self._messages: deque[Message] = deque()
        self._newest: Message | None = None  # that was taken in, since `start`
        self._last_taken: Message | None = None  # the last one
        self._taken_count = 0  # of the messages that were taken
        # that count: until then they are of a topic of that name that has been deleted since
        self._former_topic_until = 0
        self._deleted: deque[tuple[int, str]] = deque()  # after so many, what was deleted before the next one
        self._may_begin_inside_acquisition = False  # in the midst of an acquisition, perhaps
        self._interleaved_reported = 0

    def __bool__(self) -> bool:
        """Whether a message waits."""
        return bool(self._messages)

    def append(self, message: Message, size: int) -> None:
        """The loop has read this; its length is known to it. Dropped if it isn't the next one."""
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
            return False  # which is said when it is its turn

    def start(self, offset: int, checkpoint: Checkpoint, *, has_prior_state: bool) -> None:
        """Messages come from that offset on; the checkpoint says what had been seen before it.

        has_prior_state: what was recorded before is known, too.
        """
        self.clear()
        self.next_offset = offset
        self.deliveries.reset(offset)
        self.sequence, self._interleaved_reported = SequenceTracker(checkpoint.epochs, checkpoint.forgotten), 0
        self._may_begin_inside_acquisition = not has_prior_state

    def clear(self) -> None:
        """Forget the messages that wait; none comes in until `start`."""
        self._messages.clear()
        self._newest = None
        self.buffered_bytes = self._former_topic_until = 0
        self._deleted.clear()
        self.deliveries.next_offset = None

    def next_record(self) -> Record | None:
        """The record that the first of the messages completes, if it does. Raises ContractError, and it stays."""
        message = self._messages[0]
        headers = record_headers(message)
        offset = message.offset()
        assert offset is not None
        if self._may_begin_inside_acquisition:
            self._may_begin_inside_acquisition = False
            if headers.kind is Kind.FRAME:
                log.warning("%s: the topic begins at offset %d in the midst of an acquisition", self._stream, offset)
        kind, self.last_time_ms = message.timestamp()
        self._check_timestamp_type(offset, replaced=kind == TIMESTAMP_LOG_APPEND_TIME)
        if self._taken_count < self._former_topic_until:
            # Where it lay says nothing any more: to go on after it is to begin with what that topic has now.
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
        """The first of the messages that wait."""
        return self._messages[0]

    def skip_quarantined(self) -> None:
        """The first of the messages is in quarantine."""
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
            log.info("%s: from offset %d on records bear their times of receipt again", self._stream, offset)
        self.times_replaced = replaced

    def next_run(self, headers: RecordHeaders, window: FrameWindow | None) -> FrameRun | None:
        """Those that wait and only go on after the record given last, if any do; they count as recorded."""
        if (
            not self._messages
            or not window
            or headers.chunk != (1, 1)
            or self.sequence.has_incomplete
            or not self._last_taken
        ):
            return None
        if self._taken_count < self._former_topic_until:
            return None  # their offsets don't count
        run = take_run(self._messages, self._last_taken, headers, window)
        if run:
            self.sequence.advance(headers.epoch, run.headers.seq)
            self.last_time_ms, self.next_offset = run.times[-1], run.offset + 1
            self.buffered_bytes -= run.bytes
            self._taken_count += len(run.times)
        return run

    def on_offset_reset(self, earliest: int) -> None:
        """Records were deleted before they were read; reading goes on at `earliest`."""
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
        """That record is recorded. previous_ms: of the last frame recorded before it, if known."""
        self.sequence.mark_processed(record.headers)
        if self._deleted and self._taken_count > self._deleted[0][0]:
            self._report_losses(previous_ms)

    def report_losses(self, previous_ms: int | None) -> None:
        """Tell what has shown until now, if anything has. previous_ms: of the last frame recorded before, if
        known."""
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
                "%s: two ingests publish to this stream at once (they took turns %d times); stop one of them",
                self._stream,
                self._interleaved_reported,
            )
