"""Errors of commits: what an operator must fix is logged once, with the remedy; transient errors are not."""

import logging
import time

from confluent_kafka import KafkaError, KafkaException

from g3stream.kafka.offsets import COORDINATOR_MOVES
from g3stream.log.throttle import LogThrottle

log = logging.getLogger(__name__)

_TRANSIENT = frozenset(
    (
        *COORDINATOR_MOVES,
        # A rebalance; Kafka that doesn't answer; a stop.
        *(KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION),
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
    """Whether a commit that failed with this error will nearly always succeed when it is repeated."""
    return error.code() in _TRANSIENT


def explain(error: KafkaError, group: str) -> str:
    """Describe an error, and what to do if that is known."""
    remedy = _REMEDIES.get(error.code())
    return f"{error.str()}: {remedy.format(group=group)}" if remedy else error.str()


class CommitErrors:
    """The latest errors of one archiver's commits, by stream; for the loop's thread, the last two methods for any."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._errors: dict[str, KafkaError] = {}
        self._throttle = LogThrottle()

    def on_failure(self, stream: str, error: KafkaException) -> None:
        """Note that a commit of that stream has failed, and will be repeated."""
        found: KafkaError = error.args[0]
        why = explain(found, self._group)
        self._errors[stream] = found
        if not is_transient(found) and self._throttle.due(time.monotonic(), why):
            log.warning("%s: Kafka refuses commits: %s; nothing is lost, still trying", stream, why)
        else:
            log.debug("%s: commit failed, will be repeated: %s", stream, why)

    def on_success(self, stream: str) -> None:
        """Note that a commit of that stream has succeeded."""
        found = self._errors.pop(stream, None)
        if found and not self._errors and self._throttle.reset():
            log.info("%s: Kafka accepts commits again", stream)

    def discard(self, stream: str) -> None:
        """Forget a stream that is no longer ours."""
        self._errors.pop(stream, None)

    def error_of(self, stream: str) -> str | None:
        """Why a stream's last commit failed; None if it succeeded."""
        found = self._errors.get(stream)
        return explain(found, self._group) if found else None

    def operator_error(self) -> str | None:
        """Why commits fail, if an operator must fix that; else None."""
        found = next((error for error in list(self._errors.values()) if not is_transient(error)), None)
        return explain(found, self._group) if found else None
