"""Follower: reads g3.files in order and hands each event of an archive over to a sink (sink.py), at least once.

It has threads and a consumer of its own: whatever a sink does, recording never waits for it. Its position is the
committed offset of a consumer group, one for each sink and archive. So one of the archivers does the hand-over,
another takes over when that one dies, and a restart continues at the committed position.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from archiver.archive.location import Location
from archiver.core.checkpoint import CheckpointError
from archiver.core.events import decode, key_prefixes
from archiver.handover.delivery import SinkDelivery
from archiver.handover.position import REQUEST_S, CommittedPosition, StartPosition, partition
from archiver.handover.schedule import FollowerStatus, PendingEvents, concerns, group_of
from archiver.handover.sink import PendingEvent, Sink
from g3stream.contract.topics import FILES_TOPIC
from g3stream.kafka.client_config import AVAILABILITY_CONFIG, CONNECTED_CONFIG
from g3stream.kafka.errors import Operation, group_right, is_refusal, topic_right, with_right
from g3stream.kafka.offsets import known_end_offset, offset_range, restart_at
from g3stream.kafka.throttling import LONG_TIMEOUT_MS
from g3stream.log.throttle import LogThrottle
from g3stream.service.supervisor import Backoff, supervise
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
_STOP_S = 6.0
_BACKOFF = Backoff(min_s=10.0, max_s=10.0, stable_s=0.0)


class Follower:
    """Hands the events of one archive over to a sink, on threads of its own, from `start` to `stop`.

    config: librdkafka's settings. location, group: of the archive. ids: returns the archive's ids; empty while they
    aren't known yet. since_ms: if nothing was ever handed over, it begins with the first event published since then.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        location: Location,
        group: str,
        ids: Callable[[], tuple[str, ...]],
        sink: Sink,
        since_ms: int,
    ) -> None:
        self._config = config
        self._start = StartPosition(location, sink.name, config, group, since_ms)
        self._delivery = SinkDelivery(sink, self._start.save, lambda: self._status.backlog)
        self._group = group
        self._ids = ids
        self._sink = sink
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow {sink.name}", daemon=True)
        self._status = FollowerStatus(sink.name)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait for its end after `stop`, for some seconds at most, whatever the sink does."""
        self._thread.join(_STOP_S)

    def stop(self) -> None:
        """Make it end: the running attempt is aborted, and repeated at the next start. For any thread."""
        self._stopping.set()

    def status(self) -> FollowerStatus:
        """Return its present status; for any thread."""
        return self._status

    def _run(self) -> None:
        while not (ids := self._ids()):
            if self._stopping.wait(_POLL_S):
                return
        supervise(partial(self._follow, ids), _BACKOFF, self._stopping, self._on_failure)

    def _follow(self, ids: tuple[str, ...]) -> None:
        membership = _Membership(
            self._config, self._group, ids, self._sink, self._delivery, self._start, self._stopping
        )
        with closing(membership):
            while not self._stopping.is_set():
                membership.poll_once()
                self._status = membership.status()

    def _on_failure(self, error: Exception, next_step: str) -> None:
        self._status = FollowerStatus(self._sink.name, error=f"the hand-over has failed{next_step}: {error}")
        log.error("%s: the hand-over has failed%s; recording continues", self._sink.name, next_step, exc_info=error)


class _Membership:
    """A membership in the sink's consumer group: reads g3.files, and hands events over while it has the partition.

    For the follower's thread.
    """

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
        self._errors = _Errors(sink.name, group_id)
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
        self._pending: PendingEvents | None = None  # None: another member has the partition, or the start isn't known
        self._find_start: Callable[[], tuple[int, int | None]] | None = None  # until the offset to start at is known
        self._is_paused = False
        self._consumer.subscribe(
            [FILES_TOPIC], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def close(self) -> None:
        """Abort the running attempt, commit the position, leave the group."""
        if self._delivery.abort(wait=True):
            log.info("%s: the running attempt is aborted; its event is handed over again later", self._sink.name)
        pending, self._pending = self._pending, None
        with suppress(TimeoutError, KafkaException):  # events after the committed position are handed over again
            if pending and pending.position != self._commits.committed:
                commit = partial(self._consumer.commit, offsets=[partition(pending.position)], asynchronous=False)
                call_with_timeout(_LEAVE_S, "committing", commit)
        with suppress(TimeoutError):
            call_with_timeout(_LEAVE_S, "leaving", self._consumer.close)

    def poll_once(self) -> None:
        """Read new events and continue the hand-over; takes a fraction of a second."""
        self._read(self._next_message())
        if self._find_start:
            self._try_to_start(self._find_start)
        done = self._delivery.take_done()  # also without the partition: else `wait` would return at once for ever
        if self._pending:
            if done:
                self._commits.request_commit(self._pending.acknowledge() + 1)
            self._commits.commit_if_due(self._consumer, self._pending.position)
            if self._commits.is_settled and self._pending.first:
                self._delivery.begin(self._pending.first)

    def status(self) -> FollowerStatus:
        """Return its present status."""
        pending, delivery = self._pending, self._delivery
        first = pending.first if pending else None
        return FollowerStatus(
            sink=self._sink.name,
            active=pending is not None,
            backlog=pending.backlog(known_end_offset(self._consumer, FILES_TOPIC) or 0) if pending else 0,
            oldest_ms=first.time_ms if first else None,
            running_since=delivery.running_since,
            delivered=delivery.delivered,
            failures=delivery.failures,
            error=delivery.error if first else None,
            refused=self._errors.current,
            position=pending.position if pending else None,
        )

    def _next_message(self) -> Message | None:
        """Wait for a message, or for the event in progress; return the message, if there is one."""
        if self._delivery.wait(_POLL_S):
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
            text = "%s: the event at offset %d of g3.files is skipped, and never handed over: %s"
            log.warning(text, self._sink.name, offset, error)
            return None
        if not (concerns(event, self._archive_group, self._ids) and self._sink.wants(event)):
            return None
        return PendingEvent(event, value, offset, message.timestamp()[1])

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._errors.on_success()
        elif error.code() != KafkaError._AUTO_OFFSET_RESET:
            self._errors.on_error(error)
        elif self._pending:
            self._find_start = partial(self._first_offset, self._pending.next_offset)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # With an offset that is a number, as in archiver/kafka/assignment.py; nothing is read until it is known.
        consumer.incremental_assign([TopicPartition(p.topic, p.partition, 0) for p in partitions])
        consumer.pause(partitions)
        if _has_events(partitions):
            self._find_start = partial(self._start.find, consumer)

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if _has_events(partitions):
            self._delivery.abort(wait=True)  # the next member mustn't start while this attempt runs
            self._pending = self._find_start = None

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if _has_events(partitions):
            if self._pending:
                text = "%s: the consumer group has given the hand-over to another member, which continues it"
                log.warning(text, self._sink.name)
            self._delivery.abort(wait=False)
            self._pending = self._find_start = None

    def _first_offset(self, missing: int) -> tuple[int, None]:
        """Return g3.files' first offset, to restart at: it was created again, or records were deleted."""
        first, _ = offset_range(self._consumer, FILES_TOPIC, seconds=REQUEST_S)
        text = "%s: g3.files no longer has offset %d: continuing from its first one, %d"
        log.warning(text, self._sink.name, missing, first)
        return first, None

    def _try_to_start(self, find_start: Callable[[], tuple[int, int | None]]) -> None:
        """Start at the offset that `find_start` returns, with the committed one; reset all state to that.

        Tried at each poll until Kafka answers: meanwhile the status is reported, and the member stays in its group.
        """
        try:
            start, committed = find_start()
            restart_at(self._consumer, FILES_TOPIC, start)
        except KafkaException as error:
            self._errors.on_error(error.args[0])
            self._stopping.wait(_RETRY_S)
            return
        except OSError as error:
            self._errors.log_error(f"the position is unknown: {error}")
            self._stopping.wait(_RETRY_S)
            return
        self._errors.on_success()
        self._delivery.abort(wait=False)
        self._commits.reset(committed)
        self._pending = PendingEvents(start)
        self._find_start, self._is_paused = None, False
        log.info("%s: hands over the events of this archive, from offset %d of g3.files on", self._sink.name, start)


class _Errors:
    """Logs the errors that an operator must fix, such as missing rights, at most once a minute each.

    Kafka's outages are logged by the recording.
    """

    def __init__(self, sink: str, group: str) -> None:
        self.current: str | None = None
        """The present error; None once it works."""
        self._sink = sink
        self._rights = (topic_right(Operation.READ, FILES_TOPIC), group_right(Operation.READ, group))
        self._throttle = LogThrottle()

    def on_error(self, error: KafkaError) -> None:
        """Handle the failure of a request, which will be repeated."""
        if not is_refusal(error):
            log.debug("%s: Kafka: %s", self._sink, error.str())
            return
        self.log_error(f"Kafka: {with_right(error, *self._rights).str()}")

    def on_success(self) -> None:
        """Note that requests succeed."""
        self.current = None

    def log_error(self, what: str) -> None:
        """Log an error that an operator must fix."""
        self.current = what
        if self._throttle.due(time.monotonic(), what):
            log.warning("%s: %s; nothing is handed over until then, still trying", self._sink, self.current)


def _has_events(partitions: list[TopicPartition]) -> bool:
    """Whether the partition that has the events is among these."""
    return any(found.partition == 0 for found in partitions)
