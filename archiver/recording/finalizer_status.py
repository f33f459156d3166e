"""How far the finishing of a file has come: written by the thread that does it, read by any."""

import time
from dataclasses import dataclass

from confluent_kafka import KafkaException

FAILING_SECONDS = 5.0
"""A step that has failed is tried again each second; what is late by more than this is a problem."""
SLOW_SECONDS = 60.0
"""Without an error a step may take so long: after a restart, a large file is read back to be checked."""
_OF_DISK = frozenset({"making durable", "publishing", "adding to SHA256SUMS", "tidying up after"})
"""Steps that take a disk milliseconds, however long the file is."""
_HANGING_SECONDS = 20.0
"""What takes longer hangs, in all likelihood: to publish takes six syncs, each of them 3 s on a bad day."""


@dataclass(frozen=True, slots=True)
class FinishingStatus:
    """path: that the file will have. seconds: since it was due. step: what is being done, `publishing` for example,
    since step_seconds; error: of the last attempt of that; of_kafka: whether that came from Kafka."""

    path: str
    seconds: float
    step: str
    error: str | None
    of_kafka: bool = False
    step_seconds: float = 0.0

    @property
    def hangs(self) -> bool:
        """Whether the disk has not answered for so long that it hangs, in all likelihood."""
        return self.step in _OF_DISK and self.error is None and self.step_seconds > _HANGING_SECONDS

    def problem(self, *, kafka_is_explained: bool) -> str | None:
        """Why it isn't finished, in words, if it is late, unless its disk hangs: that is told once for all streams.
        kafka_is_explained: what is wrong with Kafka is told elsewhere."""
        if self.hangs:
            return None
        late = f"{self.path} isn't finished {self.seconds:.0f} s after its end"
        if self.error and not (self.of_kafka and kafka_is_explained):
            return f"{late}: {self.step}: {self.error}" if self.seconds > FAILING_SECONDS else None
        return f"{late}: still {self.step}" if self.seconds > SLOW_SECONDS and not kafka_is_explained else None


class FinishingProgress:
    """Of one file, from when it is due. path: that it will have."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._due = time.monotonic()
        self._at: tuple[str, float, Exception | None] = ("waiting for others to be finished", self._due, None)

    def begin(self, step: str) -> None:
        """That is being done now."""
        self._at = step, time.monotonic(), None

    def failed(self, error: BaseException) -> None:
        """It has failed, and will be tried again."""
        if isinstance(error, Exception):
            step, since, _ = self._at
            self._at = step, since, error

    def status(self) -> FinishingStatus:
        """How it is now. For any thread."""
        (step, since, error), now = self._at, time.monotonic()
        of_kafka = isinstance(error, KafkaException)
        why = error.args[0].str() if isinstance(error, KafkaException) else error and str(error)
        return FinishingStatus(self._path, now - self._due, step, why or None, of_kafka, now - since)
