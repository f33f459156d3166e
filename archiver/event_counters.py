"""Counters of the events published to g3.files since the start, kept across rebalances."""

import threading
from collections import Counter

from archiver.core.events import Event, FileFinished, RecordsLost
from archiver.core.segmentation import CloseReason
from g3stream.contract.sequence import LossCause

_MAX_EVENTS = 1000
"""The latest events that are remembered: while a commit fails, its losses are published again with the next."""


class EventCounters:
    """Counts each event that this archiver has published since its start once. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.files: Counter[tuple[str, CloseReason]] = Counter()
        """Finished files, by stream and reason."""
        self.losses: Counter[tuple[str, LossCause]] = Counter()
        """Losses, by stream and cause."""
        self.lost_records: Counter[tuple[str, LossCause]] = Counter()
        """Records known to be lost, by stream and cause."""
        self.missing: Counter[str] = Counter()
        """Frames that were never received, by stream."""
        self._recent: dict[str, Event] = {}  # by key, the latest last

    def on_published(self, event: Event) -> None:
        """Count an event that is on g3.files now."""
        with self._lock:
            before = self._recent.pop(event.key, None)
            self._recent[event.key] = event
            if len(self._recent) > _MAX_EVENTS:
                del self._recent[next(iter(self._recent))]
            if isinstance(event, RecordsLost) and event.cause:
                times, records = _counts(event)
                times_before, records_before = _counts(before)  # published again, it may hold more losses
                self.losses[event.stream, event.cause] += max(0, times - times_before)
                self.lost_records[event.stream, event.cause] += max(0, records - records_before)
            elif isinstance(event, FileFinished) and not isinstance(before, FileFinished):
                self.files[event.stream, event.why] += 1
                self.missing[event.stream] += event.missing

    def streams(self) -> set[str]:
        """Return the streams that have counts, including those that another archiver records now."""
        with self._lock:
            return {stream for counted in (self.files, self.losses) for stream, _ in counted}


def _counts(event: Event | None) -> tuple[int, int]:
    """Return how many losses an event reports, and how many records are known to be lost by them."""
    return (event.times, event.records or 0) if isinstance(event, RecordsLost) else (0, 0)
