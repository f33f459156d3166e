"""Disk calls at a program's start: logged while the disk doesn't answer, and abandoned at a stop.

A call on a dead disk can't be interrupted. It can be abandoned: no frame has been read yet that could be lost.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from typing import TypeVar

from g3stream.host.activity import Activity
from g3stream.service.log_throttle import LogThrottle
from g3stream.service.timeouts import POLL_SECONDS, start_call

T = TypeVar("T")

log = logging.getLogger(__name__)


class MonitoredDisk:
    """A disk whose calls are monitored."""

    def __init__(self, disk: str) -> None:
        """disk: its name in log lines, such as "the data disk"."""
        self._disk = disk
        self._activity = Activity()

    def problem(self) -> str | None:
        """Return in words that a call hangs, for the log and /healthz; None if none does. For any thread."""
        hang = self._activity.hang()
        return f"{self._disk} doesn't answer: {hang.what} has taken {hang.duration_s:.0f} s" if hang else None

    def call_unless_stopped(
        self, stopping: threading.Event, what: str, call: Callable[[], T], release: Callable[[T], None]
    ) -> T | None:
        """Return what `call` returns, or raise what it raises; None if `stopping` is set before it is done.

        In that case `release` is called with a result that arrives later. what: names the call in log lines.
        """
        done, started_at, throttle = start_call(what, call, release), time.monotonic(), LogThrottle()
        with self._activity.track(what):
            while not wait([done], POLL_SECONDS).done:
                if stopping.is_set() and done.cancel():
                    seconds = time.monotonic() - started_at
                    log.warning("stopped before %s was done, which had taken %.0f s; nothing is lost", what, seconds)
                    return None
                if (problem := self.problem()) and throttle.due(time.monotonic()):
                    log.error("%s; still waiting", problem)
        return done.result()
