"""The check that Kafka's client delivers each offset of a stream once and in order.

A client may deliver other records than the next ones: librdkafka 2.16 moved a partition that was being read to offset
0, by a late retry of a look-up that had long been replaced. A record that isn't the next one is dropped, and reading
is moved back to the next one. Offsets may have permanent gaps (transaction markers, compaction). A gap is permanent
if the record after it is the very next one that ingest made, or else if the gap is still there when read again.
That takes 0.5 s (a fetch that waits at the topic's end must return first): too long for each transaction of a mirror.
Pure: no I/O, no clock.
"""

import logging
from collections.abc import Callable

from g3stream.contract.headers import RecordHeaders

log = logging.getLogger(__name__)


class DeliveryCheck:
    """Checks the deliveries of one stream."""

    def __init__(self, stream: str) -> None:
        self.next_offset: int | None = None
        """The only offset that is accepted next; None: none is, until `reset`."""
        self.faults = 0
        """How often the client delivered another offset."""
        self.seek_to: int | None = None
        """The offset to which the client must be moved, or None.

        To be read once all that it has delivered so far was given to `accept`; then call `on_seek_done`.
        """
        self._stream = stream
        self._gap_end_offset: int | None = None  # the end of a gap at `next_offset`, which is read a second time

    def reset(self, offset: int) -> None:
        """Start again at that offset, to which the client is moved."""
        self.next_offset, self.seek_to, self._gap_end_offset = offset, None, None

    def stop(self) -> None:
        """Accept nothing until `reset`."""
        self.next_offset = None

    def accept(self, offset: int, is_successor: Callable[[], bool]) -> bool:
        """Whether that delivery is the next one; is_successor: whether its record is known to follow the last one."""
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
        elif is_successor():
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
        """Note that the client was moved to `seek_to`."""
        self.seek_to = None

    def _on_fault(self, what: str) -> None:
        self.faults += 1
        log.error("%s: Kafka's client %s; nothing is lost or doubled", self._stream, what)


def is_successor(headers: RecordHeaders, before: RecordHeaders) -> bool:
    """Whether ingest made nothing between the records, or chunks, with these headers."""
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
