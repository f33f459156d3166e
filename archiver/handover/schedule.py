"""Which events of g3.files are still to be handed over, and when: decisions only. No I/O, no clock, no threads."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, replace

from archiver.core.events import Event, FileFinished
from archiver.handover.sink import PendingEvent

MAX_WAITING = 1000
MAX_WAITING_BYTES = 16 << 20
"""So much is read ahead of what is handed over, so that the backlog is known exactly unless it is longer."""
_LONGEST_RETRY_S = 60.0
LATE_S = 300.0
"""An event that waits longer, or an attempt that takes longer, is worth a warning."""


def concerns(event: Event, group: str, ids: Collection[str]) -> bool:
    """Whether an event is of the archive that the group records to, and that has these ids (archive/identity.py).

    A finished file says of which archive it is, since archives have ids. Other events say only the group: no two
    archives have the same at a time.
    """
    if event.group != group:
        return False
    mark = event.checkpoint.archive if isinstance(event, FileFinished) else None
    return mark is None or mark.id in ids


def group_of(group: str, sink: str, archive_id: str) -> str:
    """The consumer group whose committed offset is a sink's position."""
    return f"{group}.{sink}.{archive_id}"


def retry_delay_s(attempts: int) -> float:
    """How long to wait after so many failed attempts: 1 s, 2 s, 4 s, … 60 s."""
    return min(2.0 ** min(attempts - 1, 10), _LONGEST_RETRY_S)


class PendingEvents:
    """The events that have been read from g3.files and not handed over yet, from a position on."""

    def __init__(self, start: int) -> None:
        self.next_offset = start
        """Of the record that is read next."""
        self._waiting: deque[PendingEvent] = deque()
        self._bytes = 0

    def add(self, offset: int, event: PendingEvent | None) -> None:
        """A record has been read. event: what it is; None if it is to be passed over."""
        if offset < self.next_offset:
            return  # of before a seek
        self.next_offset = offset + 1
        if event:
            self._waiting.append(event)
            self._bytes += len(event.value)

    @property
    def first(self) -> PendingEvent | None:
        """The event to hand over next."""
        return self._waiting[0] if self._waiting else None

    def on_failure(self) -> None:
        """The first could not be handed over; it stays the first."""
        self._waiting[0] = replace(self._waiting[0], attempt=self._waiting[0].attempt + 1)

    def acknowledge(self) -> None:
        """The first has been handed over."""
        self._bytes -= len(self._waiting.popleft().value)

    @property
    def position(self) -> int:
        """The offset to commit: everything before it is done with."""
        return self._waiting[0].offset if self._waiting else self.next_offset

    @property
    def is_full(self) -> bool:
        """Whether no more should be read for now."""
        return len(self._waiting) >= MAX_WAITING or self._bytes >= MAX_WAITING_BYTES

    def backlog(self, end: int) -> int:
        """How many events wait; if so many do that not all have been read, those of others count, too. end: the
        offset after the topic's last record."""
        return len(self._waiting) + max(0, end - self.next_offset)


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    """How a hand-over is. Times in s of time.monotonic() but for oldest_ms, ms since the epoch.

    sink: its name. active: whether this archiver does it (another one of the archive may). backlog: events that wait,
    with the one that is being handed over. oldest_ms: when the first of them was published. running_since: of the
    attempt that goes on. delivered, failures: since the start. error: why the first of them could not be handed over
    the last time, None if it could or hasn't been tried. refused: what Kafka refuses. position: all events of
    g3.files before that offset have been handed over, None if another archiver does it.
    """

    sink: str
    active: bool = False
    backlog: int = 0
    oldest_ms: int | None = None
    running_since: float | None = None
    delivered: int = 0
    failures: int = 0
    error: str | None = None
    refused: str | None = None
    position: int | None = None

    def age_s(self, now: float) -> float:
        """How long the oldest event has waited; 0 if none does. now: s since the epoch."""
        return 0.0 if self.oldest_ms is None else max(0.0, now - self.oldest_ms / 1000)

    def running_s(self, monotonic: float) -> float:
        """How long the present attempt has taken; 0 if none goes on. monotonic: time.monotonic()."""
        return 0.0 if self.running_since is None else max(0.0, monotonic - self.running_since)

    def warning(self, now: float, monotonic: float) -> str | None:
        """What an operator should know, though recording is well; None if nothing."""
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
