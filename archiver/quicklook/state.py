"""What quick look knows of each stream, and of its own programs. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from archiver.quicklook.look import Look

_LONGEST_RETRY_S: Final = 900.0
_LONGEST_PAUSE_S: Final = 8.0


@dataclass(frozen=True, slots=True)
class DecoderStatus:
    """The decoder's process. Times are in ms since the epoch."""

    is_running: bool = False
    restarts: int = 0
    problem: str | None = None
    """Why it doesn't run, or has not answered the last request; None if it has."""
    since_ms: int | None = None
    """Since when there is a problem."""
    versions: str = ""


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream. Times are in ms since the epoch."""

    look: Look | None = None
    """The last one that succeeded."""
    looked_ms: int | None = None
    """When its topic was last read."""
    received_ms: int | None = None
    """When the last record of `look` was received by its ingest."""
    end_offset: int | None = None
    """Of the topic, when it was last read."""
    error: str | None = None
    """Why there is no newer look; None if there is none because nothing new was received."""
    error_since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    """All that is known. Times are in ms since the epoch."""

    seconds: float
    """Of each look."""
    every_s: float
    """Between two looks at a stream, if there is time for it."""
    started_ms: int
    streams: Mapping[str, StreamState] = field(default_factory=dict)
    is_listed: bool = False
    """Whether Kafka has said so far which streams there are."""
    decoder: DecoderStatus = field(default_factory=DecoderStatus)
    kafka_error: str | None = None
    """Why Kafka can't be read; None if it can."""
    kafka_since_ms: int | None = None


def next_stream(due_s: Mapping[str, float], streams: Iterable[str]) -> str | None:
    """Return the stream to look at next: the one that is due first; None if there is none.

    due_s: when streams are due; one that isn't in it, is new.
    """
    return min(streams, key=lambda stream: (due_s.get(stream, float("-inf")), stream), default=None)


def retry_s(every_s: float, failures: int) -> float:
    """Return when a stream is looked at again, after looks at which the decoder died: a frame of its may be why.

    Others come first. failures: how many in a row.
    """
    return min(every_s * 2.0 ** min(failures, 10), max(every_s, _LONGEST_RETRY_S))


def pause_s(took_s: float, share: float) -> float:
    """Return how long to pause after a look, so that looks take at most this share of the time.

    One that takes longer than 2 s has waited for other programs, which have a higher priority.
    """
    return min(took_s * (1 / share - 1), _LONGEST_PAUSE_S)


def age_s(state: StreamState, now_ms: int) -> float | None:
    """Return how old the last look's data are, since their receipt; None if there is no look."""
    return None if state.received_ms is None else max(0.0, (now_ms - state.received_ms) / 1000)
