"""Why commits fail: what an operator has to mend is said once, in words; what passes by itself is no news."""

import logging
import threading
import time

from confluent_kafka import KafkaError, KafkaException

log = logging.getLogger(__name__)

_REPEAT_LOG_SECONDS = 60.0

_TRANSIENT = frozenset(
    (
        # A rebalance, or a coordinator that moves, is away, or has just begun; a stop.
        *(KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.NOT_COORDINATOR),
        *(KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS),
        *(KafkaError.REQUEST_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._WAIT_COORD),
        *(KafkaError._ALL_BROKERS_DOWN, KafkaError._DESTROY, KafkaError._STATE),
    )
)
_REMEDIES = {
    KafkaError.OFFSET_METADATA_TOO_LARGE: "set the brokers' offset.metadata.max.bytes to 4096 or more",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "allow this user READ on the consumer group {group} (kafka-acls.sh)",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "allow this user READ on the topics g3.frames.* (kafka-acls.sh)",
}


def is_transient(error: KafkaError) -> bool:
    """Whether a commit that failed so will nearly always succeed when it is made again."""
    return error.code() in _TRANSIENT


def explain(error: KafkaError, group: str) -> str:
    """What went wrong, and what to do if that is known."""
    mend = _REMEDIES.get(error.code())
    return f"{error.str()}: {mend.format(group=group)}" if mend else error.str()


class CommitErrors:
    """Those of one archiver's commits, by stream. For any thread."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._errors: dict[str, KafkaError] = {}
        self._log_at_s: dict[str, float] = {}
        self._lock = threading.Lock()

    def on_failure(self, stream: str, error: KafkaException) -> None:
        """A commit of that stream has failed, and will be made again."""
        found: KafkaError = error.args[0]
        why = explain(found, self._group)
        now = time.monotonic()
        with self._lock:
            self._errors[stream] = found
            say = not is_transient(found) and now >= self._log_at_s.get(why, now)
            if say:
                self._log_at_s[why] = now + _REPEAT_LOG_SECONDS
        if say:
            log.warning("%s: Kafka refuses commits: %s; nothing is lost, still trying", stream, why)
        else:
            log.debug("%s: commit failed, will be made again: %s", stream, why)

    def on_success(self, stream: str) -> None:
        """A commit of that stream was made."""
        with self._lock:
            found = self._errors.pop(stream, None)
            said = bool(found and self._log_at_s and not self._errors)
            if said:
                self._log_at_s.clear()
        if said:
            log.info("%s: Kafka takes commits again", stream)

    def discard(self, stream: str) -> None:
        """It isn't ours any more."""
        with self._lock:
            self._errors.pop(stream, None)

    def error_of(self, stream: str) -> str | None:
        """Why its last commit failed; None if it didn't."""
        found = self._errors.get(stream)
        return explain(found, self._group) if found else None

    def operator_error(self) -> str | None:
        """Why commits fail, if somebody has to mend that; None if they don't."""
        found = next((error for error in list(self._errors.values()) if not is_transient(error)), None)
        return explain(found, self._group) if found else None
