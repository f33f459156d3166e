"""The files that the archive has of a stream, as its events tell, and where among them a replay is. Pure."""

from collections.abc import Sequence

from archiver.core.events import FileFinished
from archiver.core.sequence import Record
from archiver.replay.plan import ArchivePosition

_Identity = tuple[str, int]  # epoch and seq of a record


class RecordedFiles:
    """files: in order. position: how far the archive is beyond them. is_truncated: whether the topic once had records
    before those that it has.

    is_inside: whether the record `begin` was called with last is in one of the archive's files, whatever ours is.
    settings: those that it was recorded with, as far as is known.
    """

    def __init__(self, files: Sequence[FileFinished], position: ArchivePosition, *, is_truncated: bool) -> None:
        self.is_inside = False
        self.settings = files[0].settings if files else position.settings
        self._files = files
        self._by_first = {(event.first.epoch, event.first.seq): n for n, event in enumerate(files)}
        self._by_closing = {(event.closing.epoch, event.closing.seq): event for event in files}
        self._newest_settings = position.settings
        self._open_first = position.open_file_first
        self._inside_until: _Identity | None = None
        self._finished = 0  # how many of the files end before the record
        self._last_closing = files[-1].closing.offset if files else -1
        self._events_until = max(position.offset, self._last_closing) if files or is_truncated else 0
        self._recorded_until = max(position.offset if position.is_known else -1, self._last_closing)

    def begin(self, record: Record) -> None:
        """The next record. If a file begins with it, note that we are in that one, and with which settings."""
        identity = _identity(record)
        if (number := self._by_first.get(identity)) is not None:
            event = self._files[number]
            self.is_inside, self.settings = True, event.settings
            self._inside_until = event.last.epoch, event.last.seq
        elif identity == self._open_first:
            self.is_inside, self.settings, self._inside_until = True, self._newest_settings, None

    def end(self, record: Record) -> None:
        """That record is done with. If a file ends with it, note that we are between two."""
        if _identity(record) == self._inside_until:
            self.is_inside = False

    def see_newest_settings(self, record: Record) -> None:
        """Between two files: those after the last one begin with the settings that the archive has now."""
        if record.offset >= self._last_closing:
            self.settings = self._newest_settings

    def beginning_with(self, record: Record) -> FileFinished | None:
        """The file of which that is the first record."""
        number = self._by_first.get(_identity(record))
        return None if number is None else self._files[number]

    def closed_by(self, record: Record) -> FileFinished | None:
        """The file of which that is the closing record."""
        return self._by_closing.get(_identity(record))

    def before(self, event: FileFinished) -> FileFinished | None:
        """The file before that one."""
        number = self._by_first[event.first.epoch, event.first.seq]
        return self._files[number - 1] if number else None

    def newly_finished_before(self, offset: int) -> FileFinished | None:
        """The last file that was finished up to there, if it wasn't the last time."""
        before = self._finished
        while self._finished < len(self._files) and self._files[self._finished].offset <= offset:
            self._finished += 1
        return self._files[self._finished - 1] if self._finished > before else None

    def has_events_until(self, offset: int) -> bool:
        """Whether each file that was closed before that record has its event."""
        return offset < self._events_until

    def was_recorded(self, offset: int) -> bool:
        """Whether the archive went on after that record, for all that is known."""
        return offset < self._recorded_until


def _identity(record: Record) -> _Identity:
    return record.headers.epoch, record.headers.seq
