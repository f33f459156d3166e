"""Which events of g3.files are still to be handed over. Pure: no I/O, clock or threads."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from archiver.core.events import Event, FileFinished
from archiver.handover.sink import PendingEvent

MAX_WAITING = 1000
MAX_WAITING_BYTES = 16 << 20
"""The most that is read ahead of the hand-over; within it the backlog is counted exactly."""
LATE_S = 300.0
"""An event that has waited longer, or an attempt that has taken longer, is reported in a warning."""


def concerns(event: Event, group: str, ids: Collection[str]) -> bool:
    """Whether an event is of the archive of this group and with these ids (archive/identity.py).

    The event of a finished file has the archive's id, since archives have ids. Other events have only the group,
    which no two archives have at the same time.
    """
    if event.group != group:
        return False
    mark = event.checkpoint.archive if isinstance(event, FileFinished) else None
    return mark is None or mark.id in ids


def group_of(group: str, sink: str, archive_id: str) -> str:
    """Return the name of the consumer group whose committed offset is a sink's position."""
    return f"{group}.{sink}.{archive_id}"


class PendingEvents:
    """The events that were read from g3.files and not handed over yet. start: the first offset to read."""

    def __init__(self, start: int) -> None:
        self.next_offset = start
        """Offset of the record that is read next."""
        self._waiting: deque[PendingEvent] = deque()
        self._bytes = 0

    def add(self, offset: int, event: PendingEvent | None) -> None:
        """Add a record that was read. event: None if it is to be skipped."""
        if offset < self.next_offset:
            return  # read before a seek
        self.next_offset = offset + 1
        if event:
            self._waiting.append(event)
            self._bytes += len(event.value)

    @property
    def first(self) -> PendingEvent | None:
        """The event to hand over next."""
        return self._waiting[0] if self._waiting else None

    def acknowledge(self) -> int:
        """Remove the first event, which was handed over; return its offset."""
        event = self._waiting.popleft()
        self._bytes -= len(event.value)
        return event.offset

    @property
    def position(self) -> int:
        """The offset to commit: every record before it is handed over or skipped."""
        return self._waiting[0].offset if self._waiting else self.next_offset

    @property
    def is_full(self) -> bool:
        """Whether reading should pause."""
        return len(self._waiting) >= MAX_WAITING or self._bytes >= MAX_WAITING_BYTES

    def backlog(self, end: int) -> int:
        """Return how many events wait; records that aren't read yet all count, also those of other archives.

        end: the offset after the topic's last record.
        """
        return len(self._waiting) + max(0, end - self.next_offset)


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    """The state of a hand-over."""

    sink: str
    """The sink's name."""
    active: bool = False
    """Whether this archiver does the hand-over; else another one of the archive does, or none."""
    backlog: int = 0
    """Events that wait, including the one that is being handed over."""
    oldest_ms: int | None = None
    """When the first of them was published, ms since the epoch."""
    running_since: float | None = None
    """Start of the running attempt, s of time.monotonic()."""
    delivered: int = 0
    """Attempts that succeeded since the start."""
    failures: int = 0
    """Attempts that failed since the start."""
    error: str | None = None
    """Why the last attempt of the first event failed; None if there was none."""
    refused: str | None = None
    """The error that an operator must fix, such as a right that Kafka refuses."""
    position: int | None = None
    """All events of g3.files before this offset have been handed over; None if another archiver does it."""

    def age_s(self, now: float) -> float:
        """Return how long the oldest event has waited; 0 if none waits. now: s since the epoch."""
        return 0.0 if self.oldest_ms is None else max(0.0, now - self.oldest_ms / 1000)

    def running_s(self, monotonic: float) -> float:
        """Return how long the running attempt has taken; 0 if none runs. monotonic: time.monotonic()."""
        return 0.0 if self.running_since is None else max(0.0, monotonic - self.running_since)

    def warning(self, now: float, monotonic: float) -> str | None:
        """Return a warning for the operator, though recording is healthy; None if there is none."""
        waiting = f"{self.backlog} event{'s' * (self.backlog != 1)} waiting"
        if self.refused:
            return f"{self.sink}: {self.refused}"
        if self.error:
            return f"{self.sink}: {waiting}, the oldest for {self.age_s(now):.0f} s: {self.error}"
        if (running := self.running_s(monotonic)) > LATE_S:
            return f"{self.sink}: has been running for {running:.0f} s, {waiting}"
        if (age := self.age_s(now)) > LATE_S:
            return f"{self.sink}: {waiting}, the oldest for {age:.0f} s"
        return None
