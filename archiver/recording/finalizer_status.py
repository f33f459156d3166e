"""How far the finishing of a file has come: written by the thread that does it, read by any."""

import time
from dataclasses import dataclass

from confluent_kafka import KafkaException

FAILING_SECONDS = 5.0
"""A step that has failed is tried again each second; what is late by more than this is a problem."""
SLOW_SECONDS = 60.0
"""Without an error a step may take so long: after a restart, a large file is read back to be checked."""
_DISK_STEPS = frozenset({"making durable", "publishing", "adding to SHA256SUMS", "tidying up after"})
"""Steps that take a disk milliseconds, however long the file is."""
_HANGING_SECONDS = 20.0
"""What takes longer hangs, in all likelihood: to publish takes six syncs, each of them 3 s on a bad day."""


@dataclass(frozen=True, slots=True)
class FinalizeStatus:
    """path: that the file will have. total_s: since it was due. step: what is being done, `publishing` for example,
    since step_seconds; error: of the last attempt of that; of_kafka: whether that came from Kafka."""

    path: str
    total_s: float
    step: str
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
        self._state: tuple[str, float, Exception | None] = (
            "waiting for others to be finished",
            self._deadline_s,
            None,
        )

    def start_step(self, step: str) -> None:
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
