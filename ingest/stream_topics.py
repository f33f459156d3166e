"""A stream's topics: made if they are missing, refused if they can't keep its order or take its records."""

import logging
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from ingest.topic import CHUNK_BYTES

log = logging.getLogger(__name__)

_ASK_SECONDS = 2.0
_MAKE_SECONDS = 10.0
_HEADROOM_BYTES = 4096  # a record's headers and Kafka's own fields, at most


class TopicRefused(Exception):
    """The topic exists, and isn't one that a stream can be published to; the message says why."""


def see_to_topic(
    config: Mapping[str, Any],
    stream: str,
    topic: str,
    topic_config: Mapping[str, str],
    replication_factor: int | None,
) -> None:
    """Return when the topic is there, and fit for records; it is made if need be.

    config: librdkafka settings, of any client. topic_config, replication_factor: of a topic that is made; None for
    the broker's default. Takes seconds if Kafka doesn't answer. Raises TopicRefused, KafkaException.
    """
    admin = AdminClient(dict(config))
    try:
        found = admin.list_topics(topic, timeout=_ASK_SECONDS).topics[topic]
        if found.error is None:
            _check(admin, topic, len(found.partitions))
        elif found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            _make(admin, topic, topic_config, replication_factor)
            log.info("%s: created the topic %s", stream, topic)
        else:
            raise KafkaException(found.error)
    except KafkaException:
        admin.poll(0)  # what an `error_cb` is to hear of the cause waits for this
        raise


def _make(admin: AdminClient, topic: str, config: Mapping[str, str], replication_factor: int | None) -> None:
    new = NewTopic(topic, num_partitions=1, replication_factor=replication_factor or -1, config=dict(config))
    try:
        admin.create_topics([new], request_timeout=_MAKE_SECONDS)[topic].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def _check(admin: AdminClient, topic: str, partitions: int) -> None:
    """Raises TopicRefused unless the existing topic keeps a stream's order and takes its records."""
    if partitions != 1:
        raise TopicRefused(
            f"the topic {topic} has {partitions} partitions; a stream needs exactly one, for its order: "
            f"delete the topic, or choose another --stream"
        )
    resource = ConfigResource(ResourceType.TOPIC, topic)
    largest = int(admin.describe_configs([resource])[resource].result()["max.message.bytes"].value)
    if largest < CHUNK_BYTES + _HEADROOM_BYTES:
        raise TopicRefused(
            f"the topic {topic} takes messages of {largest} bytes at most; set its max.message.bytes to 1048588"
        )
