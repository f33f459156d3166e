"""In-memory cache of the newest batches, so that a publisher that keeps up reads nothing from the disk."""

import threading
from collections import deque
from collections.abc import Sequence

from ingest.spool.batch import Batch

CACHE_BYTES = 32 << 20


class BatchCache:
    """The newest batches by key, in at most about `max_bytes` of memory. For any thread."""

    def __init__(self, max_bytes: int) -> None:
        self.free_bytes = max_bytes
        """How much memory it may still take."""
        self._batches: deque[Batch] = deque()  # in the order of their keys
        self._lock = threading.Lock()

    def put(self, batches: Sequence[Batch]) -> None:
        """Add the newest batches, which are in the spool now."""
        with self._lock:
            self._batches.extend(batches)
            self.free_bytes -= sum(batch.memory_bytes for batch in batches)

    def pop(self, key: int) -> Batch | None:
        """Remove and return the batch with that key; None if it isn't cached.

        Older ones are dropped: they were read from the disk before they could be put here.
        """
        with self._lock:
            while self._batches and self._batches[0].key <= key:
                batch = self._batches.popleft()
                self.free_bytes += batch.memory_bytes
                if batch.key == key:
                    return batch
        return None
