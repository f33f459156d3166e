"""Up to which time an archive is final: everything received before it is in a finished file. Pure: no I/O.

Nothing received before that time may be missing from the finished files. So each stream limits the time:

    a file is open, or being finished                 its first frame
    records of its topic aren't archived yet          the first of them
    neither, and its sender is connected              the topic's last record: while a sender is connected, ingest
                                                      publishes at least a `quiet` each second, so newer records may
                                                      be in a spool, while Kafka is down
    neither, and its sender is disconnected           no limit: nothing was there when Kafka was asked

Finished files have an event on g3.files by then: `files_end` is read after the checkpoints. The hand-over
(handover/follower.py) must have reached that offset before the time counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from archiver.core.checkpoint import Checkpoint

MARGIN_MS = 10_000
"""A frame holds samples from a few seconds before it was received; and a new connection may not be published yet."""


@dataclass(frozen=True, slots=True)
class StreamProgress:
    """How far a stream is archived. Times are of receipt, ms since the epoch; None if there is no such record."""

    stream: str
    open_since_ms: int | None = None
    """Time of the first frame of the open file."""
    waiting_since_ms: int | None = None
    """Time of the first record that isn't archived."""
    last_ms: int | None = None
    """Time of the topic's last record."""
    is_connected: bool = False
    """Whether the sender is connected, by the topic's last record."""
    directory: int | None = None
    """The five digits of the directory that has the files of the current acquisition."""


@dataclass(frozen=True, slots=True)
class FinalizedUntil:
    """Up to when an archive is final. Times in ms since the epoch."""

    time_ms: int
    """Everything received before it is in finished files."""
    asked_ms: int
    """When Kafka was asked."""
    held_by: str | None = None
    """The stream that limits the time, and why; None if only the clock does."""
    directories: frozenset[int] = frozenset()
    """The directories (five digits) of acquisitions that haven't ended."""


def finalized_until(asked_ms: int, streams: Iterable[StreamProgress]) -> FinalizedUntil:
    """Return up to when these streams are final. asked_ms: the time before Kafka was asked."""
    streams = tuple(streams)
    held = min((found for stream in streams if (found := _held_by(stream))), default=None)
    directories = frozenset(stream.directory for stream in streams if stream.directory is not None)
    if held and held[0] < asked_ms:
        return FinalizedUntil(held[0] - MARGIN_MS, asked_ms, held[1], directories)
    return FinalizedUntil(asked_ms - MARGIN_MS, asked_ms, None, directories)


def directory_of(checkpoint: Checkpoint) -> int | None:
    """Return the directory of the current acquisition's files; None if there is no acquisition."""
    acquisition = checkpoint.state.acquisition
    if checkpoint.partial:
        return int(checkpoint.partial.path[:5])
    return int(f"{acquisition.start_s:010d}"[:5]) if acquisition else None


def _held_by(stream: StreamProgress) -> tuple[int, str] | None:
    """Return the time to which a stream limits the archive's, and why; None if it doesn't."""
    found: Sequence[tuple[int | None, str]] = (
        (stream.open_since_ms, "its file is open"),
        (stream.waiting_since_ms, "records of it wait in Kafka"),
    )
    times = [(time, f"{stream.stream}: {why}") for time, why in found if time is not None]
    if not times and stream.is_connected and stream.last_ms is not None:
        times = [(stream.last_ms, f"{stream.stream}: it is connected, and nothing newer has come")]
    return min(times, default=None)


class Promotion:
    """Holds a result back until all events of g3.files that belong to it have been handed over.

    One result waits at a time: if newer ones replaced it, none would count while events keep coming.
    """

    def __init__(self) -> None:
        self._waiting: tuple[FinalizedUntil, int] | None = None

    @property
    def wants_another(self) -> bool:
        """Whether no result waits."""
        return self._waiting is None

    def add(self, found: FinalizedUntil, files_end: int) -> None:
        """Add a result that counts once the events before the offset `files_end` have been handed over."""
        self._waiting = found, files_end

    def reached(self, position: int | None) -> FinalizedUntil | None:
        """Return the result that counts now, if there is one.

        position: FollowerStatus.position; None if another archiver hands over: then the waiting result is dropped.
        """
        if position is None:
            self._waiting = None
        elif self._waiting and position >= self._waiting[1]:
            found, self._waiting = self._waiting[0], None
            return found
        return None
