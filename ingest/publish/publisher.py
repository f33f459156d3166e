"""Publishes one stream's spool to its topics: in order, each record until Kafka has acknowledged it."""

import logging
import threading
import time
from collections.abc import Mapping
from enum import Enum
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from g3stream.contract.topic_settings import ExpectedTopic, Role
from g3stream.contract.topics import frames_topic, rejected_topic
from g3stream.host.activity import Activity
from g3stream.kafka.topic_admin import TopicWatch
from g3stream.log.throttle import LogThrottle
from ingest.config import StreamSettings
from ingest.publish.in_flight import InFlightBatches, without_producer_settings
from ingest.publish.outage import Outage, Outages
from ingest.publish.refusal import Refusal
from ingest.publish.sender import POLL_SECONDS, Sender
from ingest.publish.stream_topics import StreamTopic, TopicRefused
from ingest.spool.spool import Spool
from ingest.status import PublishStatus

log = logging.getLogger(__name__)

IN_FLIGHT_BYTES = 4 << 20
"""How much may be in flight; the rest waits in the spool. It is enough for one batch, and the next ones while it is
acknowledged; with more, the bytes have left the processor's cache by the time they are sent."""

_NO_ANSWER = KafkaError(KafkaError._TIMED_OUT, "no answer")
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
    CLOSED = "it has published everything, or was cancelled"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.STARTING: frozenset({State.STARTING, State.PUBLISHING, State.CLOSED}),
    State.CHECKING: frozenset({State.CHECKING, State.PUBLISHING, State.CLOSED}),
    State.PUBLISHING: frozenset({State.CHECKING, State.CLOSED}),
    State.CLOSED: frozenset(),
}
"""The states that may follow each state. While the topic can't be used, one is followed by itself."""


class Publisher:
    """Publishes one stream's spool until stopped; `run` is its thread's work.

    config: librdkafka settings of the producer. watch: checks the topics while they are used. in_flight_bytes: how
    much may be in flight. outages: those of all streams of this process; None: there is no other.
    """

    def __init__(
        self,
        settings: StreamSettings,
        spool: Spool,
        config: Mapping[str, Any],
        watch: TopicWatch,
        in_flight_bytes: int = IN_FLIGHT_BYTES,
        outages: Outages | None = None,
    ) -> None:
        self._stream = stream = settings.name
        self._spool = spool
        self._outage = Outage(config, stream, outages or Outages())
        config = {**config, **self._outage.callbacks}
        client, requested = without_producer_settings(config), (settings.topic_config, settings.replication_factor)
        frames = ExpectedTopic(frames_topic(stream), Role.FRAMES, *requested)
        self._frames = StreamTopic(stream, frames, client, watch)
        rejected = ExpectedTopic(rejected_topic(stream), Role.REJECTED, *requested)
        self._rejected = StreamTopic(stream, rejected, client, watch)
        watch.add(rejected)  # before its first frame, which may have come long ago
        topics = {False: self._frames, True: self._rejected}
        self._sender = Sender(spool, config, topics, in_flight_bytes)
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
        steps = {State.STARTING: self._check, State.CHECKING: self._check, State.PUBLISHING: self._publish}
        try:
            while self._state is not State.CLOSED:
                following = State.CLOSED if self._done() else steps[self._state]()
                assert following in TRANSITIONS[self._state], f"{self._state} → {following}"
                self._state = following
        finally:
            self._outage.close()
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
        if self._state is State.STARTING and not self._outage.reason:
            raise TopicRefused(self._frames.unusable_reason)
        self._cancelled.wait(_UNREACHABLE_RETRY_SECONDS if self._outage.reason else _REFUSED_RETRY_SECONDS)
        return self._state

    def _publish(self) -> State:
        """Publish with one producer, from the spool's first record on, until done or the producer fails."""
        in_flight = self._sender.open()
        try:
            while not (self._done() or in_flight.failure or self._update(in_flight)):
                self._wakeup.clear()
                if self._sender.send(self._can_send_rejected) and not self._spool.ledger.stopping:
                    # Don't wait for acknowledgements: no one needs them soon, and waking up for each costs more.
                    self._waiting = True  # before looking, so that what arrives meanwhile ends the wait
                    self._waiting = not self._spool.ledger.waiting_batches
                    self._wakeup.wait(_IDLE_SECONDS if self._waiting else POLL_SECONDS)
                    self._waiting = False
        finally:
            self._sender.close()
        if in_flight.failure:
            self._on_refusal(in_flight.failure)
        return State.CHECKING

    # -- its steps

    def _ensure(self, topic: StreamTopic) -> bool:
        """Create and check a topic. Returns whether it can be published to; False also if Kafka doesn't answer."""
        asked_at = time.monotonic()
        try:
            usable = topic.ensure()
        except KafkaException as error:
            self._warn(self._outage.begin("can't be used yet", error.args[0], asked_at), topic.name)
            return False
        self._outage.end(time.monotonic(), self._spool.ledger.waiting_bytes)
        if not usable and self._state is not State.STARTING:
            self._warn(str(topic.problem), topic.name)
        return usable

    def _can_send_rejected(self) -> bool:
        """Whether rejected frames have a topic. Without it they stay in the spool; other records continue."""
        if self._rejected.is_due:
            self._ensure(self._rejected)
        return self._rejected.is_ready

    def _update(self, in_flight: InFlightBatches) -> bool:
        """Update whether Kafka answers, from when it has acknowledged something.

        Returns whether to check the topic, and to start again with the spool's first record.
        """
        self._outage.end(in_flight.answered_at, self._spool.ledger.waiting_bytes)
        waits_since = max(in_flight.waits_since, in_flight.answered_at, self._outage.throttling.until)
        if in_flight.bytes and time.monotonic() - waits_since > _WARN_SECONDS:
            self._warn(self._outage.begin("does not acknowledge", _NO_ANSWER, waits_since))
        return (
            not self._frames.is_ready
            or self._frames.unusable_reason is not None
            or (self._sender.skipped_rejected and self._can_send_rejected())
        )

    def _on_refusal(self, refusal: Refusal) -> None:
        """Log that Kafka refused a record, which stays in the spool. Refused rejected frames hold up no others."""
        rejected = refusal.topic == self._rejected.name
        topic = self._rejected if rejected else self._frames
        usable = self._ensure(topic)  # its settings may be the cause
        topic.refuse(refusal)
        if usable or rejected:
            self._warn(str(topic.problem), topic.name if rejected else self._stream)
        if usable and not rejected:
            self._cancelled.wait(_REFUSED_RETRY_SECONDS)

    def _warn(self, message: str, retrying: str = "") -> None:
        if self._log_throttle.due(time.monotonic()):
            # Without the stream's name in front, so that many streams' equal warnings can be folded.
            text = "%s; %.1f MB wait in the spool; still trying for %s"
            megabytes = self._spool.ledger.waiting_bytes / 1e6
            log.warning(text, message, megabytes, retrying or self._stream, extra={"stream": self._stream})
