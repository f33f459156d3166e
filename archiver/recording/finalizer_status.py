"""How far the finishing of a file has come: written by the thread that does it, read by any."""

import time
from dataclasses import dataclass
from enum import StrEnum

from confluent_kafka import KafkaException

FAILING_SECONDS = 5.0
"""A step that has failed is tried again each second; what is late by more than this is a problem."""
SLOW_SECONDS = 60.0
"""Without an error a step may take so long: after a restart, a large file is read back to be checked."""
_HANGING_SECONDS = 20.0
"""What takes longer hangs, in all likelihood: to publish takes six syncs, each of them 3 s on a bad day."""


class FinalizeStep(StrEnum):
    """What is being done, in the words that the log and the health checks have for it; finalizer.py has the order."""

    WAIT = "waiting for others to be finished"
    PUBLISH_LOSS = "publishing a loss before"
    SYNC = "making durable"
    READ_BACK = "reading back"
    COMMIT_END = "committing the end of"
    CHECK = "checking"
    PUBLISH = "publishing"
    FIND_EVENT = "looking for the event of"
    ADD_SUM = "adding to SHA256SUMS"
    PUBLISH_EVENT = "publishing the event of"
    REMOVE_PARTIAL = "tidying up after"
    COMMIT = "committing"


_DISK_STEPS = frozenset({FinalizeStep.SYNC, FinalizeStep.PUBLISH, FinalizeStep.ADD_SUM, FinalizeStep.REMOVE_PARTIAL})
"""Steps that take a disk milliseconds, however long the file is."""


@dataclass(frozen=True, slots=True)
class FinalizeStatus:
    """path: that the file will have. total_s: since it was due. step: what is being done, since step_s; error:
    of the last attempt of that; of_kafka: whether that came from Kafka."""

    path: str
    total_s: float
    step: FinalizeStep
    error: str | None
    of_kafka: bool = False
    step_s: float = 0.0

    @property
    def hangs(self) -> bool:
        """Whether the disk has not answered for so long that it hangs, in all likelihood."""
        return self.step in _DISK_STEPS and self.error is None and self.step_s > _HANGING_SECONDS

    def problem(self, *, kafka_reported: bool) -> str | None:
        """Why it isn't finished, in words, if it is late, unless its disk hangs: that is told once for all streams.
        kafka_reported: what is wrong with Kafka is told elsewhere."""
        if self.hangs:
            return None
        late = f"{self.path} isn't finished {self.total_s:.0f} s after its end"
        if self.error and not (self.of_kafka and kafka_reported):
            return f"{late}: {self.step}: {self.error}" if self.total_s > FAILING_SECONDS else None
        return f"{late}: still {self.step}" if self.total_s > SLOW_SECONDS and not kafka_reported else None


class FinalizeProgress:
    """Of one file, from when it is due. path: that it will have."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._deadline_s = time.monotonic()
        self._state: tuple[FinalizeStep, float, Exception | None] = (FinalizeStep.WAIT, self._deadline_s, None)

    def start_step(self, step: FinalizeStep) -> None:
        """That is being done now."""
        self._state = step, time.monotonic(), None

    def step_failed(self, error: BaseException) -> None:
        """It has failed, and will be tried again."""
        if isinstance(error, Exception):
            step, since, _ = self._state
            self._state = step, since, error

    def status(self) -> FinalizeStatus:
        """How it is now. For any thread."""
        (step, since, error), now = self._state, time.monotonic()
        of_kafka = isinstance(error, KafkaException)
        why = error.args[0].str() if isinstance(error, KafkaException) else error and str(error)
        return FinalizeStatus(self._path, now - self._deadline_s, step, why or None, of_kafka, now - since)
