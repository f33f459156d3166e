"""Topics as Kafka has them: found, created if they are missing, compared with what they are to be.

For both programs. Each call waits for Kafka, seconds at most if it doesn't answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
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

from g3stream.contract.topic_settings import Difference, FoundTopic, Role, WantedTopic, differences
from g3stream.kafka.authorization import Operation, topic_right, with_right
from g3stream.kafka.availability import UNANSWERED

ADMIN_CONFIG: Mapping[str, str | int | bool] = {"allow.auto.create.topics": False}
"""Of every client that asks about topics by name: the question would create them, with the broker's defaults."""

_ASK_SECONDS = 2.0
_CREATE_SECONDS = 10.0
_AT_ONCE = 20
"""Topics whose settings are asked for in one request: they take 4 ms of the interpreter's time (measured)."""
_LOOK_SECONDS = 4.0
_NOT_THERE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)


class TopicAdmin:
    """Asks one cluster. config: librdkafka settings, of any client. All raise KafkaException."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._servers = str(config["bootstrap.servers"])
        self._client = AdminClient({**config, **ADMIN_CONFIG})

    @property
    def client(self) -> AdminClient:
        """For what else is to be asked."""
        return self._client

    def ensure(self, wanted: WantedTopic) -> tuple[bool, Sequence[Difference]]:
        """Create the topic if it is missing; gives whether that was so, and how it differs from what it is to be."""
        try:
            found = self._metadata([wanted.name])
            created = found[wanted.name] is None and self._create(wanted)
            if found[wanted.name] is None:  # now it is there, if not everywhere at once
                found = self._metadata([wanted.name])
            return created, self._compare([wanted], found).get(wanted.name) or ()
        except KafkaException:
            self._client.poll(0)  # what an `error_cb` is to hear of the cause waits for this
            raise

    def check(self, wanted: Sequence[WantedTopic]) -> Mapping[str, Sequence[Difference] | None]:
        """How each differs from what it is to be; None if there is no such topic. Those of which Kafka can't tell
        now, or doesn't let us see, are left out."""
        found = self._metadata([topic.name for topic in wanted])
        compared: dict[str, Sequence[Difference] | None] = {}
        for first in range(0, len(wanted), _AT_ONCE):
            compared.update(self._compare(wanted[first : first + _AT_ONCE], found))
        return compared

    def _metadata(self, names: Sequence[str]) -> dict[str, FoundTopic | None]:
        """What the cluster says of these topics, but for their settings; without those that it can't tell of, unless
        there is only one: then that is raised."""
        found = self._client.list_topics(*(names if len(names) == 1 else ()), timeout=_ASK_SECONDS)
        topics: dict[str, FoundTopic | None] = {}
        for name in names:
            topic = found.topics.get(name)
            if topic is None or (topic.error is not None and topic.error.code() in _NOT_THERE):
                topics[name] = None
            elif topic.error is None:
                topics[name] = _found(topic, found.brokers)
            elif len(names) == 1:
                raise KafkaException(with_right(topic.error, topic_right(Operation.WRITE, name)))
        return topics

    def _compare(
        self, wanted: Sequence[WantedTopic], found: Mapping[str, FoundTopic | None]
    ) -> dict[str, Sequence[Difference] | None]:
        there = [(topic, known) for topic in wanted if (known := found.get(topic.name))]
        configs = self._configs([topic.name for topic, _ in there])
        compared: dict[str, Sequence[Difference] | None] = {}
        for topic in wanted:
            if topic.name in found and found[topic.name] is None:
                compared[topic.name] = None
        for topic, known in there:
            if topic.name in configs:
                elsewhere = self._elsewhere(topic.name, known) if topic.role is Role.FRAMES else {}
                as_it_is = replace(known, config=configs[topic.name], elsewhere=elsewhere)
                compared[topic.name] = differences(topic, as_it_is, self._servers)
        return compared

    def _create(self, wanted: WantedTopic) -> bool:
        """Gives whether it was we who did."""
        new = NewTopic(wanted.name, 1, wanted.replication_factor or -1, config=dict(wanted.config))
        try:
            self._client.create_topics([new], request_timeout=_CREATE_SECONDS)[wanted.name].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise KafkaException(with_right(error.args[0], topic_right(Operation.CREATE, wanted.name))) from None
            return False
        return True

    def _configs(self, names: Sequence[str]) -> Mapping[str, Mapping[str, str] | None]:
        """All settings of each; None if we don't get to see them. Not of topics that have gone meanwhile."""
        resources = {ConfigResource(ResourceType.TOPIC, name): name for name in names}
        configs: dict[str, Mapping[str, str] | None] = {}
        if not resources:
            return configs
        for resource, answer in self._client.describe_configs([*resources], request_timeout=_LOOK_SECONDS).items():
            try:
                configs[resources[resource]] = {name: entry.value or "" for name, entry in answer.result().items()}
            except KafkaException as error:
                code = error.args[0].code()
                if code in UNANSWERED:
                    raise
                if code not in _NOT_THERE:  # we aren't allowed to; that isn't needed to record
                    configs[resources[resource]] = None
        return configs

    def _elsewhere(self, name: str, found: FoundTopic) -> Mapping[int, tuple[int, int]]:
        """The partitions but 0 that have records: the first offset of each, and the one after its last."""
        partitions = [TopicPartition(name, number) for number in found.replicas if number != 0]
        try:
            return records_in(self._client, partitions)
        except KafkaException:  # we aren't allowed to, or one of them has no leader now
            return {}


def records_in(client: AdminClient, partitions: Sequence[TopicPartition]) -> Mapping[int, tuple[int, int]]:
    """Of those partitions of one topic that have records, by number: the first offset, and the one after the last."""
    if not partitions:
        return {}
    firsts, ends = (
        client.list_offsets({partition: spec for partition in partitions}, request_timeout=_LOOK_SECONDS)
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]  # it has no types
    )
    spans = {p.partition: (firsts[p].result().offset, ends[p].result().offset) for p in partitions}
    return {number: (first, end) for number, (first, end) in spans.items() if first < end}


def _found(topic: TopicMetadata, brokers: Iterable[int]) -> FoundTopic:
    replicas = {number: tuple(partition.replicas) for number, partition in topic.partitions.items()}
    return FoundTopic(replicas, tuple(sorted(brokers)))
