"""Streams that an error which nobody expected has stopped: when each is tried again, from what Kafka has of it.

Such an error is a fault of this program, or of its environment (no more threads, say), and what it has left of a
stream's state isn't to be trusted. So all that is gone on with is what was committed. That may help, or fail again at
the same place; the other streams are recorded all the while.
"""

from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from confluent_kafka import KafkaException

from archiver.kafka.group_consumer import CommittedOffset, GroupConsumer
from archiver.recording.executors import Executors

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 60.0
"""Between a failure and the next try; as `ingest --streams` has it."""
_FORGOTTEN_SECONDS = 600.0
"""A stream that has been well for so long begins with the first pause again."""


@dataclass(slots=True)
class _Failure:
    """Of one stream. failed_at_s, retry_at_s: monotonic."""

    failed_at_s: float
    pause_s: float
    retry_at_s: float
    request: Future[CommittedOffset] | None = None


class StreamFailures:
    """For the loop's thread."""

    def __init__(self, consumer: GroupConsumer, executors: Executors) -> None:
        self._consumer = consumer
        self._executors = executors
        self._failures: dict[str, _Failure] = {}

    def failed(self, stream: str, now_s: float) -> float:
        """A stream has failed; gives after how many seconds it is tried again. now_s: monotonic."""
        last = self._failures.get(stream)
        fresh = last is None or now_s - last.failed_at_s > _FORGOTTEN_SECONDS
        pause = FIRST_PAUSE_SECONDS if last is None or fresh else min(2 * last.pause_s, LONGEST_PAUSE_SECONDS)
        self._failures[stream] = _Failure(now_s, pause, now_s + pause)
        return pause

    def due(self, stream: str, now_s: float) -> CommittedOffset | None:
        """From where to try a failed stream again; None if it isn't time yet, or Kafka hasn't answered."""
        failure = self._failures[stream]
        if failure.request is None:
            if now_s >= failure.retry_at_s:
                failure.request = self._executors.recovery.submit(
                    stream, partial(self._committed, stream), stateless=False
                )
            return None
        if not failure.request.done():
            return None
        asked, failure.request = failure.request, None
        failure.retry_at_s = now_s + failure.pause_s
        try:
            return asked.result()
        except KafkaException:  # which is told elsewhere
            return None

    def _committed(self, stream: str) -> CommittedOffset:
        found = self._consumer.topic_reader.committed([stream]).get(stream)
        return CommittedOffset(stream, found.offset, found.metadata) if found else CommittedOffset(stream, None, "")
