"""In-memory cache of the newest batches, so that a publisher that keeps up reads nothing from the disk."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ingest.spool.batch import SpooledRecord

CACHE_BYTES = 32 << 20
_OVERHEAD_BYTES = 900  # memory of one record besides its value, headers included (measured)


class CachedBatch(NamedTuple):
    """A batch in the cache."""

    bytes: int
    """Its size in the spool."""
    records: list[SpooledRecord]

    @property
    def memory_bytes(self) -> int:
        """Memory that the batch takes, estimated."""
        return self.bytes + _OVERHEAD_BYTES * len(self.records)


class BatchCache:
    """The newest batches by key, in at most about `max_bytes` of memory.

    Not thread-safe: the caller must hold a lock for `commit` and `pop`.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._staged: list[CachedBatch] = []
        self._batches: dict[int, CachedBatch] = {}
        self._bytes = 0

    def stage(self, batches: Iterable[tuple[list[bytes], list[SpooledRecord]]]) -> Iterator[list[bytes]]:
        """Yield the encoded batches, and stage as many of the first ones as fit into the cache."""
        self._staged = []
        free_bytes = self._max_bytes - self._bytes
        for pieces, records in batches:
            batch = CachedBatch(sum(map(len, pieces)), records)
            free_bytes -= batch.memory_bytes
            if free_bytes > 0:
                self._staged.append(batch)
            yield pieces
            if free_bytes <= 0:
                yield from (later for later, _ in batches)

    def commit(self, first_key: int) -> None:
        """Add the staged batches, which are in the spool now with keys from `first_key` on."""
        self._batches.update(enumerate(self._staged, first_key))
        self._bytes += sum(batch.memory_bytes for batch in self._staged)
        self._staged = []

    def pop(self, key: int) -> CachedBatch | None:
        """Remove and return the batch with that key; None if it isn't cached."""
        found = self._batches.pop(key, None)
        if found:
            self._bytes -= found.memory_bytes
        return found
