"""Messages of one topic's first partition, read from Kafka: from an offset to an end, or for ever.

The life of a Source: made → positioned by `read_from`, or by its group → read by `batch`, again and again → closed.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from g3stream.client.errors import G3StreamError, KafkaSettingsError, KafkaUnavailableError, NoSuchStreamError
from g3stream.kafka.client_config import AVAILABILITY_CONFIG, CONNECTED_CONFIG, client_config
from g3stream.kafka.client_properties import redact_values
from g3stream.kafka.errors import (
    NO_ANSWER_ERRORS,
    NO_SUCH_TOPIC,
    ConnectionErrors,
    Operation,
    Right,
    group_right,
    topic_right,
    with_right,
)
from g3stream.kafka.offsets import committed_offsets, hidden_by, metadata_of, offset_at, offset_range
from g3stream.log.throttle import LogThrottle

log = logging.getLogger(__name__)

SOURCE_CONFIG: Final[Mapping[str, str | int | bool]] = {
    **AVAILABILITY_CONFIG,
    **CONNECTED_CONFIG,
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "fetch.queue.backoff.ms": 5,
    # Bound the memory: what a fetch returns, and what waits to be read.
    "max.partition.fetch.bytes": 4 << 20,
    "fetch.max.bytes": 4 << 20,
    "queued.max.messages.kbytes": 4 << 10,
    "session.timeout.ms": 10_000,  # of a group: how soon another member takes over from one that was killed
}
_BATCH_BYTES: Final = 2 << 20
_MAX_MESSAGES: Final = 100
_POLL_S: Final = 0.5
_PROBE_EVERY_S: Final = 5.0
_PROBE_TIMEOUT_S: Final = 2.0
_NAME_WITHOUT_GROUP: Final = "g3stream"


class SourceEvent(Enum):
    """What `batch` returns besides messages."""

    END = "the topic's end was reached"
    OUT_OF_RANGE = "the next message was deleted: reading has stopped, until `read_from`"
    ASSIGNED = "the group has given the topic to this member, which begins with `read_from`"


class Source:
    """Messages of partition 0 of a topic.

    group: None to join none. timeout_s: of Kafka's answers. All methods raise G3StreamError: KafkaUnavailableError,
    NoSuchStreamError. For one thread.
    """

    def __init__(
        self,
        topic: str,
        *,
        properties: Mapping[str, Any],
        bootstrap_servers: str | None,
        group: str | None,
        timeout_s: float,
    ) -> None:
        self._topic = topic
        self._group = group
        self._timeout_s = timeout_s
        self._errors = ConnectionErrors()
        self._throttle = LogThrottle()
        self._next_probe_s = 0.0
        self._throttled_until_s = 0.0
        self._wanted = 1
        self._is_unread = False
        """The group has given us the topic, and it isn't read yet."""
        self.problem: str | None = None
        """Why no broker answers at present, while messages are waited for; None if Kafka is there. For any thread."""
        config = client_config(properties, bootstrap_servers, SOURCE_CONFIG)
        self._servers = config["bootstrap.servers"]
        config |= {
            "group.id": group or _NAME_WITHOUT_GROUP,
            "error_cb": self._on_error,
            "throttle_cb": self._on_throttle,
        }
        try:
            self._consumer = Consumer(config)
        except KafkaException as error:
            text = redact_values(error.args[0].str(), {name: str(value) for name, value in properties.items()})
            raise KafkaSettingsError(f"Kafka settings: {text}") from None

    def offset_range(self) -> tuple[int, int]:
        """Return the first offset that the topic still has, and the one after its last."""
        try:
            return offset_range(self._consumer, self._topic, seconds=self._timeout_s)
        except KafkaException as error:
            raise self._translated(error.args[0]) from None

    def offset_at(self, time_ms: int) -> int | None:
        """Return the offset of the first record received then or later; None if there is none yet."""
        try:
            return offset_at(self._consumer, self._topic, time_ms, seconds=self._timeout_s)
        except KafkaException as error:
            raise self._translated(error.args[0]) from None

    def read_from(self, offset: int) -> None:
        """Read from that offset on."""
        self._consumer.assign([TopicPartition(self._topic, 0, offset)])

    def join(self, on_revoked: Callable[[], None]) -> None:
        """Join the group: the member that has the topic reads it. `batch` returns ASSIGNED once that is this one.

        on_revoked: called inside `batch` before another member reads on.
        """

        def assigned(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            # Where to read from is asked for in `batch`: an error here would leave the topic unassigned.
            consumer.assign([])
            self._is_unread = any(it.partition == 0 for it in partitions)

        def revoked(consumer: Consumer, _: list[TopicPartition]) -> None:
            on_revoked()
            self._is_unread = False
            consumer.unassign()

        self._consumer.unassign()  # and drop what is left of a look for the last frames
        self._consumer.subscribe([self._topic], on_assign=assigned, on_revoke=revoked)

    def committed(self) -> tuple[int, str] | None:
        """Return the group's committed offset and its metadata; None if nothing is committed."""
        try:
            [found] = committed_offsets(self._consumer, [self._topic], self._timeout_s)
        except KafkaException as error:
            raise self._translated(with_right(error.args[0], *self._group_rights())) from None
        return (found.offset, metadata_of(found)) if found.offset >= 0 else None

    def commit(self, offset: int, metadata: str) -> None:
        """Commit the group's position, and wait until Kafka has it."""
        try:
            at = TopicPartition(self._topic, 0, offset, metadata)
            self._consumer.commit(offsets=[at], asynchronous=False)
        except KafkaException as error:
            raise self._translated(with_right(error.args[0], *self._group_rights())) from None

    def batch(self) -> tuple[Sequence[Message], SourceEvent | None]:
        """Return the next messages, none if none has come in 0.5 s, and what has happened after them."""
        # `consume` waits for as many as are requested: with a live stream, 0.3 s longer than until one is there.
        found = self._consumer.consume(1, _POLL_S)
        if found and self._wanted > 1:
            found += self._consumer.consume(self._wanted - 1, 0)
        if self._is_unread:
            self._is_unread = False
            return [], SourceEvent.ASSIGNED
        if not found:
            self._probe()
            if self.problem and self._throttle.due(time.monotonic()):
                log.warning("%s: Kafka at %s: %s; still waiting", self._topic, self._servers, self.problem)
            return found, None
        messages = [it for it in found if it.error() is None]
        if messages:
            size = sum(map(len, messages))
            self._wanted = min(_MAX_MESSAGES, 1 + _BATCH_BYTES * len(messages) // (1 + size))
            self._on_answer()
        if len(messages) == len(found):
            return messages, None
        return messages, self._event(next(error for it in found if (error := it.error()) is not None))

    def read_range(self, start: int, end: int) -> Iterator[Message]:
        """Read the messages from `start` to before `end`, as far as they are there still."""
        if start >= end:
            return
        self.read_from(start)
        heard_s = time.monotonic()
        while True:
            messages, event = self.batch()
            for message in messages:
                if (message.offset() or 0) < end:
                    yield message
            if event is not None or (messages and (messages[-1].offset() or 0) >= end - 1):
                return
            if messages or self.is_throttled:
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > self._timeout_s:
                raise self.unavailable()

    @property
    def is_throttled(self) -> bool:
        """Whether a broker holds its answers back, by a quota."""
        return time.monotonic() < self._throttled_until_s

    def unavailable(self) -> G3StreamError:
        """Return the error for no answer from Kafka."""
        return self._translated(KafkaError(KafkaError._TIMED_OUT))

    def close(self) -> None:
        """Leave the group, and close the connections."""
        self._consumer.close()

    def _event(self, error: KafkaError) -> SourceEvent | None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._on_answer()
            return SourceEvent.END
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            return SourceEvent.OUT_OF_RANGE
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED and self._group is None:
            return None  # without a group no right on one is needed, though librdkafka wants a name
        if error.code() in NO_ANSWER_ERRORS or error.code() == KafkaError._MAX_POLL_EXCEEDED:
            self._on_outage(error)
            return None
        raise self._translated(with_right(error, *self._group_rights()))

    def _group_rights(self) -> list[Right]:
        return [group_right(Operation.READ, self._group)] if self._group else []

    def _translated(self, error: KafkaError) -> G3StreamError:
        """Return the library's error for one of Kafka's."""
        if error.code() in NO_ANSWER_ERRORS:
            self._consumer.poll(0)  # calls `error_cb` with the cause; nothing is delivered after such an error
        if error.code() in NO_SUCH_TOPIC and not self._is_hidden():
            return NoSuchStreamError(f"Kafka at {self._servers} has no topic {self._topic}")
        error = with_right(error, topic_right(Operation.READ, self._topic))
        return KafkaUnavailableError(f"Kafka at {self._servers}: {self._errors.describe(error)}")

    def _is_hidden(self) -> bool:
        """Return whether an ACL hides the topic, as far as Kafka answers."""
        with suppress(KafkaException):
            return hidden_by(self._consumer, self._topic, seconds=self._timeout_s) is not None
        return False

    def _on_error(self, error: KafkaError) -> None:
        self._errors.record(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._on_outage(error)

    def _on_outage(self, error: KafkaError) -> None:
        self.problem = self._errors.describe(error)

    def _on_answer(self) -> None:
        if self.problem is None:
            return
        self.problem = None
        if self._throttle.reset():
            log.info("%s: Kafka at %s answers again", self._topic, self._servers)

    def _on_throttle(self, event: Any) -> None:
        self._throttled_until_s = max(self._throttled_until_s, time.monotonic() + event.throttle_time)

    def _probe(self) -> None:
        """Ask now and then, while no message arrives, whether there is an answer, and the topic still.

        Without that a consumer wouldn't notice for minutes that its topic was deleted.
        """
        now_s = time.monotonic()
        if now_s < self._next_probe_s:
            return
        self._next_probe_s = now_s + _PROBE_EVERY_S
        try:
            topic = self._consumer.list_topics(self._topic, timeout=_PROBE_TIMEOUT_S).topics[self._topic]
            if topic.error:
                raise KafkaException(topic.error)
        except KafkaException as error:
            if error.args[0].code() in NO_SUCH_TOPIC:
                raise self._translated(error.args[0]) from None
            if error.args[0].code() in NO_ANSWER_ERRORS:
                # librdkafka says it once, perhaps before the last messages are read, which look like an answer.
                self._on_outage(error.args[0])
            return
        self._on_answer()
