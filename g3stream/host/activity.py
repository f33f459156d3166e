"""Detection of calls that hang, such as a write to a dead disk, by other threads and without a lock."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

HANGING_AFTER_SECONDS = 10.0
"""A call that takes longer is assumed to hang: a slow disk takes 3 s on a bad day."""


@dataclass(frozen=True, slots=True)
class Hang:
    """A call that hangs."""

    what: str
    """The call, in words that precede `has taken 12 s`."""
    duration_s: float
    """How long it has taken so far, seconds."""


class Activity:
    """The present blocking call of one thread at a time."""

    def __init__(self) -> None:
        self._now: tuple[str, float] | None = None

    @contextmanager
    def track(self, what: str) -> Iterator[None]:
        """Track the call made in this context. what: words that precede `has taken 12 s`."""
        before, self._now = self._now, (what, time.monotonic())
        try:
            yield
        finally:
            self._now = before

    @property
    def is_busy(self) -> bool:
        """Whether a call is being made. For any thread."""
        return self._now is not None

    def hang(self) -> Hang | None:
        """Return the present call if it hangs. For any thread."""
        now = self._now
        seconds = time.monotonic() - now[1] if now else 0.0
        return Hang(now[0], seconds) if now and seconds > HANGING_AFTER_SECONDS else None


def longest(*hangs: Hang | None) -> Hang | None:
    """Return the hang that has lasted longest, if there is one."""
    return max(filter(None, hangs), key=lambda hang: hang.duration_s, default=None)
