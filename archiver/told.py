"""What an archiver has told on g3.files since its start, counted; streams come and go meanwhile."""

import threading
from collections import Counter

from archiver.event import Event, FileFinished, RecordsLost
from archiver.segmentation import Why
from archiver.sequence import Cause

_MOST_KEYS = 1000
"""Of the events told last: while a commit fails, its losses are told again with the next."""


class Told:
    """Counts the events that this archiver has published since its start, each once; for several threads.

    files, losses, lost_records: by stream and reason. missing: frames that were never received, by stream.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.files: Counter[tuple[str, Why]] = Counter()
        self.losses: Counter[tuple[str, Cause]] = Counter()
        self.lost_records: Counter[tuple[str, Cause]] = Counter()
        self.missing: Counter[str] = Counter()
        self._keys: dict[str, None] = {}  # the latest last

    def told(self, event: Event) -> None:
        """This event is on g3.files now."""
        with self._lock:
            if event.key in self._keys:
                return
            self._keys[event.key] = None
            if len(self._keys) > _MOST_KEYS:
                del self._keys[next(iter(self._keys))]
            if isinstance(event, FileFinished):
                self.files[event.stream, event.why] += 1
                self.missing[event.stream] += event.missing
            elif isinstance(event, RecordsLost) and event.cause:
                self.losses[event.stream, event.cause] += 1
                self.lost_records[event.stream, event.cause] += event.records or 0

    def streams(self) -> set[str]:
        """Of which there is something to tell, also if another archiver has them now."""
        with self._lock:
            return {stream for counted in (self.files, self.losses) for stream, _ in counted}
