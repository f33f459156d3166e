"""Supervision: what fails is started again, after a wait that grows, until it is stopped."""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """The wait between a failure and the next start: doubled with each failure, from `min_s` to `max_s`."""

    min_s: float
    max_s: float
    stable_s: float
    """After a failure that came later than this, the wait is `min_s` again."""

    def delay_s(self, previous_s: float, ran_s: float) -> float:
        """Return the wait after a failure. previous_s: the wait before, 0 at first. ran_s: how long it ran since."""
        return self.min_s if ran_s > self.stable_s else min(max(self.min_s, 2 * previous_s), self.max_s)


def supervise(
    run_once: Callable[[], None],
    backoff: Backoff,
    stop_requested: threading.Event,
    on_failure: Callable[[Exception, str], None],
) -> None:
    """Call `run_once` until it returns, or raises once `stop_requested` is set.

    on_failure: called with each error, and with what happens next: `; trying again in 5 s`, or nothing at a stop.
    """
    delay_s = 0.0
    while not stop_requested.is_set():
        started_at = time.monotonic()
        try:
            run_once()
            break
        except Exception as error:  # noqa: BLE001 - whatever it is, `on_failure` reports it, and it may pass
            delay_s = backoff.delay_s(delay_s, time.monotonic() - started_at)
            on_failure(error, "" if stop_requested.is_set() else f"; trying again in {delay_s:g} s")
        stop_requested.wait(delay_s)


class Service(ABC):
    """Work on a thread of its own, restarted after a failure. It can be started again after its end.

    name: its name in the log. (A command would exit instead, and systemd or an operator would restart it.)
    """

    def __init__(self, name: str, backoff: Backoff) -> None:
        self.name = name
        self.stop_requested = threading.Event()
        """Set by `stop`."""
        self.error: str | None = None
        """The error that ended its last run; None if none did."""
        self._backoff = backoff
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the service. It must not be running."""
        self.stop_requested.clear()
        self.error = None
        # A daemon: a disk or a resolver that hangs must not keep the process from exiting.
        how = self._run_once, self._backoff, self.stop_requested, self._on_failure
        self._thread = threading.Thread(target=supervise, args=how, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Request an orderly stop; `join` waits for it. For any thread, but not for a signal handler."""
        self.stop_requested.set()
        self.interrupt()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the service has ended. Returns False after the timeout."""
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @abstractmethod
    def run_once(self) -> None:
        """Run until interrupted."""

    @abstractmethod
    def interrupt(self) -> None:
        """Make `run_once` return. For any thread, also when it isn't running."""

    @abstractmethod
    def describe(self, error: Exception) -> str | None:
        """Return an error of `run_once` in words; None if it is a fault of this program, and needs a traceback."""

    def _run_once(self) -> None:
        self.run_once()
        self.error = None

    def _on_failure(self, error: Exception, next_step: str) -> None:
        text = self.describe(error)
        if text is None:
            log.error("%s: failed by an error of this program", self.name, exc_info=error)
        self.error = text or f"{type(error).__name__}: {error}"
        log.error("%s: %s%s", self.name, self.error, next_step)
