"""Up to which time an archive is final: everything received before is in a finished file. Decisions only; no I/O.

Nothing may be received before that time and not be in a finished file yet. So of each stream these hold it back:

    a file is open, or being finished                 its first frame
    records of its topic aren't archived yet          the first of them
    neither, and its sender was connected last        the topic's last record: a sender that is connected gives
                                                      at least a `quiet` each second, so what is newer is on its
                                                      way, perhaps in a spool while Kafka is away
    neither, and the connection was lost              nothing: when Kafka was asked, nothing was there

What is finished has an event on g3.files, too, by then: `files_end` is read after the checkpoints. Whoever hands
those events over (handover/follower.py) has to be there before the time counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from archiver.core.checkpoint import Checkpoint

MARGIN_MS = 10_000
"""A frame holds samples from before it was received, a second or a few; and a connection made just now has perhaps
not been published yet."""


@dataclass(frozen=True, slots=True)
class StreamProgress:
    """How far the archive of a stream is. Times in ms since the epoch, of receipt; None if there is no such thing.

    open_since_ms: the first frame of the file that is open. waiting_since_ms: the first record that isn't archived.
    last_ms: the topic's last record. is_connected: as that record says. directory: the five digits of the directory
    in which the acquisition that goes on has its files.
    """

    stream: str
    open_since_ms: int | None = None
    waiting_since_ms: int | None = None
    last_ms: int | None = None
    is_connected: bool = False
    directory: int | None = None


@dataclass(frozen=True, slots=True)
class FinalizedUntil:
    """time_ms: everything before it is in finished files. asked_ms: when Kafka was asked. held_by: the stream that
    holds it back, and by what; None if it goes with the clock. directories: those that go on getting files (five
    digits)."""

    time_ms: int
    asked_ms: int
    held_by: str | None = None
    directories: frozenset[int] = frozenset()


def finalized_until(asked_ms: int, streams: Iterable[StreamProgress]) -> FinalizedUntil:
    """Up to when these are final. asked_ms: when Kafka was asked for the first of it."""
    streams = tuple(streams)
    held = min((found for stream in streams if (found := _held_by(stream))), default=None)
    directories = frozenset(stream.directory for stream in streams if stream.directory is not None)
    if held and held[0] < asked_ms:
        return FinalizedUntil(held[0] - MARGIN_MS, asked_ms, held[1], directories)
    return FinalizedUntil(asked_ms - MARGIN_MS, asked_ms, None, directories)


def directory_of(checkpoint: Checkpoint) -> int | None:
    """The directory in which the acquisition that goes on has its files; None if none does."""
    acquisition = checkpoint.state.acquisition
    if checkpoint.partial:
        return int(checkpoint.partial.path[:5])
    return int(f"{acquisition.start_s:010d}"[:5]) if acquisition else None


def _held_by(stream: StreamProgress) -> tuple[int, str] | None:
    """Since when, and by what, a stream holds the time back."""
    found: Sequence[tuple[int | None, str]] = (
        (stream.open_since_ms, "its file is open"),
        (stream.waiting_since_ms, "records of it wait in Kafka"),
    )
    times = [(time, f"{stream.stream}: {why}") for time, why in found if time is not None]
    if not times and stream.is_connected and stream.last_ms is not None:
        times = [(stream.last_ms, f"{stream.stream}: it is connected, and nothing newer has come")]
    return min(times, default=None)


class Promotion:
    """Lets a time count once all events of g3.files that belong to it have been handed over.

    One time waits for that at a time: else, while events come all the time, none would ever count.
    """

    def __init__(self) -> None:
        self._waiting: tuple[FinalizedUntil, int] | None = None

    @property
    def wants_another(self) -> bool:
        """Whether none waits."""
        return self._waiting is None

    def add(self, found: FinalizedUntil, files_end: int) -> None:
        """A time that counts once the events before `files_end` have been handed over."""
        self._waiting = found, files_end

    def reached(self, position: int | None) -> FinalizedUntil | None:
        """The time that counts now, if one does. position: up to it all events have been handed over; None: it is
        another archiver that does that, and what was found out here is void."""
        if position is None:
            self._waiting = None
        elif self._waiting and position >= self._waiting[1]:
            found, self._waiting = self._waiting[0], None
            return found
        return None
