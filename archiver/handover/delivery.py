"""SinkDelivery: gives a sink one event at a time, again until it succeeds, on a thread of its own."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from archiver.handover.schedule import PendingEvents, retry_delay_s
from archiver.handover.sink import PendingEvent, Sink, SinkError

log = logging.getLogger(__name__)

_ABORT_S = 4.0
"""How long an aborted attempt is waited for; a sink is promised 3 s (sink.py)."""


class SinkDelivery:
    """Runs a sink's attempts. For the follower's thread; the sink has another.

    save_position: called with each event before its first attempt, in the sink's thread.
    """

    def __init__(self, sink: Sink, save_position: Callable[[PendingEvent], None]) -> None:
        self._save_position = save_position
        self.delivered = 0
        """Attempts that succeeded."""
        self.failures = 0
        """Attempts that failed."""
        self.error: str | None = None
        """Why the last attempt failed; None if it succeeded."""
        self._sink = sink
        self._worker = _Worker(f"sink {sink.name}")
        self._running: Future[None] | None = None
        self._started_s = 0.0
        self._pending: PendingEvents | None = (
            None  # the running attempt is of their first event; None: its result is ignored
        )
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

        self._running = self._worker.submit(deliver)

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
        event = self._pending.first if self._pending else None
        if self._pending is None or event is None:
            return None  # it was aborted
        if error is None:
            self._pending.acknowledge()
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
        expected = isinstance(error, SinkError)
        log.warning(
            *(text, self._sink.name, event.what, event.attempt, self.error, delay, backlog()),
            exc_info=None if expected else error,
        )
        self._pending.on_failure()
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

    def close(self) -> None:
        """End the sink's thread."""
        self._worker.close()


class _Worker:
    """A daemon thread that runs requests in order."""

    def __init__(self, name: str) -> None:
        self._requests: queue.SimpleQueue[tuple[Callable[[], None], Future[None]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, act: Callable[[], None]) -> Future[None]:
        """Run it after all earlier requests."""
        done: Future[None] = Future()
        self._requests.put((act, done))
        return done

    def close(self) -> None:
        """End the thread once all requests are done."""
        self._requests.put(None)

    def _run(self) -> None:
        while request := self._requests.get():
            act, done = request
            try:
                act()
            except BaseException as error:  # noqa: BLE001 - whatever it is: `take_result` handles it
                done.set_exception(error)
            else:
                done.set_result(None)
