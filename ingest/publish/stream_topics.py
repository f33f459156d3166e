"""The topics of one stream: created if they are missing, checked, and refused if they can't take its records."""

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
    """The topic isn't one that a stream can be published to; the message says why."""


class StreamTopics:
    """For frames, and (by True) for those that are rejected.

    config: librdkafka settings, of any client. requested, replication_factor: what an operator asked for; None for
    the broker's default. watch: checks them from then on.
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
        watch.add(self._expected[True])  # created with the first frame that is rejected, which may have been long ago

    def ensure(self, *, rejected: bool) -> None:
        """Create the topic if it is missing, and check it. Takes seconds if Kafka doesn't answer, and raises
        KafkaException then."""
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
        """Why records can't be published to the topic, as far as is known; None if they can. Asks nobody."""
        if not_created := self._not_created.get(rejected):
            return not_created
        reasons = [str(found) for found in self.found(rejected=rejected) if found.severity is Severity.REFUSE]
        return "; ".join(reasons) or None

    def found(self, *, rejected: bool) -> tuple[Difference, ...]:
        """How the topic differs from what it is to be, as far as is known."""
        return self._watch.of(self.names[rejected])

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Of both."""
        return self.found(rejected=False) + self.found(rejected=True)

    def close(self) -> None:
        """Check them no more."""
        for name in self.names.values():
            self._watch.remove(name)
