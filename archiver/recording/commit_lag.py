"""Since when a stream has had something to commit that isn't committed."""

import time

LATE_SECONDS = 15.0
"""Nearly always it is a second or two; 15 while one of three brokers dies, with Kafka's default settings."""


class UncommittedTimer:
    """For the loop's thread; `seconds` for any."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    @property
    def seconds(self) -> float:
        """How long the first of it has waited; 0 if all is committed."""
        since = self._since_s
        return time.monotonic() - since if since is not None else 0.0

    def update(self, *, has_uncommitted: bool) -> None:
        """Whether there is something to commit now."""
        if not has_uncommitted:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = time.monotonic()

    def on_committed(self, until: float) -> None:
        """What there was at that time (time.monotonic()) is committed; what has come since is younger."""
        if self._since_s is not None:
            self._since_s = max(self._since_s, until)
