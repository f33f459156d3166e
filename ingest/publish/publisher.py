"""Publishes one stream's spool to its topics: in order, each record until Kafka has acknowledged it."""

import logging
import threading
import time
from collections.abc import Mapping
from enum import Enum
from typing import Any

from confluent_kafka import KafkaException

from g3stream.contract.topic_settings import expected_frames_topic, expected_rejected_topic
from g3stream.host.activity import Activity
from g3stream.kafka.topic_watch import TopicWatch
from g3stream.service.log_throttle import LogThrottle
from ingest.publish.in_flight import InFlightBatches, without_producer_settings
from ingest.publish.outage import NO_ANSWER, Outage
from ingest.publish.refusal import Refusal
from ingest.publish.sender import POLL_SECONDS, Sender
from ingest.publish.stream_topics import StreamTopic, TopicRefused
from ingest.spool.spool import Spool
from ingest.status import PublishStatus

log = logging.getLogger(__name__)

IN_FLIGHT_BYTES = 4 << 20
"""How much may be in flight; the rest waits in the spool. It is enough for one batch, and the next ones while it is
acknowledged; with more, the bytes have left the processor's cache by the time they are sent."""

_IDLE_SECONDS = 1.0
_WARN_SECONDS = 5.0
_UNREACHABLE_RETRY_SECONDS = 0.5
_REFUSED_RETRY_SECONDS = 2.0
"""Wait between two attempts while Kafka refuses records, or the topic can't be used."""


class State(Enum):
    """What a publisher does."""

    STARTING = "it checks the topic of a new stream: one that can't be used is an error of the operator's"
    CHECKING = "it creates the topic, or checks it"
    PUBLISHING = "it publishes, from the spool's first record on"
    REFUSED = "it waits to check the topic again, as Kafka refuses a record, or the topic can't be used"
    CLOSED = "it has published everything, or was cancelled"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.STARTING: frozenset({State.STARTING, State.PUBLISHING, State.CLOSED}),
    State.CHECKING: frozenset({State.CHECKING, State.PUBLISHING, State.REFUSED, State.CLOSED}),
    State.PUBLISHING: frozenset({State.CHECKING, State.REFUSED, State.CLOSED}),
    State.REFUSED: frozenset({State.CHECKING, State.CLOSED}),
    State.CLOSED: frozenset(),
}
"""The states that may follow each state. While Kafka doesn't answer, one is followed by itself."""


