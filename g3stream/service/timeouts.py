"""Blocking calls that may never return, of librdkafka or of a dead disk: run with a timeout, or until a stop.

Nothing can interrupt such a call: it runs on a thread of its own, which is abandoned then, and which the process
doesn't wait for at its end.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import TypeVar

from g3stream.host.activity import Activity
from g3stream.log.throttle import LogThrottle

T = TypeVar("T")

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_STATVFS_TIMEOUT_SECONDS = 0.5


def start_call(what: str, call: Callable[[], T], release: Callable[[T], None] = lambda _: None) -> Future[T]:
    """Start a call on a thread named `what`. Returns the future with what it returns, or raises.

    release: called with a result that arrives after the future was cancelled.
    """
    done: Future[T] = Future()

    def carry_out() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - any error is raised in the waiting thread, if one still waits
            if done.set_running_or_notify_cancel():
                done.set_exception(error)
            return
        if done.set_running_or_notify_cancel():
            done.set_result(result)
        else:
            release(result)

    threading.Thread(target=carry_out, name=what, daemon=True).start()
    return done


def call_unless_stopped(stopping: threading.Event, what: str, call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise what it raises; TimeoutError soon after `stopping` is set."""
    done = start_call(what, call)
    while not (stopping.is_set() or wait([done], _POLL_SECONDS).done):
        pass
    return done.result(0)


def call_with_timeout(seconds: float | None, what: str, call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise what it raises; TimeoutError if it takes longer than `seconds`.

    seconds: None for no limit.
    """
    return call() if seconds is None else start_call(what, call).result(seconds)


class MonitoredDisk:
    """A disk whose calls, at a program's start, are logged while it doesn't answer, and abandoned at a stop.

    No frame has been read yet that could be lost by that. disk: its name in log lines, such as "the data disk".
    """

    def __init__(self, disk: str) -> None:
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
            while not wait([done], _POLL_SECONDS).done:
                if stopping.is_set() and done.cancel():
                    seconds = time.monotonic() - started_at
                    log.warning("stopped before %s was done, which had taken %.0f s; nothing is lost", what, seconds)
                    return None
                if (problem := self.problem()) and throttle.due(time.monotonic()):
                    log.error("%s; still waiting", problem)
        return done.result()


class DiskSpace:
    """Queries of free space, which don't hang with a dead NFS server. For one thread at a time.

    A path with an unanswered query is not queried again meanwhile.
    """

    def __init__(self) -> None:
        self._queries: dict[Path, Future[os.statvfs_result]] = {}

    def of(self, path: Path) -> os.statvfs_result | None:
        """Return a path's statvfs; None if it fails or doesn't answer in time."""
        # If one of many paths on the same disk hangs, the others aren't waited for.
        seconds = _STATVFS_TIMEOUT_SECONDS if not self._queries else 0.0
        query = self._queries.get(path) or start_call("statvfs", partial(os.statvfs, path))
        self._queries[path] = query
        try:
            return query.result(seconds)
        except OSError:  # there is no such path; or a TimeoutError
            return None
        finally:
            if query.done():
                self._queries.pop(path)
