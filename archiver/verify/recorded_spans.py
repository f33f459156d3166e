"""Which records of a topic are in which file, by the archive's events and its commit."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from archiver.archive.location import Location, Within
from archiver.core.checkpoint import Checkpoint, RecordId
from archiver.core.events import FileFinished
from archiver.core.paths import NameFormat
from archiver.core.segmentation import Acquisition
from g3stream.contract.sequence import Record


@dataclass(frozen=True, slots=True)
class FileSpan:
    """The records of a finished file, or of the open one as far as it is committed."""

    path: str
    first: RecordId
    last: RecordId
    carry: int
    bytes: int
    acquisition: Acquisition
    event: FileFinished | None

    @property
    def by_session(self) -> bool:
        """Whether the file is named by session."""
        return self.acquisition.settings.name_format is NameFormat.SESSION


def spans(
    location: Location, stream: str, events: Sequence[FileFinished], checkpoint: Checkpoint | None
) -> list[FileSpan]:
    """Return the finished files, and last the open one, if it isn't among them already."""
    found = [
        FileSpan(e.path, e.first, e.last, len(e.carry), e.bytes, Acquisition(e.start, e.id, e.settings), e)
        for e in events
    ]
    partial = checkpoint.partial if checkpoint else None
    acquisition = checkpoint.state.acquisition if checkpoint else None
    if partial and acquisition and not any(span.first == partial.first for span in found[-1:]):
        path = location.shown(Within(stream, private=True), partial.name)
        found.append(
            FileSpan(path, partial.first, partial.last, len(partial.carry), partial.length, acquisition, None)
        )
    return found


class SpanIndex:
    """Finds the file that contains a record."""

    def __init__(self, files: Sequence[FileSpan]) -> None:
        # records of two ingests alternated: rare
        self._interleaved = [span for span in files if span.first.epoch != span.last.epoch]
        self._plain: dict[str, list[FileSpan]] = {}
        for span in sorted(files, key=_first_seq):
            if span.first.epoch == span.last.epoch:
                self._plain.setdefault(span.first.epoch, []).append(span)

    def find(self, epoch: str, seq: int) -> FileSpan | None:
        """Return the file that contains this record, None if none does."""
        plain = self._plain.get(epoch, [])
        at = bisect_right(plain, seq, key=_first_seq) - 1
        if at >= 0 and seq <= plain[at].last.seq:
            return plain[at]
        for span in self._interleaved:
            if (span.first.epoch == epoch and span.first.seq <= seq) or (
                span.last.epoch == epoch and seq <= span.last.seq
            ):
                return span
        return None


def _first_seq(span: FileSpan) -> int:
    return span.first.seq


@dataclass(slots=True)
class UnmatchedFrames:
    """Successive frames that are in no file: the first, the last and their number."""

    first: Record | None = None
    last: Record | None = None
    count: int = 0

    def add(self, *records: Record | None, count: int = 1) -> None:
        """Add one; or others that came between these: their first, their last and their number."""
        known = [record for record in (self.first, self.last, *records) if record]
        self.first, self.last = min(known, key=_offset, default=None), max(known, key=_offset, default=None)
        self.count += count


def _offset(record: Record) -> int:
    return record.offset
