"""The archiver as a member of its consumer group: its streams, their records, its commits and events.

It is a member of a classic consumer group with a static id: after a restart it has its streams again at once. Each
offset is committed with the state of the recording at that offset (core/checkpoint.py).
"""

import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, TopicPartition

from archiver.core.events import Event
from archiver.kafka.assignment import AssignedPartitions
from archiver.kafka.broker_health import BrokerHealth
from archiver.kafka.last_file_index import LastFileIndex
from archiver.kafka.offset_commits import FencedError, OffsetCommit, OffsetCommits, classify_error
from archiver.kafka.publication import EventPublisher
from archiver.kafka.topic_reader import BATCH_BYTES, FETCH_CONFIG, MAX_RECORDS, TopicReader
from g3stream.contract.topic_settings import EXPECTED_FILES_TOPIC, ExpectedTopic, Role
from g3stream.contract.topics import FRAMES_TOPIC_PATTERN, frames_topic, stream_of_topic
from g3stream.kafka.client_config import AVAILABILITY_CONFIG
from g3stream.kafka.errors import NO_ANSWER_ERRORS, Operation, group_right, topic_right, with_right
from g3stream.kafka.offsets import committed_offsets, known_end_offset, metadata_of
from g3stream.kafka.topic_admin import TopicWatch
from g3stream.service.timeouts import call_unless_stopped, call_with_timeout

log = logging.getLogger(__name__)

_REQUEST_SECONDS = 2.0
_BACKGROUND_REQUEST_SECONDS = 4.0
"""For requests that only one stream waits for, and repeats. A stop may have to wait for one."""
_STOP_SECONDS = 2.0

CONSUMER_CONFIG: Mapping[str, str | int | bool] = {
    "group.protocol": "classic",  # with KIP-848 a restart took 45 s to get its streams, or failed for good (design)
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 2_000,
    "enable.auto.commit": False,
    "auto.offset.reset": "error",  # the loss is reported, then reading continues at the earliest record
    "topic.metadata.refresh.interval.ms": 5_000,  # how soon a new stream is found
    **AVAILABILITY_CONFIG,
    **FETCH_CONFIG,
}


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """The committed offset of a stream, with its metadata."""

    stream: str
    offset: int | None
    """None if nothing is committed."""
    metadata: str


class Phase(Enum):
    """The life of a membership, each phase with those that may follow.

    A static member that returns gets its former streams without a rebalance, and streams that were created meanwhile
    would belong to nobody: so it subscribes twice.
    """

    JOINING = "subscribed, until the first partitions are assigned"  # REJOINING, LEAVING
    REJOINING = "subscribes again at the next poll"  # REJOINED, LEAVING
    REJOINED = "subscribed again, until its streams are assigned"  # ASSIGNED, LEAVING
    ASSIGNED = "streams have been assigned"  # LEAVING
    LEAVING = "closes its consumer"


class RebalanceListener(Protocol):
    """Records the assigned streams. Each method is called inside `GroupConsumer.poll`."""

    def on_assigned(self, committed: Sequence[CommittedOffset]) -> None:
        """These streams are ours now, and paused until each is resumed at an offset."""

    def on_revoked(self, streams: Sequence[str]) -> None:
        """These streams go to another member: make them durable, commit, release them."""

    def on_lost(self, streams: Sequence[str]) -> None:
        """These streams already belong to another member: release them, commit nothing."""

    def on_offset_out_of_range(self, stream: str, earliest: int) -> None:
        """The next record of this stream has been deleted; reading continues at `earliest`."""


