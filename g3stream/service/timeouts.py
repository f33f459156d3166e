"""Run a blocking call with a timeout, or until a stop: librdkafka may wait for ever if Kafka doesn't answer.

Nothing can interrupt such a call: it runs on a thread of its own, which is abandoned after the timeout.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1


def call_unless_stopped(stopping: threading.Event, what: str, call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise what it raises; TimeoutError soon after `stopping` is set.

    what: the thread's name.
    """
    done = start_call(what, call)
    while not stopping.is_set():
        try:
            return done.result(_POLL_SECONDS)
        except TimeoutError:
            if done.done():
                raise
    return done.result(0)


def call_with_timeout(seconds: float | None, what: str, call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise what it raises; TimeoutError if it takes longer than `seconds`.

    The call continues in that case, and doesn't keep the process from ending. seconds: None for no limit. what: the
    thread's name.
    """
    if seconds is None:
        return call()
    return start_call(what, call).result(seconds)


def start_call(what: str, call: Callable[[], T]) -> Future[T]:
    """Run a call on a daemon thread, named `what`: it doesn't keep the process from ending."""
    done: Future[T] = Future()

    def carry_out() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # noqa: BLE001 - any error is raised in the calling thread
            done.set_exception(error)

    threading.Thread(target=carry_out, name=what, daemon=True).start()
    return done
