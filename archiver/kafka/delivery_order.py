"""What Kafka's client delivers of a stream: each offset once and in order, which is demanded here, not believed.

A client may deliver other records than those that are next: librdkafka 2.16 moved a partition that was being read to
offset 0, by a late retry of a look-up that had long been replaced. What isn't next is dropped, and read again from
where it should be. Offsets may have holes for good (transaction markers, compaction): a hole is one of those if the
record after it is the very next one that ingest made, else if it is there again when it is read once more. That takes
0.5 s (a fetch that waits at the topic's end must come back first): too long for each transaction of a mirror.
Pure: no I/O, no clock.
"""

import logging

from g3stream.contract.headers import RecordHeaders

log = logging.getLogger(__name__)


class DeliveryCheck:
    """Of one stream.

    next_offset: of the delivery that is accepted next; None: none is, until `reset`. faults: how often the client
    delivered something else. seek_to: to what offset the client is to be moved for that, None if it needn't be; to be
    looked at once all that it has delivered by now was given to `accept`, then `on_seek_done`.
    """

    def __init__(self, stream: str) -> None:
        self.next_offset: int | None = None
        self.faults = 0
        self.seek_to: int | None = None
        self._stream = stream
        self._gap_end_offset: int | None = None  # a hole at `next_offset` that was seen, and is read once more

    def reset(self, offset: int) -> None:
        """The client has been moved to that offset, or is going to be."""
        self.next_offset, self.seek_to, self._gap_end_offset = offset, None, None

    def is_after_gap(self, offset: int) -> bool:
        """Whether there are offsets before that one that weren't delivered."""
        return self.next_offset is not None and self.seek_to is None and offset > self.next_offset

    def accept(self, offset: int, *, is_successor: bool = False) -> bool:
        """Whether that delivery is the next one. is_successor: its record is known to be the next after the last
        one."""
        expected = self.next_offset
        if expected is None or self.seek_to is not None:
            return False
        if offset == expected:
            if self._gap_end_offset is not None:
                self._on_fault(f"had skipped the offsets {expected} to {self._gap_end_offset - 1}")
                self._gap_end_offset = None
        elif offset < expected:
            self._on_fault(f"delivered offset {offset} again, where {expected} was next; reading from there")
            self.seek_to = expected
            return False
        elif is_successor:
            self._gap_end_offset = None
        elif offset != self._gap_end_offset:
            self.seek_to, self._gap_end_offset = expected, offset
            return False
        else:
            log.info("%s: the topic has no records at the offsets %d to %d", self._stream, expected, offset - 1)
            self._gap_end_offset = None
        self.next_offset = offset + 1
        return True

    def on_seek_done(self) -> None:
        """The client was moved to `seek_to`."""
        self.seek_to = None

    def _on_fault(self, what: str) -> None:
        self.faults += 1
        log.error("%s: Kafka's client %s", self._stream, what)


def is_successor(headers: RecordHeaders, before: RecordHeaders) -> bool:
    """Whether ingest made nothing between the records, or chunks, of these labels."""
    if headers.operator or before.operator:
        return False
    (k, n), (before_k, before_n) = headers.chunk, before.chunk
    if headers.epoch == before.epoch and headers.seq == before.seq:
        return (k, n) == (before_k + 1, before_n)
    if k > 1 or before_k < before_n:
        return False
    if headers.epoch == before.epoch:
        return headers.seq == before.seq + 1
    return headers.seq == 0 and headers.prev == (before.epoch, before.seq)
