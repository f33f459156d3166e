"""SinkDelivery: gives a sink one event at a time, again until it succeeds, each event on a thread of its own."""

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial

from archiver.handover.sink import PendingEvent, Sink, SinkError
from g3stream.service.supervisor import Backoff, supervise
from g3stream.service.timeouts import start_call

log = logging.getLogger(__name__)

RETRIES = Backoff(min_s=1.0, max_s=60.0, stable_s=math.inf)
_ABORT_S = 4.0
"""How long an aborted attempt is waited for; a sink is promised 3 s (sink.py)."""


class SinkDelivery:
    """Hands events over to a sink, never two at a time. For the follower's thread.

    save_position: called with each event before its first attempt. backlog: returns how many events wait, for the
    log. Both are called in the event's thread.
    """

    def __init__(self, sink: Sink, save_position: Callable[[PendingEvent], None], backlog: Callable[[], int]) -> None:
        self.delivered = 0
        """Attempts that succeeded."""
        self.failures = 0
        """Attempts that failed."""
        self.error: str | None = None
        """Why the last attempt failed; None if it succeeded."""
        self.running_since: float | None = None
        """The start of the running attempt (time.monotonic()); None if none runs."""
        self._sink = sink
        self._save_position = save_position
        self._backlog = backlog
        self._in_progress: Future[None] | None = None
        self._abort = threading.Event()

    def begin(self, event: PendingEvent) -> None:
        """Begin to hand this event over, unless one is in progress, though it may be aborted."""
        if not self._in_progress:
            self.error, self._abort = None, threading.Event()
            deliver = partial(self._deliver, event, self._abort)
            self._in_progress = start_call(f"sink {self._sink.name}", deliver)

    def wait(self, seconds: float) -> bool:
        """Wait for the event in progress, so long at most; return whether there is one."""
        if self._in_progress:
            with suppress(TimeoutError):
                self._in_progress.exception(seconds)
        return self._in_progress is not None

    def take_done(self) -> bool:
        """Return whether an event has been handed over since the last call. Not one that was aborted."""
        if not (self._in_progress and self._in_progress.done()):
            return False
        in_progress, self._in_progress = self._in_progress, None
        in_progress.result()
        if self._abort.is_set():
            return False
        self.delivered += 1
        self.error = None
        return True

    def abort(self, *, wait: bool) -> bool:
        """Abort the event in progress and ignore its result; return whether an attempt was running.

        wait: also wait for its end, for some seconds at most.
        """
        was_running = self.running_since is not None
        self._abort.set()
        if wait:
            self.wait(_ABORT_S)
        return was_running

    def _deliver(self, event: PendingEvent, abort: threading.Event) -> None:
        """Hand an event over, in its thread: until that succeeds, or is aborted."""
        name = self._sink.name

        def deliver() -> None:
            self.running_since = time.monotonic()
            try:
                self._sink.deliver(event, abort)
            finally:
                self.running_since = None

        def on_failure(error: Exception, next_step: str) -> None:
            nonlocal event
            if abort.is_set():
                return
            self.failures += 1
            self.error = str(error) or type(error).__name__
            text, found = "%s: %s: attempt %d failed: %s%s, %d waiting", (name, event.what, event.attempt, self.error)
            is_expected = isinstance(error, SinkError)
            log.warning(text, *found, next_step, self._backlog(), exc_info=None if is_expected else error)
            event = replace(event, attempt=event.attempt + 1)

        self._save_position(event)
        supervise(deliver, RETRIES, abort, on_failure)
        if event.attempt > 1 and not abort.is_set():
            log.info("%s: %s done, at attempt %d", name, event.what, event.attempt)