class GroupConsumer:
    """One member of the group."""

    def __init__(
        self,
        config: Mapping[str, Any],
        group: str,
        instance_id: str,
        streams: Sequence[str] | None,
        listener: RebalanceListener,
        on_published: Callable[[Event], None],
        stopping: threading.Event,
        away_since_s: float | None,
    ) -> None:
        """Create it; raises KafkaException on a setting that librdkafka refuses.

        streams: those to subscribe to, None for all. config: librdkafka's settings, to which ours are added.
        on_published: called with each acknowledged event, in the publishing thread. stopping: ends `join`, and other
        waiting for Kafka. away_since_s: when an outage began whose end the consumer before this one didn't log.
        """
        self.broker_health = BrokerHealth(config, away_since_s)
        common = self.broker_health.config
        self._listener = listener
        self.commits = OffsetCommits()
        """Where other threads request commits."""
        self.topic_reader = TopicReader(common, group, _BACKGROUND_REQUEST_SECONDS)
        self.last_file_index = LastFileIndex(self.topic_reader)
        self._consumer = Consumer(
            {
                **CONSUMER_CONFIG,
                **common,
                "group.id": group,
                "group.instance.id": instance_id,
                "on_commit": self.commits.on_commit_response,
            }
        )
        self.assignment = AssignedPartitions(self._consumer)
        self.events = EventPublisher(common, on_published)
        """Publishes on g3.files, for any thread."""
        # Without our `error_cb`, which is for the thread that polls.
        self.topic_watch = TopicWatch(
            {**AVAILABILITY_CONFIG, **config}, needs_check=lambda: self.events.error is not None
        )
        self._pattern = _pattern(streams)
        self._phase = Phase.JOINING
        self._stopping = stopping

    @property
    def has_assignment(self) -> bool:
        """Whether we have been assigned our first streams.

        Until then `poll` should not wait long: it is when `poll` returns that their recording begins.
        """
        return self._phase is Phase.ASSIGNED

    def join(self) -> None:
        """Wait for Kafka, create g3.files if it is missing, and join the group."""
        while not self._stopping.is_set():
            try:
                call_unless_stopped(self._stopping, "joining", self._create_files_topic)
                break
            except TimeoutError:
                if not self._stopping.is_set():
                    raise
            except KafkaException as error:
                self.broker_health.on_error(error.args[0])
                self._stopping.wait(0.5)
        self.topic_watch.start()
        self._consumer.subscribe([self._pattern], on_assign=self._on_first_assign)

    def poll(self, seconds: float) -> list[Message]:
        """Return the records that have arrived, about BATCH_BYTES at most; waits for the first one so long at most.

        Raises FencedError, and what the listener raises.
        """
        if self._phase is Phase.REJOINING:
            self._phase = Phase.REJOINED
            self._consumer.unsubscribe()
            self._consumer.subscribe(
                [self._pattern], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
        self.commits.send_pending(self._consumer)
        self.events.poll()
        for stream, earliest in self.assignment.reset(self.broker_health.on_error):
            self.commits.on_offset_reset(stream, earliest)
            self._listener.on_offset_out_of_range(stream, earliest)
        self.broker_health.probe()
        found: list[Message] = []
        size = 0
        message = self._consumer.poll(seconds)
        while message is not None:
            if error := message.error():
                self._on_record_error(message, error)
            else:
                if self.broker_health.error:
                    self.broker_health.on_answer()
                found.append(message)
                size += len(message)
                if size >= BATCH_BYTES or len(found) >= MAX_RECORDS:
                    break
            message = self._consumer.poll(0)
        return found

    def commit_sync(self, commits: Sequence[OffsetCommit] = ()) -> Mapping[str, Exception]:
        """Commit these, and what other threads have requested; for the thread that calls `poll`, while it doesn't.

        Returns the errors as OffsetCommits.commit_each does, at once if Kafka is unavailable.
        """
        return self.commits.commit_sync(self._consumer, commits, self.unavailable, self._call_timeout_s())

    @property
    def unavailable(self) -> KafkaException | None:
        """Why a synchronous commit would wait for long; None if it would not."""
        why = self.broker_health.error or ("no answer to a commit" if self.commits.unanswered else None)
        return KafkaException(KafkaError(KafkaError._TRANSPORT, why)) if why else None

    def shut_down(self) -> None:
        """End all waiting for commits and publications; `poll` won't be called again."""
        self.commits.shut_down()
        self.events.shut_down()

    def end_offset(self, stream: str) -> int | None:
        """The offset after a stream's last record, according to the latest fetch; None if unknown."""
        return known_end_offset(self._consumer, frames_topic(stream))

    def close(self) -> None:
        """Leave; within 2 s if we stop. The group reserves our streams for us until the session has timed out.

        While a commit waits for an unavailable Kafka, librdkafka would wait as long as a session lasts. That is right
        if we join again: a commit that arrives after the join would fence us.
        """
        self._phase = Phase.LEAVING
        self.topic_watch.close()
        if not self.commits.unanswered:
            with suppress(TimeoutError):
                call_with_timeout(self._call_timeout_s(), "leaving", self._consumer.close)

    def _on_first_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Assign the first partitions, then join again to cause a rebalance (Phase)."""
        self._assign_unread(consumer, partitions)
        if self._phase is Phase.JOINING:
            self._phase = Phase.REJOINING

    def _assign_unread(
        self, consumer: Consumer, partitions: list[TopicPartition], offsets: Mapping[str, int] | None = None
    ) -> None:
        """Assign partitions paused: nothing is fetched until `AssignedPartitions.resume`."""
        # With an offset: else, where nothing is committed, librdkafka would report an error once they aren't ours any
        # more. And with one that is a number (see AssignedPartitions.seek).
        starts = offsets or {}
        consumer.incremental_assign(
            [TopicPartition(p.topic, p.partition, starts.get(p.topic, 0)) for p in partitions]
        )
        consumer.pause(partitions)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # A consumer that leaves gets no answer to its requests.
        if self._phase is Phase.LEAVING or self._stopping.is_set():
            self._assign_unread(consumer, partitions)
            return
        # However many partitions a topic has: the stream is in partition 0, and the others stay paused.
        topics = [p.topic for p in partitions if p.partition == 0]
        committed = [
            CommittedOffset(
                stream_of_topic(p.topic), None if p.offset == OFFSET_INVALID else p.offset, metadata_of(p)
            )
            for p in self._committed_offsets(consumer, topics)
        ]
        self._assign_unread(consumer, partitions, {frames_topic(c.stream): c.offset or 0 for c in committed})
        for found in committed:
            self.commits.on_assigned(found.stream, found.offset if found.metadata else None)
            self.topic_watch.add(ExpectedTopic(frames_topic(found.stream), Role.FRAMES))
        self._listener.on_assigned(committed)
        self._phase = Phase.ASSIGNED

    def _committed_offsets(self, consumer: Consumer, topics: Sequence[str]) -> list[TopicPartition]:
        """Repeat that request until Kafka answers: in a callback of `poll` nothing else can be done."""
        while True:
            try:
                return committed_offsets(consumer, topics, _REQUEST_SECONDS)
            except KafkaException as error:
                classified = classify_error(error.args[0])
                if not isinstance(classified, KafkaException):
                    raise classified from None
                self.broker_health.on_error(error.args[0])
                if self._stopping.wait(0.2):
                    raise

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        streams = self._streams_of(partitions)
        self._listener.on_revoked(streams)
        self.commits.on_revoked(streams)
        self._release(streams)

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        streams = self._streams_of(partitions)
        self.commits.on_revoked(streams, lost=True)
        self._release(streams)
        self._listener.on_lost(streams)

    def _release(self, streams: Sequence[str]) -> None:
        self.assignment.discard(streams)
        for stream in streams:
            self.topic_watch.remove(frames_topic(stream))

    def _streams_of(self, partitions: list[TopicPartition]) -> list[str]:
        return [stream_of_topic(p.topic) for p in partitions if p.partition == 0]

    def _on_record_error(self, message: Message, error: KafkaError) -> None:
        classified = classify_error(error)
        if isinstance(classified, FencedError):
            raise classified
        topic = message.topic()
        if error.code() == KafkaError._AUTO_OFFSET_RESET and topic and message.partition() == 0:
            if self.commits.is_assigned(stream := stream_of_topic(topic)):  # isn't, after _on_first_assign
                self.assignment.reset_later(stream)
        elif error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:  # no stream exists yet
            # We poll again, so this error is over; no record may arrive for a whole night to show it.
            over = error.code() in (*NO_ANSWER_ERRORS, KafkaError._MAX_POLL_EXCEEDED)
            read = (topic_right(Operation.READ, topic or ""), group_right(Operation.READ, self.topic_reader.group))
            self.broker_health.on_error(with_right(error, *read), clears_on_answer=over)

    def _create_files_topic(self) -> None:
        if self.topic_watch.ensure(self.broker_health.admin, EXPECTED_FILES_TOPIC):
            log.info("created the topic %s", EXPECTED_FILES_TOPIC.name)

    def _call_timeout_s(self) -> float | None:
        """How long, in s, a call that can't be interrupted may take; None: without limit."""
        return _STOP_SECONDS if self._stopping.is_set() else None


def _pattern(streams: Sequence[str] | None) -> str:
    if streams is None:
        return FRAMES_TOPIC_PATTERN
    # A pattern, so that a stream whose topic doesn't exist yet is no error.
    return f"^({'|'.join(re.escape(frames_topic(stream)) for stream in streams)})$"
