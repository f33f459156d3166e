"""Kafka's errors: what an outage, a missing right or a missing topic looks like, and its cause in words. Pure.

A client's `error_cb` receives more about the cause of an outage than the failed request. Brokers report only that
something was not authorized: which right is missing, and on what, is known where the request is made;
docs/operate/kafka-rights.md lists all rights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from confluent_kafka import KafkaError, KafkaException

NO_ANSWER_ERRORS = (
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._WAIT_COORD,
)
"""Errors of requests that no broker answered."""
NO_SUCH_TOPIC = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
"""Errors of requests for a topic, or a partition, that doesn't exist."""
_RESOURCE_REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    # An idempotent producer first requests an id, for which Write on any topic suffices (Kafka 2.8 and later).
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "topic",
}


def producer_error(error: KafkaException | SystemError) -> KafkaException:
    """Return the error that a call of a producer raised. Raises a SystemError that has another cause.

    confluent-kafka raises a fatal error from any call that serves acknowledgements. Each further callback that is
    called then, for an acknowledgement, a log line or an error, wraps it in a SystemError. `error_cb` isn't called.
    """
    cause: BaseException | None = error
    while isinstance(cause, SystemError):
        cause = cause.__cause__
    if isinstance(cause, KafkaException):
        return cause
    raise error


@contextmanager
def unwrap_fatal_errors() -> Iterator[None]:
    """Raise a producer's fatal error as a KafkaException."""
    try:
        yield
    except SystemError as error:
        raise producer_error(error) from None


class ConnectionErrors:
    """The latest known cause why no broker answers. For any thread."""

    def __init__(self) -> None:
        self._cause = ""

    def record(self, error: KafkaError) -> None:
        """Record an error that `error_cb` received."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._cause = error.str()
        elif not self._cause:
            # A TLS or SASL listener doesn't answer a client that uses neither, and librdkafka reports nothing then.
            # For a broker process that is stopped or hangs, the kernel still accepts connections.
            self._cause = (
                "connections are made, but no broker answers on them: they hang, or they require TLS or SASL "
                "(then it must be set in --kafka-config)"
            )

    def describe(self, error: KafkaError) -> str:
        """Return why a request failed: its error or, if no broker answered, the cause of that."""
        return self._cause if self._cause and error.code() in NO_ANSWER_ERRORS else error.str()


class Operation(StrEnum):
    """Operations, by their names for `kafka-acls.sh --operation`."""

    CREATE = "Create"
    DELETE = "Delete"
    DESCRIBE = "Describe"
    READ = "Read"
    WRITE = "Write"


@dataclass(frozen=True, slots=True)
class Right:
    """An operation on a topic or a consumer group."""

    operation: Operation
    resource: str
    """What the ACL applies to, by its name for `kafka-acls.sh`: `topic` or `group`."""
    name: str

    def __str__(self) -> str:
        return (
            f"this user lacks {self.operation} on the {self.resource} {self.name} "
            f"(kafka-acls.sh --add --operation {self.operation} --{self.resource} {self.name} …)"
        )


def topic_right(operation: Operation, topic: str) -> Right:
    """Return the right to an operation on a topic."""
    return Right(operation, "topic", topic)


def group_right(operation: Operation, group: str) -> Right:
    """Return the right to an operation on a consumer group."""
    return Right(operation, "group", group)


def is_refusal(error: KafkaError) -> bool:
    """Return whether the request failed because of an ACL, or the lack of one."""
    return error.code() in _RESOURCE_REFUSED


def with_right(error: KafkaError, *needed: Right) -> KafkaError:
    """Return the error; if it is an authorization error, with the needed rights that it is about, once."""
    rights = [str(right) for right in needed if right.resource is _RESOURCE_REFUSED.get(error.code())]
    if not rights or rights[0] in error.str():
        return error
    return KafkaError(
        error.code(), f"{error.str().rstrip('.')}: {'; '.join(rights)}", error.fatal(), error.retriable()
    )


@contextmanager
def needs(*rights: Right) -> Iterator[None]:
    """Add these rights to a KafkaException that ACLs cause in this context."""
    try:
        yield
    except KafkaException as error:
        raise KafkaException(with_right(error.args[0], *rights)) from error
