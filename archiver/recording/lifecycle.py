"""The lifecycle of a stream's recorder: its phases, and which may follow which.

                ┌──────────────────────────────────────┐ killed within its last steps
    ──► Recovering ──► Recording ──► Closing ──► Finalizing ──► Recording
            │              │
         Halted       Unreadable ──► Recording

From each of those in the middle row, back to Recovering where the disk or the file has failed; from all, Released.
`FOLLOWING` is the table; whatever isn't in it is a fault of this program.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from archiver.core.segmentation import CloseReason
from archiver.kafka.invalid_records import InvalidRecord
from archiver.recording.finalizer import Finalizer


@dataclass(frozen=True, slots=True)
class Recovering:
    """Another thread finds out where recording continues, and reopens the file (recovery/)."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Records are written as they come."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The next record breaks the contract; recording continues once it is in quarantine."""

    record: InvalidRecord
    reported: str | None = None
    """What was reported, once it is known not to be in quarantine."""


@dataclass(frozen=True, slots=True)
class Closing:
    """The open file must be finished before the next record; first a snapshot of it must be committed, or fail."""

    reason: CloseReason


@dataclass(frozen=True, slots=True)
class Finalizing:
    """The open file is being finished, on another thread."""

    finalizer: Finalizer


@dataclass(frozen=True, slots=True)
class Halted:
    """Recording can't be continued without guessing; an operator must act."""

    why: str


@dataclass(frozen=True, slots=True)
class Released:
    """The file is closed: another recorder may continue the stream."""

    why: str | None
    """The error of this program that was the reason; None if there was none."""
    finalizer: Finalizer | None
    """It may still be at work, until it notices."""


Phase = Recovering | Recording | Unreadable | Closing | Finalizing | Halted | Released

FOLLOWING: Mapping[type[Phase], tuple[type[Phase], ...]] = {
    Recovering: (Recording, Finalizing, Halted, Released),
    Recording: (Closing, Unreadable, Recovering, Released),
    Unreadable: (Unreadable, Recording, Recovering, Released),
    Closing: (Finalizing, Recovering, Released),
    Finalizing: (Recording, Recovering, Released),
    Halted: (Released,),
    Released: (),
}
"""By phase: those that may follow."""


def following(before: Phase, after: Phase) -> Phase:
    """Return the phase `after`. Raises AssertionError if it may not follow."""
    assert type(after) in FOLLOWING[type(before)], f"{after} can't follow {before}"
    return after
