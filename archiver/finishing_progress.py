"""How far the finishing of a file has come: written by the thread that does it, read by any."""

import time
from dataclasses import dataclass

from confluent_kafka import KafkaException

FAILING_SECONDS = 5.0
"""A step that has failed is tried again each second; what is late by more than this is a problem."""
SLOW_SECONDS = 60.0
"""Without an error a step may take so long: after a restart, a large file is read back to be checked."""


@dataclass(frozen=True, slots=True)
class FinishingStatus:
    """path: that the file will have. seconds: since it was due. step: what is being done, `publishing` for example;
    error: of the last attempt of that; of_kafka: whether that came from Kafka."""

    path: str
    seconds: float
    step: str
    error: str | None
    of_kafka: bool = False

    def problem(self, *, kafka_is_explained: bool) -> str | None:
        """Why it isn't finished, in words, if it is late. kafka_is_explained: what is wrong with Kafka is told
        elsewhere."""
        late = f"{self.path} isn't finished {self.seconds:.0f} s after its end"
        if self.error and not (self.of_kafka and kafka_is_explained):
            return f"{late}: {self.step}: {self.error}" if self.seconds > FAILING_SECONDS else None
        return f"{late}: still {self.step}" if self.seconds > SLOW_SECONDS and not kafka_is_explained else None


class FinishingProgress:
    """Of one file, from when it is due. path: that it will have."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._due = time.monotonic()
        self._at: tuple[str, Exception | None] = ("waiting for others to be finished", None)

    def begin(self, step: str) -> None:
        """That is being done now."""
        self._at = step, None

    def failed(self, error: BaseException) -> None:
        """It has failed, and will be tried again."""
        if isinstance(error, Exception):
            self._at = self._at[0], error

    def status(self) -> FinishingStatus:
        """How it is now. For any thread."""
        (step, error), seconds = self._at, time.monotonic() - self._due
        of_kafka = isinstance(error, KafkaException)
        why = error.args[0].str() if isinstance(error, KafkaException) else error and str(error)
        return FinishingStatus(self._path, seconds, step, why or None, of_kafka)
