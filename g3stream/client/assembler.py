"""Whole records from a topic's messages: chunks are joined, duplicates dropped, losses found. Pure.

The rules are those of the archiver, whose tracker this drives (contract/sequence.py), without segmentation.
"""

from collections.abc import Iterator
from typing import NamedTuple

from g3stream.client.position import Position
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.producer_epoch import epoch_before, mark_of
from g3stream.contract.sequence import Loss, LossCause


class Record(NamedTuple):
    """A whole record of a stream."""

    headers: RecordHeaders
    """What it is, and its identity."""
    time_ms: int
    """When ingest had received it, in ms since 1970."""
    value: bytes
    """The frame, as it came over the wire, with its checksum; empty for a fact that isn't flow control."""
    offset: int
    """Of its first chunk in the topic."""


Item = Record | Loss


class Assembler:
    """Assembler of one stream's records, from its messages in order.

    position: where reading begins. facts, losses: whether those are returned, too.
    """

    def __init__(self, position: Position, *, facts: bool, losses: bool) -> None:
        self._stream = position.stream
        self._tracker = position.tracker()
        self._next_offset = position.offset
        self._facts = facts
        self._losses = losses
        self._marks = {mark_of(epoch) for epoch in (*dict(position.epochs), *position.forgotten)}
        """Spools of which something is known, by the mark of their epochs."""
        self._newest = ("", -1)
        self._before: Position | None = None

    @property
    def next_offset(self) -> int:
        """The offset after the last message."""
        return self._next_offset

    @property
    def position(self) -> Position:
        """The position after the last item that `add` has yielded; before the record that has revealed a loss."""
        if self._before:
            return self._before
        tracker = self._tracker
        return Position(self._stream, tracker.safe_offset(self._next_offset), tracker.epochs(), tracker.forgotten)

    def add(self, headers: RecordHeaders, time_ms: int, value: bytes, offset: int) -> Iterator[Item]:
        """Yield the losses that a message reveals, then the record that it completes, if that is new."""
        tracker = self._tracker
        record = tracker.assemble(headers, time_ms, value, offset)
        self._next_offset = offset + 1
        if tracker.losses:
            yield from self._found_losses()
        if record is None:
            return
        headers = record.headers
        if (headers.epoch, headers.seq - 1) != self._newest:
            # It may reveal a loss, and isn't yielded yet when that is.
            self._next_offset = record.offset
            before = self.position
            self._next_offset = offset + 1
            self._forget_before(headers)
            tracker.mark_processed(headers)
            if tracker.losses:
                self._before = before
                yield from self._found_losses()
                self._before = None
        else:
            tracker.mark_processed(headers)
        self._newest = (headers.epoch, headers.seq)
        if headers.kind is Kind.FRAME or self._facts:
            chunks = record.value
            yield Record(headers, record.time_ms, chunks[0] if len(chunks) == 1 else b"".join(chunks), record.offset)

    def _forget_before(self, headers: RecordHeaders) -> None:
        """Note, at a spool's first record here, that all of its earlier epochs were before reading began.

        A killed ingest publishes its spool again: what it repeats may have come first before the position.
        """
        mark = mark_of(headers.epoch)
        if mark not in self._marks and not headers.operator:
            self._marks.add(mark)
            if older := epoch_before(headers.epoch):
                self._tracker.forgotten += (older,)

    def skip(self, offset: int) -> None:
        """Skip a message that is in quarantine."""
        self._next_offset = offset + 1

    def on_deleted(self, earliest: int) -> Iterator[Loss]:
        """Continue at that offset, the topic's first one: what was before it is deleted. Yields that loss."""
        what = f"the records up to offset {earliest - 1} were deleted from the topic"
        if earliest < self._next_offset:
            what = "the topic was deleted and created again"
        self._next_offset = earliest
        if self._losses:
            yield Loss(None, what, LossCause.DELETED)

    def _found_losses(self) -> Iterator[Loss]:
        found, self._tracker.losses = self._tracker.losses, []
        if self._losses:
            yield from found
