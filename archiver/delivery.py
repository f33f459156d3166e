"""What Kafka's client delivers of a stream: each offset once and in order, which is demanded here, not believed.

A client may deliver other records than those that are next: librdkafka 2.16 moved a partition that was being read to
offset 0, by a late retry of a look-up that had long been replaced. What isn't next is dropped, and read again from
where it should be. Offsets may have holes for good (transaction markers, compaction): a hole that is there again when
it is read once more is one of those. Pure: no I/O, no clock.
"""

import logging

log = logging.getLogger(__name__)


class Deliveries:
    """Of one stream.

    next_offset: of the delivery that is accepted next; None: none is, until `begin`. faults: how often the client
    delivered something else. seek_to: to what offset the client is to be moved for that, None if it needn't be; to be
    looked at once all that it has delivered by now was given to `accept`, then `sought`.
    """

    def __init__(self, stream: str) -> None:
        self.next_offset: int | None = None
        self.faults = 0
        self.seek_to: int | None = None
        self._stream = stream
        self._hole_ends_at: int | None = None  # a hole at `next_offset` that was seen, and is read once more

    def begin(self, offset: int) -> None:
        """The client has been moved to that offset, or is going to be."""
        self.next_offset, self.seek_to, self._hole_ends_at = offset, None, None

    def accept(self, offset: int) -> bool:
        """Whether that delivery is the next one."""
        expected = self.next_offset
        if expected is None or self.seek_to is not None:
            return False
        if offset == expected:
            if self._hole_ends_at is not None:
                self._fault(f"had skipped the offsets {expected} to {self._hole_ends_at - 1}")
                self._hole_ends_at = None
        elif offset < expected:
            self._fault(f"delivered offset {offset} again, where {expected} was next; reading from there")
            self.seek_to = expected
            return False
        elif offset != self._hole_ends_at:
            self.seek_to, self._hole_ends_at = expected, offset
            return False
        else:
            log.info("%s: the topic has no records at the offsets %d to %d", self._stream, expected, offset - 1)
            self._hole_ends_at = None
        self.next_offset = offset + 1
        return True

    def sought(self) -> None:
        """The client was moved to `seek_to`."""
        self.seek_to = None

    def _fault(self, what: str) -> None:
        self.faults += 1
        log.error("%s: Kafka's client %s", self._stream, what)
