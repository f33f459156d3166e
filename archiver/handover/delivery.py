"""One event after another through a sink, each until it has succeeded; on a thread of its own."""

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
"""How long an attempt may take to end once it is aborted; its sink is told 3 s."""


class HandingOver:
    """Feeds a sink. For one thread, which isn't the sink's. note: is given each event first, in the sink's thread.

    delivered, failures: how many attempts ended so. error: why the last one failed, None if it succeeded.
    """

    def __init__(self, sink: Sink, note: Callable[[PendingEvent], None]) -> None:
        self._note = note
        self.delivered = self.failures = 0
        self.error: str | None = None
        self._sink = sink
        self._worker = _Worker(f"sink {sink.name}")
        self._running: Future[None] | None = None
        self._since = 0.0
        self._of: PendingEvents | None = None  # whose first event that is; None: its end doesn't count
        self._abort = threading.Event()
        self._retry_at = 0.0

    @property
    def running_since(self) -> float | None:
        """Since when (time.monotonic()) an attempt has been going on, None if none is."""
        return self._since if self._running else None

    def begin_if_due(self, pending: PendingEvents) -> None:
        """Hand over the first event, if there is one, and nothing else is going on."""
        event = pending.first
        if self._running or event is None or time.monotonic() < self._retry_at:
            return
        abort = self._abort = threading.Event()
        self._of, self._since = pending, time.monotonic()

        def deliver() -> None:
            if event.attempt == 1:
                self._note(event)
            self._sink.deliver(event, abort)

        self._running = self._worker.begin(deliver)

    def wait(self, seconds: float) -> None:
        """Until the attempt that is going on has ended, so long at most."""
        if self._running:
            with suppress(TimeoutError):
                self._running.exception(seconds)

    def ended(self, backlog: Callable[[], int]) -> int | None:
        """See whether the attempt has ended; gives the offset of the event if it has been handed over now."""
        if not (self._running and self._running.done()):
            return None
        error, self._running = self._running.exception(), None
        event = self._of.first if self._of else None
        if self._of is None or event is None:
            return None  # it was aborted
        if error is None:
            self._of.done()
            self.delivered += 1
            self.error, self._retry_at = None, 0.0
            if event.attempt > 1:
                log.info("%s: %s done, at attempt %d", self._sink.name, event.what, event.attempt)
            return event.offset
        self.failures += 1
        self.error = str(error) or type(error).__name__
        delay = retry_delay_s(event.attempt)
        self._retry_at = time.monotonic() + delay
        text = "%s: %s: attempt %d failed: %s; trying again in %g s, %d waiting"
        expected = isinstance(error, SinkError)
        log.warning(
            *(text, self._sink.name, event.what, event.attempt, self.error, delay, backlog()),
            exc_info=None if expected else error,
        )
        self._of.failed()
        return None

    def abort(self, *, wait: bool) -> bool:
        """Forget what is going on: it ends soon, and what comes of it doesn't count. Gives whether there was any.

        wait: until it has ended, for some seconds at most.
        """
        was_running = self._running is not None
        self._abort.set()
        self._of, self.error, self._retry_at = None, None, 0.0
        if wait:
            self.wait(_ABORT_S)
        return was_running

    def close(self) -> None:
        """Nothing more will be handed over."""
        self._worker.close()


class _Worker:
    """A daemon thread that does one thing after another."""

    def __init__(self, name: str) -> None:
        self._asked: queue.SimpleQueue[tuple[Callable[[], None], Future[None]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def begin(self, act: Callable[[], None]) -> Future[None]:
        """Do it after all before."""
        done: Future[None] = Future()
        self._asked.put((act, done))
        return done

    def close(self) -> None:
        """Nothing more will be asked for."""
        self._asked.put(None)

    def _run(self) -> None:
        while asked := self._asked.get():
            act, done = asked
            try:
                act()
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where the end is seen to
                done.set_exception(error)
            else:
                done.set_result(None)
