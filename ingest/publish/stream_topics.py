"""The topics of one stream: created if missing, checked, and refused if they can't take its records."""

import logging
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from g3stream.contract.topic_settings import Difference, Severity, expected_frames_topic, expected_rejected_topic
from g3stream.kafka.topic_admin import TopicAdmin
from g3stream.kafka.topic_watch import TopicWatch

log = logging.getLogger(__name__)

_NOT_CREATABLE = (KafkaError.INVALID_CONFIG, KafkaError.POLICY_VIOLATION)


class TopicRefused(Exception):
    """A stream can't be published to its topic; the message says why."""


class StreamTopics:
    """The topic of a stream's frames and, with `rejected`, that of its rejected frames.

    config: librdkafka settings that suit any client. requested: topic settings that the operator asked for, for
    topics that are created. replication_factor: likewise; None for the broker's default. watch: checks the topics
    from then on.
    """

    def __init__(
        self,
        stream: str,
        config: Mapping[str, Any],
        requested: Mapping[str, str],
        replication_factor: int | None,
        watch: TopicWatch,
    ) -> None:
        self._stream = stream
        self._config = config
        self._watch = watch
        self._expected = {
            False: expected_frames_topic(stream, requested, replication_factor),
            True: expected_rejected_topic(stream, requested, replication_factor),
        }
        self.names: Mapping[bool, str] = {rejected: expected.name for rejected, expected in self._expected.items()}
        self._not_created: dict[bool, str] = {}
        watch.add(self._expected[True])  # created for the first rejected frame, which may have been long ago

    def ensure(self, *, rejected: bool) -> None:
        """Create the topic if it is missing, and check it.

        If Kafka doesn't answer, takes seconds and raises KafkaException.
        """
        expected = self._expected[rejected]
        try:
            created, found = TopicAdmin(self._config).ensure(expected)
        except KafkaException as error:
            reason = error.args[0]
            if reason.code() not in _NOT_CREATABLE:
                raise
            self._not_created[rejected] = f"Kafka won't create the topic {expected.name}: {reason.str()}"
            return
        self._not_created.pop(rejected, None)
        if created:
            log.info("%s: created the topic %s", self._stream, expected.name)
        self._watch.update(expected, found)

    def unusable_reason(self, *, rejected: bool) -> str | None:
        """Why records can't be published to the topic, as of the last check; None if they can. Doesn't ask Kafka."""
        if not_created := self._not_created.get(rejected):
            return not_created
        reasons = [str(found) for found in self.found(rejected=rejected) if found.severity is Severity.REFUSE]
        return "; ".join(reasons) or None

    def found(self, *, rejected: bool) -> tuple[Difference, ...]:
        """How the topic differs from what it should be, as of the last check."""
        return self._watch.of(self.names[rejected])

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The differences of both topics."""
        return self.found(rejected=False) + self.found(rejected=True)

    def close(self) -> None:
        """Stop watching the topics."""
        for name in self.names.values():
            self._watch.remove(name)
