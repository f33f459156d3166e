"""Kafka's ACLs: an error of a request that they forbid, with the name of the right that is missing. Pure.

Brokers say only that something was not authorized. Which right that is, and on what, is known where the request is
made; docs/kafka.md has all of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, StrEnum

from confluent_kafka import KafkaError, KafkaException


class Operation(StrEnum):
    """As `kafka-acls.sh --operation` names them."""

    CREATE = "Create"
    DELETE = "Delete"
    DESCRIBE = "Describe"
    READ = "Read"
    WRITE = "Write"


class Resource(Enum):
    """What an ACL is for; the value: how `kafka-acls.sh` names it."""

    TOPIC = "topic"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class Right:
    """An operation on a topic or a consumer group."""

    operation: Operation
    resource: Resource
    name: str

    def __str__(self) -> str:
        return (
            f"this user lacks {self.operation} on the {self.resource.value} {self.name} "
            f"(kafka-acls.sh --add --operation {self.operation} --{self.resource.value} {self.name} …)"
        )


_RESOURCE_REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: Resource.TOPIC,
    KafkaError.GROUP_AUTHORIZATION_FAILED: Resource.GROUP,
    # An idempotent producer asks for an id first, which is given to whoever has Write on a topic (Kafka 2.8 on).
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: Resource.TOPIC,
}


def topic_right(operation: Operation, topic: str) -> Right:
    """A right on a topic."""
    return Right(operation, Resource.TOPIC, topic)


def group_right(operation: Operation, group: str) -> Right:
    """A right on a consumer group."""
    return Right(operation, Resource.GROUP, group)


def is_refusal(error: KafkaError) -> bool:
    """Whether an ACL, or that there is none, is why the request failed."""
    return error.code() in _RESOURCE_REFUSED


def with_right(error: KafkaError, *needed: Right) -> KafkaError:
    """The error; if it is of ACLs, naming those needed that it is about. Once, however often asked."""
    rights = [str(right) for right in needed if right.resource is _RESOURCE_REFUSED.get(error.code())]
    if not rights or rights[0] in error.str():
        return error
    return KafkaError(
        error.code(), f"{error.str().rstrip('.')}: {'; '.join(rights)}", error.fatal(), error.retriable()
    )


@contextmanager
def needs(*rights: Right) -> Iterator[None]:
    """What is done inside needs these: a KafkaException that comes of ACLs names them."""
    try:
        yield
    except KafkaException as error:
        raise KafkaException(with_right(error.args[0], *rights)) from error
