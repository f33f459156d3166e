"""The archive's files of a stream, by its events, and the position of a replay among them. Pure."""

from bisect import bisect_right
from collections.abc import Sequence

from archiver.core.events import FileFinished
from archiver.replay.plan import ArchivePosition
from g3stream.contract.headers import RecordHeaders
from g3stream.contract.sequence import Record

_Identity = tuple[str, int]  # epoch and seq of a record
_UNLIMITED = 2**62


class RecordedFiles:
    """Follows a replay record by record through the archive's files.

    files: in order.
    position: how far the archive is recorded.
    is_truncated: whether the topic once had records before its present first one.
    """

    def __init__(self, files: Sequence[FileFinished], position: ArchivePosition, *, is_truncated: bool) -> None:
        self.is_inside = False
        """Whether the last record of `begin` is in one of the archive's files."""
        self.settings = files[0].settings if files else position.settings
        """Those that the record was recorded with, as far as is known."""
        self._files = files
        self._by_first = {(event.first.epoch, event.first.seq): n for n, event in enumerate(files)}
        self._by_closing = {(event.closing.epoch, event.closing.seq): event for event in files}
        self._edges = _edges(files, position.open_file_first)
        self._newest_settings = position.settings
        self._open_first = position.open_file_first
        self._inside_until: _Identity | None = None
        self._finished = 0  # the number of files that end before the record
        self._last_closing = files[-1].closing.offset if files else -1
        self._events_until = max(position.offset, self._last_closing) if files or is_truncated else 0
        self._recorded_until = max(position.offset if position.is_known else -1, self._last_closing)

    def begin(self, record: Record) -> None:
        """Take the next record. If a file begins with it, note that file and its settings."""
        identity = _identity(record)
        if (number := self._by_first.get(identity)) is not None:
            event = self._files[number]
            self.is_inside, self.settings = True, event.settings
            self._inside_until = event.last.epoch, event.last.seq
        elif identity == self._open_first:
            self.is_inside, self.settings, self._inside_until = True, self._newest_settings, None

    def end(self, record: Record) -> None:
        """Leave the record. If a file ends with it, note that the next one is between files."""
        if _identity(record) == self._inside_until:
            self.is_inside = False

    def see_newest_settings(self, record: Record) -> None:
        """Between files: after the last one, note the settings that the archive has now."""
        if record.offset >= self._last_closing:
            self.settings = self._newest_settings

    def beginning_with(self, record: Record) -> FileFinished | None:
        """Return the file that begins with that record."""
        number = self._by_first.get(_identity(record))
        return None if number is None else self._files[number]

    def closed_by(self, record: Record) -> FileFinished | None:
        """Return the file that is closed by that record."""
        return self._by_closing.get(_identity(record))

    def before(self, event: FileFinished) -> FileFinished | None:
        """Return the file before that one."""
        number = self._by_first[event.first.epoch, event.first.seq]
        return self._files[number - 1] if number else None

    def newly_finished_before(self, offset: int) -> FileFinished | None:
        """Return the last file that was finished up to that offset, if it wasn't at the last call."""
        before = self._finished
        while self._finished < len(self._files) and self._files[self._finished].offset <= offset:
            self._finished += 1
        return self._files[self._finished - 1] if self._finished > before else None

    def frames_within(self, headers: RecordHeaders) -> int:
        """Return how many records certainly follow this one before the next that begins, ends or closes a file."""
        edges = self._edges.get(headers.epoch, [])
        after = bisect_right(edges, headers.seq)
        return edges[after] - headers.seq - 1 if after < len(edges) else _UNLIMITED

    def has_events_until(self, offset: int) -> bool:
        """Whether all files that were closed before that offset have their events."""
        return offset < self._events_until

    def was_recorded(self, offset: int) -> bool:
        """Whether the archive is known to have continued after that offset."""
        return offset < self._recorded_until


def _edges(files: Sequence[FileFinished], open_first: _Identity | None) -> dict[str, list[int]]:
    """Return the seqs of all records that begin, end or close a file, by epoch, in order."""
    edges: dict[str, set[int]] = {open_first[0]: {open_first[1]}} if open_first else {}
    for event in files:
        for record in (event.first, event.last, event.closing):
            edges.setdefault(record.epoch, set()).add(record.seq)
    return {epoch: sorted(seqs) for epoch, seqs in edges.items()}


def _identity(record: Record) -> _Identity:
    return record.headers.epoch, record.headers.seq
