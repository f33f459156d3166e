"""Sink: where the events of an archive are handed over to, each at least once and in order, by a Follower.

How to write one: a class with the members of `Sink` below, no base class needed, and a Follower to feed it:

    class Register:
        name = "register"

        def wants(self, event: Event) -> bool:
            return isinstance(event, FileFinished)

        def deliver(self, pending: PendingEvent, abort: threading.Event) -> None:
            register(self.root / pending.event.path)   # whatever it raises, it is called again with the same event

What a sink may rely on (follower.py keeps it):

- Events come in the order of g3.files, of this archive only (schedule.py: `concerns`), one at a time: the next one
  comes once `deliver` has returned for this one, and Kafka knows that. `deliver` is always called in one and the same
  thread of its own, so a connection to a database may live in the sink.
- At least once: after a crash, or when another archiver takes over, the last event comes again. It must do no harm.
- An exception means "not done": it is logged, and the same event comes again, after 1 s at first, 60 s at most, for
  ever. Raise SinkError for what is to be expected (its text is logged); anything else is logged with its traceback.
- It may take as long as it needs: recording doesn't wait for it, and how long it takes is shown. But when `abort` is
  set (the archiver stops, or has lost the group) it should return or raise within 3 s. What it has done then doesn't
  count, and comes again.
- The first time of all it begins with what is published from then on; afterwards it goes on where it was.
"""

import threading
from dataclasses import dataclass
from typing import Protocol

from archiver.core.events import Event, RecordsLost


class SinkError(Exception):
    """An event could not be handed over this time; the message says why."""


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An event to be handed over. value: its JSON, as published on g3.files. offset, time_ms: where and when it was
    published there. attempt: 1 for the first one since this archiver has it."""

    event: Event
    value: bytes
    offset: int
    time_ms: int
    attempt: int = 1

    @property
    def what(self) -> str:
        """Which event it is, for people."""
        event = self.event
        return event.key if isinstance(event, RecordsLost) else f"{event.__struct_config__.tag} {event.path}"


class Sink(Protocol):
    """Takes events. See the module for what it may rely on."""

    @property
    def name(self) -> str:
        """A part of the consumer group that holds its position, and a label in metrics: `[a-z0-9-]`, 30 at most. No
        two sinks of an archive have the same, and it never changes: under another name it begins anew."""

    def wants(self, event: Event) -> bool:
        """Whether `deliver` is to get such an event; others are passed over. Called in another thread."""

    def deliver(self, pending: PendingEvent, abort: threading.Event) -> None:
        """Hand it over; returns once that is done for good. Raises anything if it isn't."""
