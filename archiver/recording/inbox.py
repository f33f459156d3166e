"""A stream's messages on their way in: they wait here, become records, each once; losses that show are told."""

import logging
from collections import deque

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import Checkpoint
from archiver.core.fast_path import Run, take_run
from archiver.core.segmentation import Room
from archiver.core.sequence import Record, Seen
from archiver.kafka.delivery_order import Deliveries, follows
from archiver.kafka.topic_reader import label_of
from archiver.recording.loss_reporter import Losses
from g3stream.contract.errors import ContractError
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.topic_settings import timestamps_replaced
from g3stream.contract.topics import frames_topic

log = logging.getLogger(__name__)


class Incoming:
    """What the loop has read of a stream and the recording hasn't taken yet.

    next: the offset after the last message taken, None if none was and nothing is committed. time: of that message,
    ms. bytes: of the messages that wait. deliveries: which messages are taken in. seen: which records have been.
    losses: what was told of them. left_out: how many records were in quarantine.
    """

    def __init__(self, archive: ArchiveRoot, stream: str, offset: int | None) -> None:
        self.next = offset
        self.time = 0
        self.bytes = 0
        self.left_out = 0
        self.deliveries = Deliveries(stream)
        self.seen = Seen()
        self.losses = Losses(archive, stream)
        self.times_replaced = False
        """Whether the last record bears Kafka's time, not that of its receipt. It is recorded by that all the same:
        no other is known, it is the same for every archive, and what is in Kafka already can't be mended."""
        self._stream = stream
        self._messages: deque[Message] = deque()
        self._newest: Message | None = None  # that was taken in, since `begin`
        self._taken: Message | None = None  # the last one
        self._count = 0  # of the messages that were taken
        self._former_until = 0  # that count: until then they are of a topic of that name that has been deleted since
        self._deleted: deque[tuple[int, str]] = deque()  # after so many, what was deleted before the next one
        self._begins_anywhere = False  # in the midst of an acquisition, perhaps
        self._turns_told = 0

    def __bool__(self) -> bool:
        """Whether a message waits."""
        return bool(self._messages)

    def add(self, message: Message, size: int) -> None:
        """The loop has read this; its length is known to it. Dropped if it isn't the next one."""
        offset = message.offset()
        if offset is None:
            return
        is_next = self.deliveries.is_beyond_a_hole(offset) and self._follows_the_newest(message)
        if self.deliveries.accept(offset, follows=is_next):
            self._messages.append(message)
            self._newest = message
            self.bytes += size

    def _follows_the_newest(self, message: Message) -> bool:
        try:
            return self._newest is not None and follows(label_of(message), label_of(self._newest))
        except ContractError:
            return False  # which is said when it is its turn

    def begin(self, offset: int, checkpoint: Checkpoint, *, known: bool) -> None:
        """Messages come from that offset on; the checkpoint says what had been seen before it.

        known: what was recorded before is known, too.
        """
        self.clear()
        self.next = offset
        self.deliveries.begin(offset)
        self.seen, self._turns_told = Seen(checkpoint.epochs, checkpoint.forgotten), 0
        self._begins_anywhere = not known

    def clear(self) -> None:
        """Forget the messages that wait; none comes in until `begin`."""
        self._messages.clear()
        self._newest = None
        self.bytes = self._former_until = 0
        self._deleted.clear()
        self.deliveries.next_offset = None

    def record(self) -> Record | None:
        """The record that the first of the messages completes, if it does. Raises ContractError, and it stays."""
        message = self._messages[0]
        label = label_of(message)
        offset = message.offset()
        assert offset is not None
        if self._begins_anywhere:
            self._begins_anywhere = False
            if label.kind is Kind.FRAME:
                log.warning("%s: the topic begins at offset %d in the midst of an acquisition", self._stream, offset)
        kind, self.time = message.timestamp()
        self._see_whose_time(offset, replaced=kind == TIMESTAMP_LOG_APPEND_TIME)
        if self._count < self._former_until:
            # Where it lay says nothing any more: to go on after it is to begin with what that topic has now.
            assert self.next is not None
            offset, after = self.next, self.next
        else:
            after = offset + 1
        record = self.seen.whole(label, self.time, message.value() or b"", offset)
        self._messages.popleft()
        self._taken = message
        self.bytes -= len(message)
        self._count += 1
        self.next = after
        return record

    @property
    def first(self) -> Message:
        """The first of the messages that wait."""
        return self._messages[0]

    def leave_out(self) -> None:
        """The first of the messages is in quarantine."""
        message = self._messages.popleft()
        self.bytes -= len(message)
        if self._count >= self._former_until:
            self.next = (message.offset() or 0) + 1
        self._count += 1
        self.left_out += 1

    def _see_whose_time(self, offset: int, *, replaced: bool) -> None:
        if replaced and not self.times_replaced:
            topic = frames_topic(self._stream)
            log.error("%s: from offset %d on %s", self._stream, offset, timestamps_replaced(topic))
        elif self.times_replaced and not replaced:
            log.info("%s: from offset %d on records bear their times of receipt again", self._stream, offset)
        self.times_replaced = replaced

    def run(self, label: RecordHeaders, room: Room | None) -> Run | None:
        """Those that wait and only go on after the record given last, if any do; they count as recorded."""
        if not self._messages or not room or label.chunk != (1, 1) or self.seen.incomplete or not self._taken:
            return None
        if self._count < self._former_until:
            return None  # their offsets don't count
        run = take_run(self._messages, self._taken, label, room)
        if run:
            self.seen.went_on(label.epoch, run.label.seq)
            self.time, self.next = run.times[-1], run.offset + 1
            self.bytes -= run.bytes
            self._count += len(run.times)
        return run

    def overtaken(self, earliest: int) -> None:
        """Records were deleted before they were read; reading goes on at `earliest`."""
        expected = self.deliveries.next_offset
        after = self._count + len(self._messages)
        self._deleted.append((after, self.losses.deleted(expected, earliest)))
        self.deliveries.begin(earliest)
        is_another_topic = expected is not None and expected > earliest
        if is_another_topic:
            self._former_until = after
        if is_another_topic or not self._messages:
            self.next = earliest

    def saw(self, record: Record, since: int | None) -> None:
        """That record is recorded. since: ms, of the last frame recorded before it, if known."""
        self.seen.saw(record.label)
        if self._deleted and self._count > self._deleted[0][0]:
            self._tell(since)

    def tell_losses(self, since: int | None) -> None:
        """Tell what has shown until now, if anything has. since: ms, of the last frame recorded before, if known."""
        if self.seen.losses or self.seen.turns > self._turns_told:
            self._tell(since)

    def _tell(self, since: int | None) -> None:
        deleted = ""
        while self._deleted and self._count > self._deleted[0][0]:
            _, deleted = self._deleted.popleft()
        self.losses.found(self.seen.losses, since, self.time, self.next or 0, deleted)
        self.seen.losses.clear()
        if self.seen.turns > self._turns_told:
            self._turns_told = self.seen.turns
            log.error(
                "%s: two ingests publish to this stream at once (they took turns %d times); stop one of them",
                self._stream,
                self._turns_told,
            )
