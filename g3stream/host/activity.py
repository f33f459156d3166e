"""What a thread is at that may never return: a write to a dead disk. Seen from outside, without a lock."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

HANGING_AFTER_SECONDS = 10.0
"""What takes longer hangs, in all likelihood: a disk takes 3 s on a bad day."""


@dataclass(frozen=True, slots=True)
class Hang:
    """It has been at that for so long."""

    what: str
    duration_s: float


class Activity:
    """Of one thread at a time."""

    def __init__(self) -> None:
        self._now: tuple[str, float] | None = None

    @contextmanager
    def track(self, what: str) -> Iterator[None]:
        """It does that, in words that go on with `has taken 12 s`."""
        before, self._now = self._now, (what, time.monotonic())
        try:
            yield
        finally:
            self._now = before

    @property
    def is_busy(self) -> bool:
        """Whether it is at something. For any thread."""
        return self._now is not None

    def hang(self) -> Hang | None:
        """What it has been at, if that has taken too long. For any thread."""
        now = self._now
        seconds = time.monotonic() - now[1] if now else 0.0
        return Hang(now[0], seconds) if now and seconds > HANGING_AFTER_SECONDS else None


def longest(*hangs: Hang | None) -> Hang | None:
    """The one that has lasted longest, if there is one."""
    return max(filter(None, hangs), key=lambda hang: hang.duration_s, default=None)
