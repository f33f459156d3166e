"""Sink: the receiver of an archive's events, each at least once and in order, from a Follower.

To write one, make a class with the members of `Sink` below (no base class), and a Follower that feeds it:

    class Register:
        name = "register"

        def wants(self, event: Event) -> bool:
            return isinstance(event, FileFinished)

        def deliver(self, pending: PendingEvent, abort: threading.Event) -> None:
            register(self.root / pending.event.path)   # if it raises, it is called again with the same event

What a sink may rely on (follower.py guarantees it):

- Events come in the order of g3.files, of this archive only (schedule.py: `concerns`), one at a time: the next one
  comes after `deliver` has returned and the position is committed. Each event has a thread of its own.
- At least once: after a crash, or when another archiver takes over, the last event is delivered again. A sink must be
  idempotent.
- An exception means failure: it is logged, and the same event is delivered again, after 1 s at first, up to 60 s,
  for ever. Raise SinkError for expected failures (its text is logged); others are logged with a traceback.
- `deliver` may take as long as it needs: recording doesn't wait for it, and its duration is shown. But when `abort`
  is set (the archiver stops, or was removed from the group) it should return or raise within 3 s. The event then
  counts as not delivered, and is delivered again.
- The first hand-over begins with the events published from then on; later ones continue at the position.
"""

import threading
from dataclasses import dataclass
from typing import Protocol

from archiver.core.events import Event, RecordsLost


class SinkError(Exception):
    """An attempt to hand an event over failed; the message says why."""


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An event to be handed over."""

    event: Event
    value: bytes
    """Its JSON, as published on g3.files."""
    offset: int
    """Its offset in g3.files."""
    time_ms: int
    """When it was published, ms since the epoch."""
    attempt: int = 1
    """1 for the first attempt of this archiver."""

    @property
    def what(self) -> str:
        """Return the event's kind and path, for the log."""
        event = self.event
        return event.key if isinstance(event, RecordsLost) else f"{event.__struct_config__.tag} {event.path}"


class Sink(Protocol):
    """A receiver of events; the module's docstring says what it may rely on."""

    @property
    def name(self) -> str:
        """The sink's name: `[a-z0-9-]`, at most 30 characters.

        A part of its consumer group's name, and a label in metrics. No two sinks of an archive have the same, and it
        must not change: under another name the hand-over starts as for the first time.
        """

    def wants(self, event: Event) -> bool:
        """Whether this event is to be delivered; others are skipped. Called in another thread."""

    def deliver(self, pending: PendingEvent, abort: threading.Event) -> None:
        """Hand the event over; return once that is durable. Raise any exception if it failed."""
