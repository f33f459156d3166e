"""Which of a topic's records are in which file, as an archive's events and its commit say."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from archiver.archive.location import Location, Within
from archiver.core.checkpoint import Checkpoint, RecordId
from archiver.core.events import FileFinished
from archiver.core.paths import NameFormat
from archiver.core.segmentation import Acquisition
from archiver.core.sequence import Record


@dataclass(frozen=True, slots=True)
class Span:
    """A file, or the one that is being recorded, as far as it is committed, and which records it holds."""

    path: str
    first: RecordId
    last: RecordId
    carry: int
    bytes: int
    acquisition: Acquisition
    event: FileFinished | None

    @property
    def by_session(self) -> bool:
        """Whether it is named so."""
        return self.acquisition.settings.name_format is NameFormat.SESSION


def spans(
    location: Location, stream: str, events: Sequence[FileFinished], checkpoint: Checkpoint | None
) -> list[Span]:
    """The files, and last the one that is open, if it isn't among them already."""
    found = [
        Span(e.path, e.first, e.last, len(e.carry), e.bytes, Acquisition(e.start, e.id, e.settings), e)
        for e in events
    ]
    partial = checkpoint.partial if checkpoint else None
    acquisition = checkpoint.state.acquisition if checkpoint else None
    if partial and acquisition and not any(it.first == partial.first for it in found[-1:]):
        path = location.shown(Within(stream, private=True), partial.name)
        found.append(Span(path, partial.first, partial.last, len(partial.carry), partial.length, acquisition, None))
    return found


class Index:
    """Finds the file that has a record in its midst."""

    def __init__(self, files: Sequence[Span]) -> None:
        self._mixed = [it for it in files if it.first.epoch != it.last.epoch]  # two ingests took turns: rare
        self._plain: dict[str, list[Span]] = {}
        for it in sorted(files, key=_first_seq):
            if it.first.epoch == it.last.epoch:
                self._plain.setdefault(it.first.epoch, []).append(it)

    def holding(self, epoch: str, seq: int) -> Span | None:
        """The file."""
        plain = self._plain.get(epoch, [])
        at = bisect_right(plain, seq, key=_first_seq) - 1
        if at >= 0 and seq <= plain[at].last.seq:
            return plain[at]
        for it in self._mixed:
            if (it.first.epoch == epoch and it.first.seq <= seq) or (it.last.epoch == epoch and seq <= it.last.seq):
                return it
        return None


def _first_seq(it: Span) -> int:
    return it.first.seq


@dataclass(slots=True)
class Strays:
    """Frames that are in no file: the first and the last, and how many."""

    first: Record | None = None
    last: Record | None = None
    count: int = 0

    def add(self, record: Record) -> None:
        """The next."""
        self.first = self.first or record
        self.last = record
        self.count += 1

    def include(self, others: Self) -> None:
        """Those, too, that came among these."""
        records = [it for it in (self.first, self.last, others.first, others.last) if it]
        self.first = min(records, key=_offset, default=None)
        self.last = max(records, key=_offset, default=None)
        self.count += others.count


def _offset(record: Record) -> int:
    return record.offset
