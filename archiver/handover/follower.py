"""Follower: reads g3.files in order and hands each event of an archive over to a sink (sink.py), at least once.

Beside the recording, in threads and with a consumer of its own: whatever a sink does, recording never waits for it.
The position is what a consumer group of the sink and the archive has committed. So of the archivers of one archive
one does it, another one takes over when that dies, and a restart goes on where the last one was.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from archiver.archive.location import Location
from archiver.core.checkpoint import CheckpointError
from archiver.core.events import decode, key_prefixes
from archiver.handover.delivery import SinkDelivery
from archiver.handover.position import (
    CommittedPosition,
    cached_end_offset,
    committed_offset,
    first_offset_since,
    offset_range,
    partition,
)
from archiver.handover.saved_position import NoPosition, PositionFile
from archiver.handover.schedule import FollowerStatus, PendingEvents, concerns, group_of
from archiver.handover.sink import PendingEvent, Sink
from archiver.kafka.topic_reader import CONNECTED_CONFIG
from g3stream.contract.topics import FILES_TOPIC
from g3stream.kafka.authorization import Operation, group_right, is_refusal, topic_right, with_right
from g3stream.kafka.availability import AVAILABILITY_CONFIG
from g3stream.kafka.throttling import LONG_TIMEOUT_MS
from g3stream.kafka.topic_admin import ADMIN_CONFIG
from g3stream.service.timeouts import call_with_timeout

log = logging.getLogger(__name__)

CONSUMER_CONFIG: Mapping[str, str | int | bool] = {
    "group.protocol": "classic",
    "partition.assignment.strategy": "cooperative-sticky",  # who has it keeps it when another one joins
    # No static id: who stops leaves, and another archiver has it at once. After a kill it takes a session; but when
    # one ends because Kafka is away, what is being handed over is aborted: so it is longer than a broker's restart.
    "session.timeout.ms": 30_000,
    "heartbeat.interval.ms": 3_000,
    "enable.auto.commit": False,
    "auto.offset.reset": "error",
    "enable.partition.eof": True,  # so that the end of a refusal is noticed though no event comes
    "topic.metadata.refresh.interval.ms": 5_000,  # how soon g3.files is found, if an archiver creates it just now
    "fetch.wait.max.ms": 500,
    "queued.max.messages.kbytes": 4 << 10,
    **ADMIN_CONFIG,
    **CONNECTED_CONFIG,
    **AVAILABILITY_CONFIG,
    # Nothing here is urgent, and a broker that throttles takes longer than recording would wait
    # (g3stream/kafka/throttling.py).
    "socket.timeout.ms": LONG_TIMEOUT_MS,
}

_POLL_S = 0.25
_BUSY_POLL_S = 0.01
_RETRY_S = 0.5
_MAX_PER_TURN = 1000
_LEAVE_S = 1.0
_STOP_S = 6.0
_REPEAT_LOG_S = 60.0
_RESTART_S = 10.0


class Follower:
    """Hands the events of one archive over to a sink, on threads of its own, from `start` to `stop`.

    config: librdkafka's settings. location, group: of the archive. ids: gives the archive's ids once they are known,
    and nothing before. since_ms: if nothing was handed over yet, it begins with the first event published after.
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
        self._config = {**CONSUMER_CONFIG, **config}
        self._file = PositionFile(location, sink.name, config, group)
        self._group = group
        self._ids = ids
        self._sink = sink
        self._since_ms = since_ms
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow {sink.name}", daemon=True)
        self._status = FollowerStatus(sink.name)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait for its end, after `stop`; for some seconds at most, whatever the sink does."""
        self._thread.join(_STOP_S)

    def stop(self) -> None:
        """Let it end: what is being handed over is aborted, and comes again at the next start. For any thread."""
        self._stopping.set()

    def status(self) -> FollowerStatus:
        """How it is now; for any thread."""
        return self._status

    def _run(self) -> None:
        while not (ids := self._ids()):
            if self._stopping.wait(_POLL_S):
                return
        delivery = SinkDelivery(self._sink, self._file.save)
        while not self._stopping.is_set():
            try:
                membership = _FollowerMembership(
                    self._config,
                    self._group,
                    ids,
                    self._sink,
                    delivery,
                    self._file,
                    self._since_ms,
                    self._stopping,
                )
                with membership:
                    while not self._stopping.is_set():
                        membership.poll_once()
                        self._status = membership.status()
            except Exception as error:  # recording goes on, and so must this, whatever it was
                text = f"the hand-over has failed, and begins again in {_RESTART_S:g} s"
                self._status = FollowerStatus(self._sink.name, error=f"{text}: {error}")
                log.exception("%s: %s", self._sink.name, text)
                self._stopping.wait(_RESTART_S)
        delivery.close()


class _FollowerMembership:
    """A membership in the sink's group; for the follower's thread."""

    def __init__(
        self,
        config: Mapping[str, Any],
        group: str,
        ids: tuple[str, ...],
        sink: Sink,
        delivery: SinkDelivery,
        file: PositionFile,
        since_ms: int,
        stopping: threading.Event,
    ) -> None:
        self._archive_group = group
        self._ids = ids
        self._sink = sink
        self._delivery = delivery
        self._file = file
        self._since_ms = since_ms
        self._stopping = stopping
        group_id = group_of(group, sink.name, ids[0])
        self._errors = _ConsumerErrors(sink.name, group_id)
        self._position_commits = CommittedPosition(self._errors.on_error)
        self._consumer = Consumer(
            {
                **config,
                "group.id": group_id,
                "on_commit": self._position_commits.on_commit_response,
                "error_cb": self._errors.on_error,
            }
        )
        self._pending: PendingEvents | None = None  # None: another member has it
        self._is_paused = False
        self._is_out_of_range = False

    def __enter__(self) -> Self:
        self._consumer.subscribe(
            [FILES_TOPIC], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abort what is being handed over, commit the position, leave the group."""
        if self._delivery.abort(wait=True):
            log.info("%s: what was being handed over is aborted, and comes again", self._sink.name)
        pending, self._pending = self._pending, None
        with suppress(TimeoutError, KafkaException):  # what isn't committed comes again
            if pending and self._position_commits.is_behind(pending.position):
                offsets = [partition(pending.position)]
                call_with_timeout(
                    _LEAVE_S, "committing", lambda: self._consumer.commit(offsets=offsets, asynchronous=False)
                )
        with suppress(TimeoutError):
            call_with_timeout(_LEAVE_S, "leaving", self._consumer.close)

    def poll_once(self) -> None:
        """Read what has come, and go on with handing over. Takes a fraction of a second."""
        self._read(self._next_message())
        if self._is_out_of_range:
            self._restart_at_first_offset()
        done = self._delivery.take_result(self._backlog)
        if done is not None:
            self._position_commits.request_commit(done + 1)
        if self._pending:
            self._position_commits.commit_if_due(self._consumer, self._pending.position)
            if self._position_commits.is_settled:
                self._delivery.begin_if_due(self._pending)

    def status(self) -> FollowerStatus:
        """How it is."""
        first = self._pending.first if self._pending else None
        return FollowerStatus(
            sink=self._sink.name,
            active=self._pending is not None,
            backlog=self._backlog(),
            oldest_ms=first.time_ms if first else None,
            running_since=self._delivery.running_since,
            delivered=self._delivery.delivered,
            failures=self._delivery.failures,
            error=self._delivery.error if first else None,
            refused=self._errors.current,
            position=self._pending.position if self._pending else None,
        )

    def _backlog(self) -> int:
        return self._pending.backlog(cached_end_offset(self._consumer)) if self._pending else 0

    def _next_message(self) -> Message | None:
        """The next message, as soon as there is something to do."""
        if self._delivery.running_since is not None:
            self._delivery.wait(_POLL_S)
            return self._consumer.poll(0)
        return self._consumer.poll(_POLL_S if self._position_commits.is_settled else _BUSY_POLL_S)

    def _read(self, message: Message | None) -> None:
        for _ in range(_MAX_PER_TURN):
            if message is None:
                break
            if error := message.error():
                self._on_error(error)
            elif self._pending and message.partition() == 0:
                self._errors.current = None
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
        """The event that a record is, if it is to be handed over."""
        if not (message.key() or b"").startswith(key_prefixes(self._archive_group)):
            return None
        value = message.value() or b""
        try:
            event = decode(value)
        except CheckpointError as error:
            log.warning("%s: the event at offset %d of g3.files is passed over: %s", self._sink.name, offset, error)
            return None
        if not (concerns(event, self._archive_group, self._ids) and self._sink.wants(event)):
            return None
        return PendingEvent(event, value, offset, message.timestamp()[1])

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._errors.current = None
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._is_out_of_range = True
        else:
            self._errors.on_error(error)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if not any(found.partition == 0 for found in partitions):
            consumer.incremental_assign(partitions)
            return
        found = self._position()
        start = found[0] if found else 0
        consumer.incremental_assign([TopicPartition(p.topic, p.partition, start) for p in partitions])
        if found is None:  # we stop, and read nothing
            consumer.pause(partitions)
            return
        self._errors.current = None
        self._start_at(*found)
        log.info("%s: hands over the events of this archive, from offset %d on", self._sink.name, start)

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if any(found.partition == 0 for found in partitions):
            self._delivery.abort(wait=True)  # the next one mustn't begin while we still do it
            self._pending = None

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if any(found.partition == 0 for found in partitions):
            if self._pending:
                log.warning("%s: the group has given the hand-over to another member", self._sink.name)
            self._delivery.abort(wait=False)
            self._pending = None

    def _start_at(self, start: int, committed: int | None) -> None:
        """What comes is read from there on; all that was known is void."""
        self._delivery.abort(wait=False)
        self._position_commits.reset(committed)
        self._pending = PendingEvents(start)
        self._is_paused = self._is_out_of_range = False

    def _position(self) -> tuple[int, int | None] | None:
        """Where to go on, and what is committed; asks Kafka until it answers. None once we stop."""
        while not self._stopping.is_set():
            try:
                committed = committed_offset(self._consumer)
                return self._resume_offset(committed), committed
            except KafkaException as error:
                self._errors.on_error(error.args[0])
            except OSError as error:
                self._errors.log_error(f"where to go on isn't known: {error}")
            self._stopping.wait(_RETRY_S)
        return None

    def _resume_offset(self, committed: int | None) -> int:
        """Where to go on. Raises KafkaException, OSError."""
        match self._file.resume_offset(committed):
            case NoPosition.NEVER_DELIVERED:
                start = first_offset_since(self._consumer, self._since_ms)
                log.info("%s: begins, with the events from offset %d on", self._sink.name, start)
            case NoPosition.TOPIC_RECREATED:
                start, _ = offset_range(self._consumer)
                log.warning("%s: g3.files has been made anew: all that it holds is handed over", self._sink.name)
            case start:
                pass
        return start

    def _restart_at_first_offset(self) -> None:
        """The topic has been deleted and created anew, or somebody has deleted records of it."""
        assert self._pending
        try:
            first, _ = offset_range(self._consumer)
        except KafkaException as error:
            self._errors.on_error(error.args[0])
            self._stopping.wait(_RETRY_S)
            return
        text = "%s: g3.files doesn't have offset %d: goes on from its first one, %d"
        log.warning(text, self._sink.name, self._pending.next_offset, first)
        self._start_at(first, None)
        self._consumer.incremental_unassign([TopicPartition(FILES_TOPIC, 0)])
        self._consumer.incremental_assign([partition(first)])


class _ConsumerErrors:
    """What somebody has to mend, as what Kafka refuses: said once in a while. Of outages the recording speaks.

    current: the latest, None once it works.
    """

    def __init__(self, sink: str, group: str) -> None:
        self.current: str | None = None
        self._sink = sink
        self._rights = (topic_right(Operation.READ, FILES_TOPIC), group_right(Operation.READ, group))
        self._logged_at_s: tuple[str, float] = ("", 0.0)

    def on_error(self, error: KafkaError) -> None:
        """A request has failed, and is made again."""
        if not is_refusal(error):
            log.debug("%s: Kafka: %s", self._sink, error.str())
            return
        self.log_error(f"Kafka: {with_right(error, *self._rights).str()}")

    def log_error(self, what: str) -> None:
        """This is in the way, and somebody has to mend it."""
        self.current = what
        (said, at), now = self._logged_at_s, time.monotonic()
        if said != self.current or now - at > _REPEAT_LOG_S:
            self._logged_at_s = self.current, now
            log.warning("%s: %s; nothing is handed over until then, still trying", self._sink, self.current)
