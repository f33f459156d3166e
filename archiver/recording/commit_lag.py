"""The age of a stream's uncommitted records."""

import time

LATE_SECONDS = 15.0
"""Normally it is a second or two; 15 while one of three brokers dies, with Kafka's default settings."""


class UncommittedTimer:
    """Measures how long records have been uncommitted. For the loop's thread; `seconds` is thread-safe."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    @property
    def seconds(self) -> float:
        """Age of the oldest uncommitted record; 0 if all are committed."""
        since_s = self._since_s
        return time.monotonic() - since_s if since_s is not None else 0.0

    def update(self, *, has_uncommitted: bool) -> None:
        """Start or stop the timer."""
        if not has_uncommitted:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = time.monotonic()

    def on_committed(self, until: float) -> None:
        """Note that all up to that time is committed. until: monotonic, s."""
        if self._since_s is not None:
            self._since_s = max(self._since_s, until)
