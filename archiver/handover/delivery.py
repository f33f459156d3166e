"""SinkDelivery: gives a sink one event at a time, again until it succeeds, each attempt on a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from archiver.handover.schedule import PendingEvents, retry_delay_s
from archiver.handover.sink import PendingEvent, Sink, SinkError
from g3stream.service.timeouts import start_call

log = logging.getLogger(__name__)

_ABORT_S = 4.0
"""How long an aborted attempt is waited for; a sink is promised 3 s (sink.py)."""


class SinkDelivery:
    """Runs a sink's attempts, never two at a time. For the follower's thread.

    save_position: called with each event before its first attempt, in the attempt's thread.
    """

    def __init__(self, sink: Sink, save_position: Callable[[PendingEvent], None]) -> None:
        self.delivered = 0
        """Attempts that succeeded."""
        self.failures = 0
        """Attempts that failed."""
        self.error: str | None = None
        """Why the last attempt failed; None if it succeeded."""
        self._sink = sink
        self._save_position = save_position
        self._running: Future[None] | None = None
        self._started_s = 0.0
        self._pending: PendingEvents | None = None
        """The running attempt is of their first event. None: it was aborted, and its result is ignored."""
        self._abort = threading.Event()
        self._retry_at_s = 0.0

    @property
    def running_since(self) -> float | None:
        """The start of the running attempt (time.monotonic()); None if none runs."""
        return self._started_s if self._running else None

    def begin_if_due(self, pending: PendingEvents) -> None:
        """Start an attempt for the first event, if there is one, no attempt runs and no retry delay lasts."""
        event = pending.first
        if self._running or event is None or time.monotonic() < self._retry_at_s:
            return
        abort = self._abort = threading.Event()
        self._pending, self._started_s = pending, time.monotonic()

        def deliver() -> None:
            if event.attempt == 1:
                self._save_position(event)
            self._sink.deliver(event, abort)

        self._running = start_call(f"sink {self._sink.name}", deliver)

    def wait(self, seconds: float) -> None:
        """Wait for the running attempt to end, so long at most."""
        if self._running:
            with suppress(TimeoutError):
                self._running.exception(seconds)

    def take_result(self, backlog: Callable[[], int]) -> int | None:
        """Handle the end of the attempt, if it has ended; return the event's offset if it succeeded.

        backlog: how many events wait, for the log.
        """
        if not (self._running and self._running.done()):
            return None
        error, self._running = self._running.exception(), None
        pending, event = self._pending, self._pending.first if self._pending else None
        if pending is None or event is None:
            return None  # it was aborted
        if error is None:
            pending.acknowledge()
            self.delivered += 1
            self.error, self._retry_at_s = None, 0.0
            if event.attempt > 1:
                log.info("%s: %s done, at attempt %d", self._sink.name, event.what, event.attempt)
            return event.offset
        self.failures += 1
        self.error = str(error) or type(error).__name__
        delay = retry_delay_s(event.attempt)
        self._retry_at_s = time.monotonic() + delay
        text = "%s: %s: attempt %d failed: %s; trying again in %g s, %d waiting"
        log.warning(
            *(text, self._sink.name, event.what, event.attempt, self.error, delay, backlog()),
            exc_info=None if isinstance(error, SinkError) else error,
        )
        pending.on_failure()
        return None

    def abort(self, *, wait: bool) -> bool:
        """Abort the running attempt and ignore its result; return whether there was one.

        wait: also wait for its end, for some seconds at most.
        """
        was_running = self._running is not None
        self._abort.set()
        self._pending, self.error, self._retry_at_s = None, None, 0.0
        if wait:
            self.wait(_ABORT_S)
        return was_running
