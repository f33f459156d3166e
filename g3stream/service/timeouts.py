"""Calls that nothing can interrupt, and that may never return: librdkafka waits for a Kafka that says nothing."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

_LOOK_SECONDS = 0.1


def unless(stopping: threading.Event, what: str, act: Callable[[], T]) -> T:
    """What `act` gives, or raises; but raises TimeoutError soon after `stopping` is set, as `within` does."""
    done = _begun(what, act)
    while not stopping.is_set():
        try:
            return done.result(_LOOK_SECONDS)
        except TimeoutError:
            if done.done():
                raise
    return done.result(0)


def within(seconds: float | None, what: str, act: Callable[[], T]) -> T:
    """What `act` gives, or raises. seconds: how long it may take, None if it may for ever; what: its thread's name.

    Raises TimeoutError if it takes longer; it goes on then, and doesn't keep the process from ending.
    """
    if seconds is None:
        return act()
    return _begun(what, act).result(seconds)


def _begun(what: str, act: Callable[[], T]) -> Future[T]:
    done: Future[T] = Future()

    def carry_out() -> None:
        try:
            done.set_result(act())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised below
            done.set_exception(error)

    threading.Thread(target=carry_out, name=what, daemon=True).start()
    return done
