"""Whether reading falls behind the stream. Pure: time is a parameter."""

from typing import Final

MAX_GROWTH_MS: Final = 5_000


class Lag:
    """How old records are when they are read, since reading began.

    Only growth counts: records that come late, as from ingest's spool after an outage of Kafka, or with times of a
    clock that is wrong, are old although nothing newer could be read.
    """

    def __init__(self) -> None:
        self._least_ms: int | None = None

    def is_growing(self, record_ms: int, now_ms: int) -> bool:
        """Return whether this record is so much older than others were that newer ones wait. Both since the epoch."""
        lag_ms = now_ms - record_ms
        self._least_ms = lag_ms if self._least_ms is None else min(self._least_ms, lag_ms)
        return lag_ms - self._least_ms > MAX_GROWTH_MS
