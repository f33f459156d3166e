"""Topic administration: find topics, create missing ones, compare them with what they should be.

For both programs. Each call waits for Kafka, for seconds at most if it doesn't answer.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
    TopicMetadata,
)

from g3stream.contract.topic_settings import Difference, ExpectedTopic, FoundTopic, Role, differences
from g3stream.kafka.authorization import Operation, topic_right, with_right
from g3stream.kafka.availability import NO_ANSWER_ERRORS

ADMIN_CONFIG: Mapping[str, str | int | bool] = {"allow.auto.create.topics": False}
"""Settings of every client that requests metadata of topics by name: the request would create them, with the
broker's defaults."""

_METADATA_TIMEOUT_SECONDS = 2.0
_CREATE_TIMEOUT_SECONDS = 10.0
_TOPICS_PER_REQUEST = 20
"""Topics whose settings are requested at once: they take 4 ms of the interpreter's time (measured)."""
_REQUEST_TIMEOUT_SECONDS = 4.0
NO_SUCH_TOPIC = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)


class TopicAdmin:
    """The topics of one cluster. config: librdkafka settings of any client. All methods raise KafkaException."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._servers = str(config["bootstrap.servers"])
        self.client = AdminClient({**config, **ADMIN_CONFIG})
        """The admin client, for other requests."""

    def ensure(self, expected: ExpectedTopic) -> tuple[bool, Sequence[Difference]]:
        """Create the topic if it is missing; return whether it was, and how it differs from what it should be."""
        with self._reporting_cause():
            found = self.check([expected])
            created = found.get(expected.name, ()) is None and self.create(expected)
            if found.get(expected.name) is None:  # it exists now, though not all brokers may know it yet
                found = self.check([expected])
            return created, found.get(expected.name) or ()

    def check(self, expected: Sequence[ExpectedTopic]) -> Mapping[str, Sequence[Difference] | None]:
        """Return how each topic differs from what it should be; None for one that doesn't exist.

        Topics that Kafka can't describe now are left out; but if only one is requested, its error is raised.
        """
        names = [topic.name for topic in expected]
        cluster = self.client.list_topics(*(names if len(names) == 1 else ()), timeout=_METADATA_TIMEOUT_SECONDS)
        existing: list[tuple[ExpectedTopic, TopicMetadata]] = []
        compared: dict[str, Sequence[Difference] | None] = {}
        for topic in expected:
            found = cluster.topics.get(topic.name)
            if found is None or (found.error is not None and found.error.code() in NO_SUCH_TOPIC):
                compared[topic.name] = None
            elif found.error is None:
                existing.append((topic, found))
            elif len(names) == 1:
                raise KafkaException(with_right(found.error, topic_right(Operation.WRITE, topic.name)))
        for first in range(0, len(existing), _TOPICS_PER_REQUEST):
            some = existing[first : first + _TOPICS_PER_REQUEST]
            configs = self._configs([topic.name for topic, _ in some])
            for topic, found in some:
                if topic.name in configs:
                    replicas = {number: tuple(partition.replicas) for number, partition in found.partitions.items()}
                    elsewhere = self._other_partitions(topic.name, replicas) if topic.role is Role.FRAMES else {}
                    brokers = tuple(sorted(cluster.brokers))
                    state = FoundTopic(replicas, brokers, configs[topic.name], elsewhere)
                    compared[topic.name] = differences(topic, state, self._servers)
        return compared

    def create(self, expected: ExpectedTopic) -> bool:
        """Create the topic; return False if another client has created it meanwhile."""
        new = NewTopic(expected.name, 1, expected.replication_factor or -1, config=dict(expected.config))
        try:
            self.client.create_topics([new], request_timeout=_CREATE_TIMEOUT_SECONDS)[expected.name].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise KafkaException(
                    with_right(error.args[0], topic_right(Operation.CREATE, expected.name))
                ) from None
            return False
        return True

    def offset_ranges(
        self, partitions: Sequence[TopicPartition], seconds: float = _REQUEST_TIMEOUT_SECONDS
    ) -> Mapping[TopicPartition, tuple[int, int]]:
        """Return each partition's first offset, and the one after its last, by two requests for all."""
        if not partitions:
            return {}
        firsts, ends = (
            self.client.list_offsets({partition: spec for partition in partitions}, request_timeout=seconds)
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]  # it has no types
        )
        with self._reporting_cause():
            return {p: (firsts[p].result().offset, ends[p].result().offset) for p in partitions}

    def records_in(self, topic: str, partitions: Iterable[int]) -> Mapping[int, tuple[int, int]]:
        """Return the offset ranges of those partitions that have records."""
        spans = self.offset_ranges([TopicPartition(topic, number) for number in partitions])
        return {partition.partition: span for partition, span in spans.items() if span[0] < span[1]}

    @contextmanager
    def _reporting_cause(self) -> Iterator[None]:
        try:
            yield
        except KafkaException:
            self.client.poll(0)  # calls `error_cb` with the cause
            raise

    def _configs(self, names: Sequence[str]) -> Mapping[str, Mapping[str, str] | None]:
        """Return all settings of each topic; None if ACLs forbid reading them. Deleted topics are left out."""
        resources = {ConfigResource(ResourceType.TOPIC, name): name for name in names}
        configs: dict[str, Mapping[str, str] | None] = {}
        if not resources:
            return configs
        for resource, answer in self.client.describe_configs(
            [*resources], request_timeout=_REQUEST_TIMEOUT_SECONDS
        ).items():
            try:
                configs[resources[resource]] = {name: entry.value or "" for name, entry in answer.result().items()}
            except KafkaException as error:
                code = error.args[0].code()
                if code in NO_ANSWER_ERRORS:
                    raise
                if code not in NO_SUCH_TOPIC:  # not authorized; recording doesn't need it
                    configs[resources[resource]] = None
        return configs

    def _other_partitions(self, name: str, partitions: Iterable[int]) -> Mapping[int, tuple[int, int]]:
        """Return the partitions other than 0 that have records: first offset, and the one after the last."""
        try:
            return self.records_in(name, [number for number in partitions if number != 0])
        except KafkaException:  # not authorized, or one of them has no leader now
            return {}
