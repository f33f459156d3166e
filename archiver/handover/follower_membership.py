"""A membership in the consumer group of a sink: reads g3.files, and hands events over while it has the partition."""

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Self, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from archiver.core.checkpoint import CheckpointError
from archiver.core.events import decode, key_prefixes
from archiver.handover.consumer_errors import ConsumerErrors
from archiver.handover.delivery import SinkDelivery
from archiver.handover.position import CommittedPosition, partition
from archiver.handover.saved_position import REQUEST_S, StartPosition
from archiver.handover.schedule import FollowerStatus, PendingEvents, concerns, group_of
from archiver.handover.sink import PendingEvent, Sink
from archiver.kafka.offsets import known_end_offset, restart_at_earliest
from archiver.kafka.topic_reader import CONNECTED_CONFIG
from g3stream.contract.topics import FILES_TOPIC
from g3stream.kafka.availability import AVAILABILITY_CONFIG
from g3stream.kafka.throttling import LONG_TIMEOUT_MS
from g3stream.kafka.topic_admin import ADMIN_CONFIG
from g3stream.service.timeouts import call_with_timeout

log = logging.getLogger(__name__)

_CONSUMER_CONFIG: Mapping[str, str | int | bool] = {
    "group.protocol": "classic",
    "partition.assignment.strategy": "cooperative-sticky",  # a member keeps the partition when another joins
    # No static id: a member that stops leaves the group, and another takes over at once. After a kill that takes one
    # session timeout. But a session that times out while Kafka is down aborts the running attempt: so the timeout is
    # longer than a broker's restart.
    "session.timeout.ms": 30_000,
    "heartbeat.interval.ms": 3_000,
    "enable.auto.commit": False,
    "auto.offset.reset": "error",
    "enable.partition.eof": True,  # so that the end of an authorization error is noticed although no event comes
    "topic.metadata.refresh.interval.ms": 5_000,  # how soon g3.files is found after an archiver has created it
    "fetch.wait.max.ms": 500,
    "queued.max.messages.kbytes": 4 << 10,
    **ADMIN_CONFIG,
    **CONNECTED_CONFIG,
    **AVAILABILITY_CONFIG,
    # Nothing here is urgent, and a throttling broker may take longer than recording would wait
    # (g3stream/kafka/throttling.py).
    "socket.timeout.ms": LONG_TIMEOUT_MS,
}

_POLL_S = 0.25
_BUSY_POLL_S = 0.01
_RETRY_S = 0.5
_MAX_PER_TURN = 1000
_LEAVE_S = 1.0

T = TypeVar("T")


