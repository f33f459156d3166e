"""The progress of finishing a file: written by the thread that does it, read by any."""

import time
from dataclasses import dataclass
from enum import StrEnum

from confluent_kafka import KafkaException

FAILING_SECONDS = 5.0
"""A failed step is tried again each second; a file that is late by more than this is a problem."""
SLOW_SECONDS = 60.0
"""Without an error, a step may take this long: after a restart, a large file is read back."""
_HANGING_SECONDS = 20.0
"""A disk step that takes longer probably hangs: to publish takes six syncs, each of them 3 s on a bad day."""


class FinalizeStep(StrEnum):
    """The steps of finishing a file, as the log and the health checks show them; finalizer.py has their order."""

    WAIT = "waiting for other files to be finished"
    PUBLISH_LOSS = "publishing a loss before"
    SYNC = "making durable"
    READ_BACK = "reading back"
    COMMIT_END = "committing the end of"
    CHECK = "checking"
    PUBLISH = "publishing"
    FIND_EVENT = "looking for the event of"
    ADD_SUM = "adding to SHA256SUMS"
    PUBLISH_EVENT = "publishing the event of"
    REMOVE_PARTIAL = "removing the partial of"
    COMMIT = "committing"


_DISK_STEPS = frozenset({FinalizeStep.SYNC, FinalizeStep.PUBLISH, FinalizeStep.ADD_SUM, FinalizeStep.REMOVE_PARTIAL})
"""Steps that take a disk milliseconds, whatever the size of the file."""


@dataclass(frozen=True, slots=True)
class FinalizeStatus:
    """The progress of finishing a file, at one moment."""

    path: str
    """That the file will have."""
    total_s: float
    """Since the file's end."""
    step: FinalizeStep
    error: str | None
    """Of the step's last attempt."""
    of_kafka: bool = False
    """Whether the error is Kafka's."""
    step_s: float = 0.0
    """Since the step began."""

    @property
    def hangs(self) -> bool:
        """Whether the disk has not answered for so long that it probably hangs."""
        return self.step in _DISK_STEPS and self.error is None and self.step_s > _HANGING_SECONDS

    def problem(self, *, kafka_reported: bool) -> str | None:
        """Return why a late file isn't finished, in words; None if its disk hangs, which is reported for all streams.

        kafka_reported: whether Kafka's problem is reported elsewhere.
        """
        if self.hangs:
            return None
        late = f"{self.path} isn't finished {self.total_s:.0f} s after its end"
        if self.error and not (self.of_kafka and kafka_reported):
            return f"{late}: {self.step}: {self.error}" if self.total_s > FAILING_SECONDS else None
        return f"{late}: still {self.step}" if self.total_s > SLOW_SECONDS and not kafka_reported else None


class FinalizeProgress:
    """Progress of one file, from its end on. path: that it will have."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._started_s = time.monotonic()
        self._state: tuple[FinalizeStep, float, Exception | None] = (FinalizeStep.WAIT, self._started_s, None)

    def start_step(self, step: FinalizeStep) -> None:
        """Note that a step begins."""
        self._state = step, time.monotonic(), None

    def step_failed(self, error: Exception) -> None:
        """Note that the step failed, and will be tried again."""
        step, since, _ = self._state
        self._state = step, since, error

    def status(self) -> FinalizeStatus:
        """Return the present status. Thread-safe."""
        (step, since, error), now = self._state, time.monotonic()
        of_kafka = isinstance(error, KafkaException)
        why = error.args[0].str() if isinstance(error, KafkaException) else error and str(error)
        return FinalizeStatus(self._path, now - self._started_s, step, why or None, of_kafka, now - since)
