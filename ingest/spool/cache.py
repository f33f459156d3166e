"""The bundles that were just spooled: a publisher that keeps up need not read them from the disk."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ingest.spool.batch import SpooledRecord

CACHE_BYTES = 32 << 20
_OVERHEAD_BYTES = 900  # what a record takes in memory besides its bytes, with its headers (measured)


class CachedBatch(NamedTuple):
    """bytes: of the bundle, as it was spooled."""

    bytes: int
    records: list[SpooledRecord]

    @property
    def memory_bytes(self) -> int:
        """About how many bytes it takes here."""
        return self.bytes + _OVERHEAD_BYTES * len(self.records)


class BatchCache:
    """A few of the bundles in the spool, in about `max_bytes` of memory, by their keys.

    `commit` and `pop` are for one thread at a time.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._staged: list[CachedBatch] = []
        self._batches: dict[int, CachedBatch] = {}
        self._bytes = 0

    def stage(self, batches: Iterable[tuple[list[bytes], list[SpooledRecord]]]) -> Iterator[list[bytes]]:
        """The bundles' bytes, in pieces, to be spooled; and keep the first of them, as far as there is room."""
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
        """They are in the spool, with the keys from `first_key` on."""
        self._batches.update(enumerate(self._staged, first_key))
        self._bytes += sum(batch.memory_bytes for batch in self._staged)
        self._staged = []

    def pop(self, key: int) -> CachedBatch | None:
        """The bundle with that key, if it is here; from now on it is not."""
        found = self._batches.pop(key, None)
        if found:
            self._bytes -= found.memory_bytes
        return found
