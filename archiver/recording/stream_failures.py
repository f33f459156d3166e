"""Retries of streams that were stopped by an unexpected error, from what is committed.

Such an error is a fault of this program or of its environment (no more threads, say), and the stream's state in
memory can't be trusted. So recording continues from the commit. That may help, or fail again at the same record; the
other streams are recorded meanwhile.
"""

from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from confluent_kafka import KafkaException

from archiver.kafka.group_consumer import CommittedOffset, GroupConsumer
from archiver.recording.executors import Executors
from g3stream.service.supervisor import Backoff

BACKOFF = Backoff(min_s=5.0, max_s=60.0, stable_s=600.0)


@dataclass(slots=True)
class _Failure:
    """The last failure of a stream. Times are monotonic, s."""

    failed_at_s: float
    pause_s: float
    retry_at_s: float
    request: Future[CommittedOffset] | None = None


class StreamFailures:
    """The failed streams, and when each is tried again. For the loop's thread."""

    def __init__(self, consumer: GroupConsumer, executors: Executors) -> None:
        self._consumer = consumer
        self._executors = executors
        self._failures: dict[str, _Failure] = {}

    def failed(self, stream: str, now_s: float) -> float:
        """Note a failure; return after how many seconds the stream is tried again. now_s: monotonic."""
        last = self._failures.get(stream)
        pause = BACKOFF.delay_s(last.pause_s, now_s - last.failed_at_s) if last else BACKOFF.min_s
        self._failures[stream] = _Failure(now_s, pause, now_s + pause)
        return pause

    def due(self, stream: str, now_s: float) -> CommittedOffset | None:
        """Return the commit to retry a failed stream from; None if it isn't due, or Kafka hasn't answered.

        A stream whose failure wasn't noted here is never due.
        """
        failure = self._failures.get(stream)
        if failure is None:
            return None
        if failure.request is None:
            if now_s >= failure.retry_at_s:
                failure.request = self._executors.recovery.submit(stream, partial(self._committed, stream))
            return None
        if not failure.request.done():
            return None
        request, failure.request = failure.request, None
        failure.retry_at_s = now_s + failure.pause_s
        try:
            return request.result()
        except KafkaException:  # reported elsewhere
            return None

    def _committed(self, stream: str) -> CommittedOffset:
        found = self._consumer.topic_reader.committed([stream]).get(stream)
        return CommittedOffset(stream, found.offset, found.metadata) if found else CommittedOffset(stream, None, "")
