"""Authorization errors of Kafka, completed with the name of the missing right. Pure.

Brokers report only that something was not authorized. Which right is missing, and on what, is known where the request
is made; docs/kafka.md lists all rights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from confluent_kafka import KafkaError, KafkaException


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


_RESOURCE_REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    # An idempotent producer first requests an id, for which Write on any topic suffices (Kafka 2.8 and later).
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "topic",
}


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
