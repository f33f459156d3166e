"""Why commits fail: what an operator has to mend is said once, in words; what passes by itself is no news."""

import logging
import threading
import time

from confluent_kafka import KafkaError, KafkaException

log = logging.getLogger(__name__)

_SAY_AGAIN_SECONDS = 60.0

_PASSING = frozenset(
    (
        # A rebalance, or a coordinator that moves, is away, or has just begun; a stop.
        *(KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.NOT_COORDINATOR),
        *(KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS),
        *(KafkaError.REQUEST_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._WAIT_COORD),
        *(KafkaError._ALL_BROKERS_DOWN, KafkaError._DESTROY, KafkaError._STATE),
    )
)
_MEND = {
    KafkaError.OFFSET_METADATA_TOO_LARGE: "set the brokers' offset.metadata.max.bytes to 4096 or more",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "allow this user READ on the consumer group {group} (kafka-acls.sh)",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "allow this user READ on the topics g3.frames.* (kafka-acls.sh)",
}


def passes(error: KafkaError) -> bool:
    """Whether a commit that failed so will nearly always succeed when it is made again."""
    return error.code() in _PASSING


def explained(error: KafkaError, group: str) -> str:
    """What went wrong, and what to do if that is known."""
    mend = _MEND.get(error.code())
    return f"{error.str()}: {mend.format(group=group)}" if mend else error.str()


class CommitErrors:
    """Those of one archiver's commits, by stream. For any thread."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._now: dict[str, KafkaError] = {}
        self._say_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def failed(self, stream: str, error: KafkaException) -> None:
        """A commit of that stream has failed, and will be made again."""
        found: KafkaError = error.args[0]
        why = explained(found, self._group)
        now = time.monotonic()
        with self._lock:
            self._now[stream] = found
            say = not passes(found) and now >= self._say_at.get(why, now)
            if say:
                self._say_at[why] = now + _SAY_AGAIN_SECONDS
        if say:
            log.warning("%s: Kafka refuses commits: %s; nothing is lost, still trying", stream, why)
        else:
            log.debug("%s: commit failed, will be made again: %s", stream, why)

    def succeeded(self, stream: str) -> None:
        """A commit of that stream was made."""
        with self._lock:
            found = self._now.pop(stream, None)
            said = bool(found and self._say_at and not self._now)
            if said:
                self._say_at.clear()
        if said:
            log.info("%s: Kafka takes commits again", stream)

    def forget(self, stream: str) -> None:
        """It isn't ours any more."""
        with self._lock:
            self._now.pop(stream, None)

    def why(self, stream: str) -> str | None:
        """Why its last commit failed; None if it didn't."""
        found = self._now.get(stream)
        return explained(found, self._group) if found else None

    def refused(self) -> str | None:
        """Why commits fail, if somebody has to mend that; None if they don't."""
        found = next((error for error in list(self._now.values()) if not passes(error)), None)
        return explained(found, self._group) if found else None
