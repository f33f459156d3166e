"""The topics of one stream: created if missing, checked, and why they take no records."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Message

from g3stream.contract.topic_settings import Difference, ExpectedTopic, Role, Severity, timestamps_replaced
from g3stream.kafka.topic_admin import TopicAdmin, TopicWatch
from ingest.publish.refusal import Refusal

log = logging.getLogger(__name__)

_NOT_CREATABLE = (KafkaError.INVALID_CONFIG, KafkaError.POLICY_VIOLATION)
_MIN_RETRY_SECONDS, _MAX_RETRY_SECONDS = 5.0, 60.0
"""Wait between two attempts to publish rejected frames, doubled each time: each sends again some that Kafka has."""


class TopicRefused(Exception):
    """A stream can't be published to its topic; the message says why."""


class StreamTopic:
    """A topic of a stream: that of its records, or of its rejected frames, which is created for the first of these.

    config: librdkafka settings that suit any client. watch: checks the topic while it is used. Its 13 attributes are
    what it was made with, and what became of the last check, the last refusal and the last acknowledgement.
    """

    def __init__(self, stream: str, expected: ExpectedTopic, config: Mapping[str, Any], watch: TopicWatch) -> None:
        self.name = expected.name
        self.is_ready = False
        """Whether it could be published to at the last attempt, and need not be checked again now."""
        self.acknowledged_offset: int | None = None
        """The offset of the last record that Kafka has acknowledged."""
        self.timestamps_problem: str | None = None
        """What it means that Kafka replaces the records' timestamps; None if it doesn't."""
        self._stream = stream
        self._expected = expected
        self._config = config
        self._watch = watch
        self._not_created: str | None = None  # why not
        self._unusable: str | None = None  # why it was, when it was checked by `ensure`
        self._refusal: Refusal | None = None  # of a record, since the last one that was acknowledged
        self._retry_at, self._retry_s = 0.0, _MIN_RETRY_SECONDS

    def ensure(self) -> bool:
        """Create the topic if it is missing, and check it. Returns whether it can be published to.

        If Kafka doesn't answer, takes seconds and raises KafkaException.
        """
        self._retry_at = max(self._retry_at, time.monotonic() + _MIN_RETRY_SECONDS)
        try:
            created = self._watch.ensure(TopicAdmin(self._config), self._expected)
        except KafkaException as error:
            reason = error.args[0]
            if reason.code() not in _NOT_CREATABLE:
                raise
            self._not_created = f"Kafka won't create the topic {self.name}: {reason.str()}"
        else:
            self._not_created = None
            if created:
                log.info("%s: created the topic %s", self._stream, self.name)
        was_unusable, self._unusable = self._unusable, self.unusable_reason
        if was_unusable and not self._unusable:
            log.info("%s: the topic %s can be published to again", self._stream, self.name)
        self.is_ready = not self._unusable
        return self.is_ready

    @property
    def is_due(self) -> bool:
        """Whether it isn't ready, and another attempt is due."""
        return not self.is_ready and time.monotonic() >= self._retry_at

    @property
    def unusable_reason(self) -> str | None:
        """Why it can't be published to, as of the last check; None if it can. Doesn't ask Kafka."""
        reasons = [str(found) for found in self._watch.of(self.name) if found.severity is Severity.REFUSE]
        return self._not_created or "; ".join(reasons) or None

    @property
    def differences(self) -> tuple[Difference, ...]:
        """How it differs from what it should be, as of the last check."""
        return self._watch.of(self.name)

    @property
    def problem(self) -> str | None:
        """Why it takes no records; None if it does. For any thread."""
        records = "records" if self._expected.role is Role.FRAMES else "rejected frames"
        if unusable := self._unusable:
            return f"{records} can't be published: {unusable}"
        if refusal := self._refusal:
            topic = refusal.topic or self.name
            return f"Kafka refuses {records} in {topic}: {refusal.explain(topic, self.differences)}"
        return None

    def refuse(self, refusal: Refusal) -> None:
        """Record that Kafka refused a record."""
        self._refusal, self.is_ready = refusal, False
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, _MAX_RETRY_SECONDS)

    def accept(self, message: Message) -> None:
        """Record that Kafka has acknowledged a record, and whether it replaces the records' times of receipt.

        When it begins to, the topic must be checked again. If its settings are visible, publishing then stops until
        they are fixed. If ACLs hide them, that is logged, and publishing continues: only a published record can show
        that the settings were fixed.
        """
        self._refusal, self._retry_s = None, _MIN_RETRY_SECONDS
        if (offset := message.offset()) is not None:
            self.acknowledged_offset = offset
        replaced = message.timestamp()[0] == TIMESTAMP_LOG_APPEND_TIME
        if self._expected.role is Role.FRAMES and replaced != bool(self.timestamps_problem):
            self.timestamps_problem = timestamps_replaced(self.name) if replaced else None
            if replaced:
                self.is_ready = False  # the watch would see it later
                log.error("%s: nothing is lost, but %s", self._stream, self.timestamps_problem)

    def close(self) -> None:
        """Stop watching the topic."""
        self._watch.remove(self.name)