class FollowerMembership:
    """A membership in the sink's consumer group; for the follower's thread."""

    def __init__(
        self,
        config: Mapping[str, Any],
        group: str,
        ids: tuple[str, ...],
        sink: Sink,
        delivery: SinkDelivery,
        start: StartPosition,
        stopping: threading.Event,
    ) -> None:
        self._archive_group = group
        self._ids = ids
        self._sink = sink
        self._delivery = delivery
        self._start = start
        self._stopping = stopping
        group_id = group_of(group, sink.name, ids[0])
        self._errors = ConsumerErrors(sink.name, group_id)
        self._commits = CommittedPosition(self._errors.on_error)
        self._consumer = Consumer(
            {
                **_CONSUMER_CONFIG,
                **config,
                "group.id": group_id,
                "on_commit": self._commits.on_commit_response,
                "error_cb": self._errors.on_error,
            }
        )
        self._pending: PendingEvents | None = None  # None: another member has the partition
        self._is_paused = self._is_out_of_range = False

    def __enter__(self) -> Self:
        self._consumer.subscribe(
            [FILES_TOPIC], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Abort the running attempt, commit the position, leave the group."""
        if self._delivery.abort(wait=True):
            log.info("%s: the running attempt is aborted; its event is handed over again later", self._sink.name)
        pending, self._pending = self._pending, None
        with suppress(TimeoutError, KafkaException):  # events after the committed position are handed over again
            if pending and self._commits.is_behind(pending.position):
                commit = partial(self._consumer.commit, offsets=[partition(pending.position)], asynchronous=False)
                call_with_timeout(_LEAVE_S, "committing", commit)
        with suppress(TimeoutError):
            call_with_timeout(_LEAVE_S, "leaving", self._consumer.close)

    def poll_once(self) -> None:
        """Read new events and continue the hand-over; takes a fraction of a second."""
        self._read(self._next_message())
        if self._is_out_of_range and self._pending:
            self._restart_at_first_offset(self._pending.next_offset)
        done = self._delivery.take_result(self._backlog)
        if done is not None:
            self._commits.request_commit(done + 1)
        if self._pending:
            self._commits.commit_if_due(self._consumer, self._pending.position)
            if self._commits.is_settled:
                self._delivery.begin_if_due(self._pending)

    def status(self) -> FollowerStatus:
        """Return its present status."""
        pending, delivery = self._pending, self._delivery
        first = pending.first if pending else None
        return FollowerStatus(
            sink=self._sink.name,
            active=pending is not None,
            backlog=self._backlog(),
            oldest_ms=first.time_ms if first else None,
            running_since=delivery.running_since,
            delivered=delivery.delivered,
            failures=delivery.failures,
            error=delivery.error if first else None,
            refused=self._errors.current,
            position=pending.position if pending else None,
        )

    def _backlog(self) -> int:
        return self._pending.backlog(known_end_offset(self._consumer, FILES_TOPIC) or 0) if self._pending else 0

    def _next_message(self) -> Message | None:
        """Wait for a message, or for the running attempt; return the message, if there is one."""
        if self._delivery.running_since is not None:
            self._delivery.wait(_POLL_S)
            return self._consumer.poll(0)
        return self._consumer.poll(_POLL_S if self._commits.is_settled else _BUSY_POLL_S)

    def _read(self, message: Message | None) -> None:
        for _ in range(_MAX_PER_TURN):
            if message is None:
                break
            if error := message.error():
                self._on_error(error)
            elif self._pending and message.partition() == 0:
                self._errors.on_success()
                offset = message.offset()
                assert offset is not None
                self._pending.add(offset, self._event(message, offset))
            if self._pending and self._pending.is_full:
                break
            message = self._consumer.poll(0)
        if self._pending and self._pending.is_full != self._is_paused:
            self._is_paused = self._pending.is_full
            pause_or_resume = self._consumer.pause if self._is_paused else self._consumer.resume
            pause_or_resume([TopicPartition(FILES_TOPIC, 0)])

    def _event(self, message: Message, offset: int) -> PendingEvent | None:
        """Return a record's event, or None if it is not to be handed over."""
        if not (message.key() or b"").startswith(key_prefixes(self._archive_group)):
            return None
        value = message.value() or b""
        try:
            event = decode(value)
        except CheckpointError as error:
            log.warning("%s: the event at offset %d of g3.files is skipped: %s", self._sink.name, offset, error)
            return None
        if not (concerns(event, self._archive_group, self._ids) and self._sink.wants(event)):
            return None
        return PendingEvent(event, value, offset, message.timestamp()[1])

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._errors.on_success()
        elif error.code() != KafkaError._AUTO_OFFSET_RESET:
            self._errors.on_error(error)
        else:
            self._is_out_of_range = True

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if not _has_events(partitions):
            consumer.incremental_assign(partitions)
            return
        found = self._until_answered(partial(self._start.find, consumer))
        start, committed = found or (0, None)
        consumer.incremental_assign([TopicPartition(p.topic, p.partition, start) for p in partitions])
        if found is None:  # stopping: nothing is read any more
            consumer.pause(partitions)
            return
        self._errors.on_success()
        self._start_at(start, committed)
        log.info("%s: hands over the events of this archive, from offset %d of g3.files on", self._sink.name, start)

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if _has_events(partitions):
            self._delivery.abort(wait=True)  # the next member mustn't start while this attempt runs
            self._pending = None

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if _has_events(partitions):
            if self._pending:
                log.warning("%s: the consumer group has given the hand-over to another member", self._sink.name)
            self._delivery.abort(wait=False)
            self._pending = None

    def _start_at(self, start: int, committed: int | None) -> None:
        """Reset all state to an assignment that starts at this offset. committed: the committed offset."""
        self._delivery.abort(wait=False)
        self._commits.reset(committed)
        self._pending = PendingEvents(start)
        self._is_paused = self._is_out_of_range = False

    def _restart_at_first_offset(self, missing: int) -> None:
        """Restart at the topic's first offset: the topic was created again, or records were deleted.

        Tried at each poll until Kafka answers: meanwhile the status is reported, and the member stays in its group.
        """
        try:
            first = restart_at_earliest(self._consumer, FILES_TOPIC, REQUEST_S)
        except KafkaException as error:
            self._errors.on_error(error.args[0])
            self._stopping.wait(_RETRY_S)
            return
        text = "%s: g3.files no longer has offset %d: continuing from its first one, %d"
        log.warning(text, self._sink.name, missing, first)
        self._start_at(first, None)

    def _until_answered(self, ask: Callable[[], T]) -> T | None:
        """Repeat a request until Kafka answers; None when stopping."""
        while not self._stopping.is_set():
            try:
                return ask()
            except KafkaException as error:
                self._errors.on_error(error.args[0])
            except OSError as error:
                self._errors.log_error(f"the position is unknown: {error}")
            self._stopping.wait(_RETRY_S)
        return None


def _has_events(partitions: list[TopicPartition]) -> bool:
    """Whether the partition that has the events is among these."""
    return any(found.partition == 0 for found in partitions)
