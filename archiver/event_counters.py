"""What an archiver has told on g3.files since its start, counted; streams come and go meanwhile."""

import threading
from collections import Counter

from archiver.core.events import Event, FileFinished, RecordsLost
from archiver.core.segmentation import CloseReason
from archiver.core.sequence import LossCause

_MAX_EVENTS = 1000
"""Of those told last: while a commit fails, its losses are told again with the next."""


class EventCounters:
    """Counts the events that this archiver has published since its start, each once; for several threads.

    files, losses, lost_records: by stream and reason. missing: frames that were never received, by stream.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.files: Counter[tuple[str, CloseReason]] = Counter()
        self.losses: Counter[tuple[str, LossCause]] = Counter()
        self.lost_records: Counter[tuple[str, LossCause]] = Counter()
        self.missing: Counter[str] = Counter()
        self._recent: dict[str, Event] = {}  # by key, the latest last

    def on_published(self, event: Event) -> None:
        """This event is on g3.files now."""
        with self._lock:
            before = self._recent.pop(event.key, None)
            self._recent[event.key] = event
            if len(self._recent) > _MAX_EVENTS:
                del self._recent[next(iter(self._recent))]
            if isinstance(event, RecordsLost) and event.cause:
                times, records = _counts(event)
                times_before, records_before = _counts(before)  # told again, it may be more losses
                self.losses[event.stream, event.cause] += max(0, times - times_before)
                self.lost_records[event.stream, event.cause] += max(0, records - records_before)
            elif isinstance(event, FileFinished) and not isinstance(before, FileFinished):
                self.files[event.stream, event.why] += 1
                self.missing[event.stream] += event.missing

    def streams(self) -> set[str]:
        """Of which there is something to tell, also if another archiver has them now."""
        with self._lock:
            return {stream for counted in (self.files, self.losses) for stream, _ in counted}


def _counts(event: Event | None) -> tuple[int, int]:
    """How many losses an event tells of, and how many records that are known to be lost."""
    return (event.times, event.records or 0) if isinstance(event, RecordsLost) else (0, 0)
