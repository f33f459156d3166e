"""Streams that an error which nobody expected has stopped: when each is tried again, from what Kafka has of it.

Such an error is a fault of this program, or of its environment (no more threads, say), and what it has left of a
stream's state isn't to be trusted. So all that is gone on with is what was committed. That may help, or fail again at
the same place; the other streams are recorded all the while.
"""

from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from confluent_kafka import KafkaException

from archiver.kafka.group_consumer import Committed, Feed
from archiver.recording.executors import Pools

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 60.0
"""Between a failure and the next try; as `ingest --streams` has it."""
_FORGOTTEN_SECONDS = 600.0
"""A stream that has been well for so long begins with the first pause again."""


@dataclass(slots=True)
class _Failure:
    """Of one stream. at, again_at: s, monotonic."""

    at: float
    pause: float
    again_at: float
    asked: Future[Committed] | None = None


class StreamFailures:
    """For the loop's thread."""

    def __init__(self, feed: Feed, pools: Pools) -> None:
        self._feed = feed
        self._pools = pools
        self._failures: dict[str, _Failure] = {}

    def failed(self, stream: str, now: float) -> float:
        """A stream has failed; gives after how many seconds it is tried again. now: s, monotonic."""
        last = self._failures.get(stream)
        fresh = last is None or now - last.at > _FORGOTTEN_SECONDS
        pause = FIRST_PAUSE_SECONDS if last is None or fresh else min(2 * last.pause, LONGEST_PAUSE_SECONDS)
        self._failures[stream] = _Failure(now, pause, now + pause)
        return pause

    def due(self, stream: str, now: float) -> Committed | None:
        """From where to try a failed stream again; None if it isn't time yet, or Kafka hasn't answered."""
        failure = self._failures[stream]
        if failure.asked is None:
            if now >= failure.again_at:
                failure.asked = self._pools.takers.submit(stream, partial(self._committed, stream), stateless=False)
            return None
        if not failure.asked.done():
            return None
        asked, failure.asked = failure.asked, None
        failure.again_at = now + failure.pause
        try:
            return asked.result()
        except KafkaException:  # which is told elsewhere
            return None

    def _committed(self, stream: str) -> Committed:
        found = self._feed.history.committed([stream]).get(stream)
        return Committed(stream, found.offset, found.metadata) if found else Committed(stream, None, "")
