"""Disk calls at a program's start: logged while the disk doesn't answer, and abandoned at a stop.

A call on a dead disk can't be interrupted. It can be abandoned: no frame has been read yet that could be lost.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TypeVar

from g3stream.host.activity import HANGING_AFTER_SECONDS, Activity, Hang

T = TypeVar("T")

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_LOG_INTERVAL_SECONDS = 60.0


class MonitoredDisk:
    """A disk whose calls are monitored."""

    def __init__(self, disk: str) -> None:
        """disk: its name in log lines, such as "the data disk"."""
        self._disk = disk
        self._activity = Activity()

    def hang(self) -> Hang | None:
        """Return the present call if it hangs. For any thread."""
        return self._activity.hang()

    def problem(self) -> str | None:
        """Return the hang in words, for the log and /healthz."""
        hang = self.hang()
        return f"{self._disk} doesn't answer: {hang.what} has taken {hang.duration_s:.0f} s" if hang else None

    def call_unless_stopped(
        self, stopping: threading.Event, what: str, call: Callable[[], T], release: Callable[[T], None]
    ) -> T | None:
        """Return what `call` returns, or raise what it raises; None if `stopping` is set before it is done.

        In that case `release` is called with a result that arrives later. what: names the call in log lines.
        """
        done: Future[T] = Future()
        with self._activity.track(what):
            # A daemon thread: a call that hangs must not keep the process from ending.
            threading.Thread(target=_carry_out, args=(call, done, release), name=what, daemon=True).start()
            started_at, log_at = time.monotonic(), time.monotonic() + HANGING_AFTER_SECONDS
            while not done.done():
                if stopping.is_set() and done.cancel():
                    seconds = time.monotonic() - started_at
                    log.warning("stopped before %s was done, which had taken %.0f s; nothing is lost", what, seconds)
                    return None
                if time.monotonic() > log_at and (problem := self.problem()):
                    log_at = time.monotonic() + _LOG_INTERVAL_SECONDS
                    log.error("%s; still waiting", problem)
                _wait(done)
        return done.result()


def _wait(done: Future[T]) -> None:
    try:
        done.exception(_POLL_SECONDS)
    except TimeoutError:  # not done yet; an error of `call` is returned, not raised
        return


def _carry_out(call: Callable[[], T], done: Future[T], release: Callable[[T], None]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - any error is raised in the waiting thread, if one still waits
        with suppress(InvalidStateError):
            done.set_exception(error)
        return
    try:
        done.set_result(result)
    except InvalidStateError:  # abandoned meanwhile
        release(result)
