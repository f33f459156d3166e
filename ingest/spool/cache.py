"""The bundles that were just spooled: a publisher that keeps up need not read them from the disk."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ingest.spool.batch import Spooled

FRESH_BYTES = 32 << 20
_OVERHEAD_BYTES = 900  # what a record takes in memory besides its bytes, with its headers (measured)


class FreshBundle(NamedTuple):
    """bytes: of the bundle, as it was spooled."""

    bytes: int
    records: list[Spooled]

    @property
    def memory(self) -> int:
        """About how many bytes it takes here."""
        return self.bytes + _OVERHEAD_BYTES * len(self.records)


class Fresh:
    """A few of the bundles in the spool, in about `most_bytes` of memory, by their keys.

    `spooled` and `take` are for one thread at a time.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._coming: list[FreshBundle] = []
        self._bundles: dict[int, FreshBundle] = {}
        self._bytes = 0

    def keeping(self, bundles: Iterable[tuple[list[bytes], list[Spooled]]]) -> Iterator[list[bytes]]:
        """The bundles' bytes, in pieces, to be spooled; and keep the first of them, as far as there is room."""
        self._coming = []
        room = self._most_bytes - self._bytes
        for pieces, records in bundles:
            bundle = FreshBundle(sum(map(len, pieces)), records)
            room -= bundle.memory
            if room > 0:
                self._coming.append(bundle)
            yield pieces
            if room <= 0:
                yield from (later for later, _ in bundles)

    def spooled(self, first: int) -> None:
        """They are in the spool, with the keys from `first` on."""
        self._bundles.update(enumerate(self._coming, first))
        self._bytes += sum(bundle.memory for bundle in self._coming)
        self._coming = []

    def take(self, key: int) -> FreshBundle | None:
        """The bundle with that key, if it is here; from now on it is not."""
        found = self._bundles.pop(key, None)
        if found:
            self._bytes -= found.memory
        return found