class Publisher:
    """Publishes one stream's spool until stopped; `run` is its thread's work.

    config: librdkafka settings of the producer. replication_factor: for topics it creates, None for the broker's
    default. topic_config: further settings for these topics. watch: checks the topics while they are used.
    in_flight_bytes: how much may be in flight.
    """

    def __init__(
        self,
        stream: str,
        spool: Spool,
        config: Mapping[str, Any],
        topic_config: Mapping[str, str],
        replication_factor: int | None,
        watch: TopicWatch,
        in_flight_bytes: int = IN_FLIGHT_BYTES,
    ) -> None:
        self._stream = stream
        self._spool = spool
        self._outage = Outage(config)
        config = {**config, **self._outage.callbacks}
        client, requested = without_producer_settings(config), (topic_config, replication_factor)
        self._frames = StreamTopic(stream, expected_frames_topic(stream, *requested), client, watch)
        rejected = expected_rejected_topic(stream, *requested)
        self._rejected = StreamTopic(stream, rejected, client, watch)
        watch.add(rejected)  # before its first frame, which may have come long ago
        self._sender = Sender(spool, config, self._frames, self._rejected, in_flight_bytes)
        is_new = spool.previous is None and not spool.ledger.waiting_batches
        self._state = State.STARTING if is_new else State.CHECKING
        self._log_throttle = LogThrottle(_WARN_SECONDS)
        self._stopping = threading.Event()
        self._cancelled = threading.Event()
        self._wakeup = threading.Event()  # `run` has something to do
        self._waiting = False  # `run` waits for `_wakeup` for long, as it expects no acknowledgement

    def status(self) -> PublishStatus:
        """Return its status. For any thread."""
        frames, rejected, throttling = self._frames, self._rejected, self._outage.throttling
        return PublishStatus(
            acknowledged_offset=frames.acknowledged_offset,
            oldest_unacked_ms=self._sender.oldest_unacked_ms,
            latency=self._sender.latency.counts(),
            degraded_reason=frames.problem or self._outage.reason or frames.timestamps_problem or rejected.problem,
            throttled_reason=throttling.problem(time.monotonic()),
            throttled_s=throttling.total_s,
            topics=frames.differences + rejected.differences,
        )

    @property
    def activity(self) -> Activity:
        """What its thread does with the spool. For any thread."""
        return self._sender.activity

    def run(self) -> None:
        """Publish until `stop`, and then until the spool is empty or `cancel` is called.

        Raises TopicRefused if the topic of a new stream can't be used. Later it waits until the topic is fixed, and
        logs a warning.
        """
        steps = {
            State.STARTING: self._check,
            State.CHECKING: self._check,
            State.PUBLISHING: self._publish,
            State.REFUSED: self._wait_to_check_again,
        }
        try:
            while self._state is not State.CLOSED:
                following = State.CLOSED if self._done() else steps[self._state]()
                assert following in TRANSITIONS[self._state], f"{self._state} → {following}"
                self._state = following
        finally:
            self._frames.close()
            self._rejected.close()

    def publish_inline(self) -> None:
        """Publish what was just spooled, in the thread that spooled it: waking another thread costs more.

        Never blocks: what can't be handed to the producer at once is left to `run`.
        """
        if not self._sender.send_inline() or self._waiting:
            self._wakeup.set()

    def stop(self) -> None:
        """Make `run` publish the rest of the spool and return: nothing more will be spooled."""
        self._stopping.set()
        self._wakeup.set()

    def cancel(self) -> None:
        """Make `run` return now; what Kafka has not acknowledged stays in the spool."""
        self._cancelled.set()
        self._wakeup.set()

    def _done(self) -> bool:
        return self._cancelled.is_set() or (self._stopping.is_set() and not self._spool.ledger.waiting_batches)

    # -- the states

    def _check(self) -> State:
        if self._ensure(self._frames):
            return State.PUBLISHING
        self._sender.find_oldest()
        if self._outage.reason:
            self._cancelled.wait(_UNREACHABLE_RETRY_SECONDS)
            return self._state
        if self._state is State.STARTING:
            raise TopicRefused(self._frames.unusable_reason)
        return State.REFUSED

    def _publish(self) -> State:
        """Publish with one producer, from the spool's first record on, until done or the producer fails."""
        in_flight = self._sender.open()
        try:
            must_check = False
            while not (self._done() or in_flight.failure or must_check):
                self._wakeup.clear()
                if self._sender.send(self._can_send_rejected) and not self._spool.ledger.stopping:
                    # Don't wait for acknowledgements: no one needs them soon, and waking up for each costs more.
                    self._waiting = True  # before looking, so that what arrives meanwhile ends the wait
                    self._waiting = not self._spool.ledger.waiting_batches
                    self._wakeup.wait(_IDLE_SECONDS if self._waiting else POLL_SECONDS)
                    self._waiting = False
                must_check = self._update(in_flight)
        finally:
            self._sender.close()
        return self._on_refusal(in_flight.failure) if in_flight.failure else State.CHECKING

    def _wait_to_check_again(self) -> State:
        self._cancelled.wait(_REFUSED_RETRY_SECONDS)
        return State.CHECKING

    # -- its steps

    def _ensure(self, topic: StreamTopic) -> bool:
        """Create and check a topic. Returns whether it can be published to; False also if Kafka doesn't answer."""
        try:
            usable = topic.ensure()
        except KafkaException as error:
            self._warn(self._outage.begin("can't be used yet", error.args[0]), topic.name)
            return False
        if topic is self._frames:
            self._outage.end()
        if not usable and self._state is not State.STARTING:
            self._warn(str(topic.problem), topic.name)
        return usable

    def _can_send_rejected(self) -> bool:
        """Whether rejected frames have a topic. Without it they stay in the spool; other records continue."""
        if self._rejected.is_due:
            self._ensure(self._rejected)
        return self._rejected.is_ready

    def _update(self, in_flight: InFlightBatches) -> bool:
        """Update what is known of Kafka from what it has acknowledged, and when.

        Returns whether to check the topic, and to start again with the spool's first record.
        """
        for rejected, offset in in_flight.acknowledged_offsets.copy().items():
            if (self._rejected if rejected else self._frames).accept(offset) and not rejected:
                self._outage.end()
        answered_at = max(in_flight.last_answer_at, self._outage.throttling.until)
        if in_flight.bytes and time.monotonic() - answered_at > _WARN_SECONDS:
            self._warn(self._outage.begin("does not acknowledge", NO_ANSWER))
        return (
            self._frames.unusable_reason is not None
            or (self._sender.skipped_rejected and self._can_send_rejected())
            or self._frames.note_timestamps(in_flight.timestamps_replaced)  # the watch checks it only later
        )

    def _on_refusal(self, refusal: Refusal) -> State:
        """Log that Kafka refused a record, which stays in the spool. Refused rejected frames hold up no others."""
        rejected = refusal.topic == self._rejected.name
        topic = self._rejected if rejected else self._frames
        usable = self._ensure(topic)  # its settings may be the cause
        topic.refuse(refusal)
        if usable or rejected:
            self._warn(str(topic.problem), topic.name if rejected else self._stream)
        return State.REFUSED if usable and not rejected else State.CHECKING

    def _warn(self, message: str, retrying: str = "") -> None:
        if not self._log_throttle.due(time.monotonic()):
            return
        log.warning(  # without the stream's name in front, so that many streams' equal warnings can be folded
            "%s; %.1f MB wait in the spool; still trying for %s",
            message,
            self._spool.ledger.waiting_bytes / 1e6,
            retrying or self._stream,
            extra={"stream": self._stream},
        )
