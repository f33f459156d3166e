"""What was recorded, as the catalog's queries return it: files, acquisitions, sessions, losses. Pure.

Times are ms since the epoch.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from archiver.core.segmentation import CloseReason


@dataclass(frozen=True, slots=True)
class Loss:
    """Records that were lost, or may be."""

    stream: str
    records: int | None
    """None if unknown."""
    times: int
    """How many losses this is."""
    what: str
    cause: str | None
    offset: int
    """Of the stream's topic: after the record that revealed it."""
    since_ms: int | None
    """The last record before it; None if unknown."""
    until_ms: int
    """The record that revealed it."""
    host: str
    file: str | None
    """The path of the finished file during which it was noticed."""


def lost_records(losses: Iterable[Loss]) -> int | None:
    """Return how many records were lost; None if it is unknown for one of these losses."""
    counts = [loss.records for loss in losses]
    return None if None in counts else sum(count or 0 for count in counts)


def overlaps(begin_ms: int, end_ms: int, since_ms: int | None, until_ms: int | None) -> bool:
    """Return whether something overlaps a time range; None: without that end."""
    return (since_ms is None or end_ms >= since_ms) and (until_ms is None or begin_ms <= until_ms)


def observation_name(stream_id: str, session: int) -> str:
    """Return sotodlib's name of the observation of a session by a stream."""
    return f"obs_{stream_id}_{session}"


@dataclass(frozen=True, slots=True)
class Retirement:
    """A file was deleted on purpose."""

    path: str
    stream: str
    sha256: str
    bytes: int
    time_ms: int
    who: str
    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """A file."""

    path: str
    """Below the data directory."""
    kind: str
    """finished, salvaged or adopted. Only a finished one has number, acquisition, session and times."""
    stream: str
    id: str
    """The stream id in its path."""
    start_s: int
    """The acquisition's start, as in its path."""
    number: int | None
    """Among all of the stream, from 1."""
    acquisition: int | None
    """The number of its acquisition's first file."""
    session: int | None
    """The newest session_id at its end."""
    begin_ms: int
    """Its first frame's time, or its start if that is unknown."""
    end_ms: int
    """Its last frame's time (or its start): until then it lasts, for a time range."""
    first_ms: int | None
    last_ms: int | None
    closed_ms: int | None
    closed: str | None
    """Why it was closed: start, end, lost (disconnected), gap, time (its acquisition continues)."""
    frames: int
    missing: int
    bytes: int
    sha256: str
    md5: str | None
    host: str
    what: str | None
    """Of a salvaged file: why it could not be recorded to its end."""
    who: str | None
    """Of an adopted file: who adopted it; reason: why."""
    reason: str | None
    damage: str | None
    losses: tuple[Loss, ...] = ()
    """Noticed while it was recorded."""
    retired: Retirement | None = None


@dataclass(frozen=True, slots=True)
class Acquisition:
    """An acquisition, with its files in order (of a session or a search: with those that match)."""

    files: tuple[RecordedFile, ...]

    @property
    def stream(self) -> str:
        """Its stream."""
        return self.files[0].stream

    @property
    def number(self) -> int:
        """The number of its first file: with the stream, what identifies it."""
        return self.files[0].acquisition or 0

    @property
    def first_ms(self) -> int:
        """The time of its first frame."""
        return self.files[0].begin_ms

    @property
    def last_ms(self) -> int:
        """The time of its last frame."""
        last = self.files[-1]
        return last.end_ms if last.last_ms is None else last.last_ms

    @property
    def closed(self) -> str:
        """Why its last file was closed: time, if its next file is being recorded."""
        return self.files[-1].closed or ""

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.closed != CloseReason.TIME

    @property
    def losses(self) -> list[Loss]:
        """Noticed while it was recorded."""
        return [loss for file in self.files for loss in file.losses]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was recorded in a time."""

    acquisitions: tuple[Acquisition, ...]
    """By their first frames' times."""
    others: tuple[RecordedFile, ...]
    """Salvaged and adopted files, by time."""
    losses: tuple[Loss, ...]
    """Those that belong to no finished file, by time."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session: the frames of one session_id, which SMuRF's streams of one observation have in common."""

    session: int
    streams: tuple[str, ...]
    first_ms: int
    last_ms: int
    files: int
    frames: int
    missing: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Search:
    """What files are looked for; all conditions must be met."""

    streams: Collection[str] = ()
    """Of one of these; of any if empty."""
    session: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    missing: bool = False
    """Only those with missing frames, or during which records were lost."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the files that were found."""

    files: tuple[RecordedFile, ...]
    total: int
    """How many were found."""
