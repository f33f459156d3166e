"""Blocking calls that may never return, of librdkafka or of a dead disk: run with a timeout, or until a stop.

Nothing can interrupt such a call: it runs on a thread of its own, which is abandoned then, and which the process
doesn't wait for at its end.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.1


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
    while not stopping.is_set():
        try:
            return done.result(POLL_SECONDS)
        except TimeoutError:
            if done.done():
                raise
    return done.result(0)


def call_with_timeout(seconds: float | None, what: str, call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise what it raises; TimeoutError if it takes longer than `seconds`.

    seconds: None for no limit.
    """
    return call() if seconds is None else start_call(what, call).result(seconds)
