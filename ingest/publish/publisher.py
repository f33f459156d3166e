"""Publishes one stream's spool to its topics: in order, each record until Kafka has acknowledged it."""

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from g3stream.contract.topic_settings import Difference, timestamps_replaced
from g3stream.host.activity import Activity
from g3stream.kafka.availability import ConnectionErrors
from g3stream.kafka.throttling import Throttling
from g3stream.kafka.topic_watch import TopicWatch
from g3stream.service.histogram import LatencyHistogram
from g3stream.service.log_throttle import LogThrottle
from ingest.publish.in_flight import InFlightBatches, without_producer_settings
from ingest.publish.refusal import Refusal
from ingest.publish.stream_topics import StreamTopics, TopicRefused
from ingest.spool.batch import Batch
from ingest.spool.spool import Spool

log = logging.getLogger(__name__)

IN_FLIGHT_BYTES = 4 << 20
"""How much may be in flight; the rest waits in the spool. It is enough for one batch, and the next ones while it is
acknowledged; with more, the bytes have left the processor's cache by the time they are sent."""

_ACKNOWLEDGE_BYTES = 8 << 20
_ACKNOWLEDGE_SECONDS = 0.5
"""Acknowledged batches are removed from the spool after this time, or this many bytes: each removal costs a write."""
_POLL_SECONDS = 0.1
"""How often acknowledgements are processed, and space in the spool is freed, while there is nothing to send."""
_IDLE_SECONDS = 1.0
_WARN_SECONDS = 5.0
_REFUSED_RETRY_SECONDS = 2.0
"""Wait between two attempts while Kafka refuses records, or the topic can't be used."""
_MAX_REJECTED_RETRY_SECONDS = 60.0
"""Longest wait between two attempts to publish rejected frames: each sends again some frames that Kafka has."""
_NO_ANSWER = KafkaError(KafkaError._TIMED_OUT, "no answer")


class Publisher:
    """Publishes one stream's spool until stopped; `run` is its thread's work.

    config: librdkafka settings of the producer. replication_factor: for topics it creates, None for the broker's
    default. topic_config: further settings for these topics. watch: checks the topics while they are used.
    in_flight_bytes: how much may be in flight.

    `run` raises TopicRefused only at the stream's first start, when nothing has been published and nothing waits.
    Later it waits until the topic is fixed, and logs a warning.
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
        self._in_flight_limit = in_flight_bytes
        self._throttling = Throttling("producer_byte_rate", config)
        self._config = {**config, "error_cb": self._on_client_error, "throttle_cb": self._throttling.on_throttle}
        client = without_producer_settings(self._config)
        self._topics = StreamTopics(stream, client, topic_config, replication_factor, watch)
        self._is_first_start = spool.previous is None and not spool.waiting_batches
        self._servers = config["bootstrap.servers"]
        self.acknowledged_offset: int | None = None
        """The offset, in the stream's topic, of the last record that Kafka has acknowledged."""
        self._outage_reason: str | None = None
        self._timestamps_replaced = False
        self._refusals: dict[bool, Refusal] = {}  # current ones, by whether they are of rejected frames
        self._unusable: dict[bool, str] = {}  # why the topics can't be used, by whether it is that of rejected frames
        self.oldest_unacked_ms: int | None = None
        """When the first record that Kafka hasn't acknowledged was received, ms since the epoch; None if unknown."""
        self.latency = LatencyHistogram()
        """From receipt to acknowledgement."""
        self.activity = Activity()
        self._stopping = threading.Event()
        self._cancelled = threading.Event()
        self._wakeup = threading.Event()  # `run` has something to do
        self._waiting = False  # `run` waits for `_wakeup` for long, as it expects no acknowledgement
        self._publish_lock = threading.Lock()  # guards the following
        self._in_flight: InFlightBatches | None = None
        self._last_sent_key = -1  # of the last batch given to the producer
        self._acknowledged_at = 0.0  # when the last batches were removed from the spool
        self._rejected_topic_ready = False
        self._skipped_rejected = False  # rejected frames were not sent, as they had no topic
        self._retry_rejected_at, self._rejected_retry_s = 0.0, _WARN_SECONDS
        self._connection_errors = ConnectionErrors()
        self._log_throttle = LogThrottle(_WARN_SECONDS)

    @property
    def degraded_reason(self) -> str | None:
        """Why Kafka doesn't accept records, or rejected frames, now; None if it does. For any thread."""
        replaced = timestamps_replaced(self._topics.names[False]) if self._timestamps_replaced else None
        return (
            self._refusal_reason(rejected=False)
            or self._outage_reason
            or replaced
            or self._refusal_reason(rejected=True)
        )

    @property
    def topics(self) -> tuple[Difference, ...]:
        """How its topics differ from what they should be, as of the last check. For any thread."""
        return self._topics.differences

    def run(self) -> None:
        """Publish until `stop`, and then until the spool is empty or `cancel` is called. Raises TopicRefused."""
        try:
            while not self._done():
                if self._ensure_topic(rejected=False):
                    self._is_first_start = False
                    self._publish()
                elif self.oldest_unacked_ms is None and (first := self._spool.read(-1, 1)):
                    self.oldest_unacked_ms = first[0].records[0].time_ms
        finally:
            self._topics.close()

    def publish_inline(self) -> None:
        """Publish what was just spooled, in the thread that spooled it: waking another thread costs more.

        Never blocks: what can't be handed to the producer at once is left to `run`.
        """
        if not self._publish_lock.acquire(blocking=False):
            self._wakeup.set()
            return
        try:
            all_sent = self._in_flight is not None and self._send_available(self._in_flight, from_disk=False)
            if self._waiting or not all_sent:
                self._wakeup.set()
        finally:
            self._publish_lock.release()

    @property
    def throttling(self) -> Throttling:
        """How Kafka's quotas slow it down. For any thread."""
        return self._throttling

    def stop(self) -> None:
        """Make `run` publish the rest of the spool and return: nothing more will be spooled."""
        self._stopping.set()
        self._wakeup.set()

    def cancel(self) -> None:
        """Make `run` return now; what Kafka has not acknowledged stays in the spool."""
        self._cancelled.set()
        self._wakeup.set()

    def _done(self) -> bool:
        return self._cancelled.is_set() or (self._stopping.is_set() and not self._spool.waiting_batches)

    def _publish(self) -> None:
        """Publish with one producer, from the spool's first record on, until done or the producer fails."""
        in_flight = InFlightBatches(self._config, self._topics.names, self.latency)
        with self._publish_lock:
            self._last_sent_key, self._skipped_rejected = -1, False
            self._in_flight = in_flight
        try:
            while not self._done() and not in_flight.failed:
                if self._topics.unusable_reason(rejected=False):
                    break  # to check the topic again
                if self._skipped_rejected and self._can_send_rejected():
                    break  # to start again with the spool's first record
                if self._timestamps_newly_replaced(in_flight):
                    break  # to check the topic sooner than the watch does
                self._wakeup.clear()
                with self._publish_lock:
                    all_sent = self._send_available(in_flight, from_disk=True)
                    if not all_sent or self._spool.stopping:
                        in_flight.poll(_POLL_SECONDS)
                if all_sent and not self._spool.stopping:
                    # Don't wait for acknowledgements: no one needs them soon, and waking up for each costs more.
                    self._waiting = True  # before looking, so that what arrives meanwhile ends the wait
                    self._waiting = not self._spool.waiting_batches
                    self._wakeup.wait(_IDLE_SECONDS if self._waiting else _POLL_SECONDS)
                    self._waiting = False
                self._check_unresponsive(in_flight)
        finally:
            with self._publish_lock:
                self._in_flight = None
                in_flight.poll(0)
                self._acknowledge(in_flight)
                in_flight.close()
        if in_flight.failed:
            self._on_refusal(Refusal.of(in_flight.failed, in_flight.failed_topic))

    def _timestamps_newly_replaced(self, in_flight: InFlightBatches) -> bool:
        """Whether Kafka has begun to replace the times of receipt.

        If the topic's settings are visible, publishing then stops until they are fixed. If ACLs hide them, that is
        logged, and publishing continues: only a published record can show that the settings were fixed.
        """
        replaced, before = in_flight.timestamps_replaced, self._timestamps_replaced
        if replaced is None or replaced == before:
            return False
        self._timestamps_replaced = replaced
        if replaced:
            log.error("%s: %s", self._stream, timestamps_replaced(self._topics.names[False]))
        return replaced

    def _on_refusal(self, refusal: Refusal) -> None:
        """Log that Kafka refused a record, which stays in the spool, and wait before the next attempt.

        Refused rejected frames don't hold up the other records.
        """
        rejected = refusal.topic == self._topics.names[True]
        self._refusals[rejected] = refusal
        if rejected:
            self._rejected_topic_ready = False
            self._retry_rejected_at = time.monotonic() + self._rejected_retry_s
            self._rejected_retry_s = min(2 * self._rejected_retry_s, _MAX_REJECTED_RETRY_SECONDS)
            with suppress(KafkaException):  # only needed to report the cause
                self._topics.ensure(rejected=True)
            self._warn(str(self._refusal_reason(rejected=True)), retrying=self._topics.names[True])
        elif self._ensure_topic(rejected=False):
            self._warn(str(self._refusal_reason(rejected=False)))
            self._cancelled.wait(_REFUSED_RETRY_SECONDS)

    def _refusal_reason(self, *, rejected: bool) -> str | None:
        """Why one of the topics takes no records; None if it does."""
        which = "rejected frames" if rejected else "records"
        if unusable := self._unusable.get(rejected):
            return f"{which} can't be published: {unusable}"
        if refusal := self._refusals.get(rejected):
            topic = refusal.topic or self._topics.names[rejected]
            why = refusal.explain(topic, self._topics.found(rejected=rejected))
            return f"Kafka refuses {which} in {topic}: {why}"
        return None

    def _send_available(self, in_flight: InFlightBatches, *, from_disk: bool) -> bool:
        """Give the producer the spool's batches, up to the limit in flight. Returns whether that was all of them.

        from_disk: if false, only cached batches are sent. With _publish_lock held.
        """
        in_flight.poll(0)
        all_sent = False
        while not all_sent and not in_flight.failed and in_flight.bytes < self._in_flight_limit:
            with self.activity.track("a read of the spool"):
                batches = self._spool.read(self._last_sent_key, self._in_flight_limit // 4, from_disk=from_disk)
            for batch in batches:
                if not self._send_batch(in_flight, batch, may_create_topic=from_disk):
                    return False
            all_sent = not batches and not self._spool.has_more(self._last_sent_key)
            if not batches:
                break
        self._update_progress(in_flight)
        return all_sent

    def _send_batch(self, in_flight: InFlightBatches, batch: Batch, *, may_create_topic: bool) -> bool:
        """Give the producer a batch. Returns False if a topic must be created first, and that isn't allowed."""
        rejected = any(record.rejected for record in batch.records)
        if rejected and not (self._rejected_topic_ready or may_create_topic):
            return False
        can_send_rejected = not rejected or self._can_send_rejected()
        self._skipped_rejected = self._skipped_rejected or not can_send_rejected
        in_flight.send(batch, can_send_rejected)
        self._last_sent_key = batch.key
        return True

    def _update_progress(self, in_flight: InFlightBatches) -> None:
        """Update status from the producer; remove acknowledged batches from the spool, many at a time."""
        self.oldest_unacked_ms = in_flight.oldest_unacked_ms
        offset = in_flight.acknowledged_offsets.get(False)
        if offset is not None and offset != self.acknowledged_offset:
            self.acknowledged_offset = offset
            self._outage_reason = None
        for rejected in in_flight.acknowledged_offsets if self._refusals else ():
            self._refusals.pop(rejected, None)
            if rejected:
                self._rejected_retry_s = _WARN_SECONDS
        due = time.monotonic() >= self._acknowledged_at + _ACKNOWLEDGE_SECONDS or self._spool.stopping
        if in_flight.acknowledged_bytes >= _ACKNOWLEDGE_BYTES or (in_flight.acknowledged_bytes and due):
            self._acknowledge(in_flight)

    def _acknowledge(self, in_flight: InFlightBatches) -> None:
        self._acknowledged_at = time.monotonic()
        if keys := in_flight.pop_acknowledged():
            with self.activity.track("removing from the spool what Kafka has"):
                self._spool.acknowledge(keys)

    def _check_unresponsive(self, in_flight: InFlightBatches) -> None:
        if (
            in_flight.bytes
            and time.monotonic() - max(in_flight.last_answer_at, self._throttling.until) > _WARN_SECONDS
        ):
            self._outage_reason = (
                f"Kafka at {self._servers} does not acknowledge ({self._connection_errors.describe(_NO_ANSWER)})"
            )
            self._warn(self._outage_reason)

    def _can_send_rejected(self) -> bool:
        """Whether rejected frames have a topic. Without it they stay in the spool; other records continue."""
        now = time.monotonic()
        if not self._rejected_topic_ready and now >= self._retry_rejected_at:
            self._rejected_topic_ready = self._ensure_topic(rejected=True)
            self._retry_rejected_at = max(self._retry_rejected_at, now + _WARN_SECONDS)
        return self._rejected_topic_ready

    def _ensure_topic(self, rejected: bool) -> bool:
        """Create and check the topic. Returns whether it can be published to; False also if Kafka doesn't answer.

        Raises TopicRefused at the stream's first start.
        """
        topic = self._topics.names[rejected]
        try:
            self._topics.ensure(rejected=rejected)
        except KafkaException as error:
            self._outage_reason = (
                f"Kafka at {self._servers} can't be used yet ({self._connection_errors.describe(error.args[0])})"
            )
            self._warn(self._outage_reason, retrying=topic)
            if not rejected:
                self._cancelled.wait(0.5)
            return False
        if not rejected:
            self._outage_reason = None
        if unusable := self._topics.unusable_reason(rejected=rejected):
            if self._is_first_start and not rejected:
                raise TopicRefused(unusable)
            self._unusable[rejected] = unusable
            # A single flipped bit on the wire makes a rejected frame; it must not hold up the stream.
            self._warn(str(self._refusal_reason(rejected=rejected)), retrying=topic)
            if not rejected:
                self._cancelled.wait(_REFUSED_RETRY_SECONDS)
            return False
        if self._unusable.pop(rejected, None):
            log.info("%s: the topic %s can be published to again", self._stream, topic)
        return True

    def _on_client_error(self, error: KafkaError) -> None:
        self._connection_errors.record(error)
        if error.fatal() and self._in_flight:
            self._in_flight.failed = self._in_flight.failed or error

    def _warn(self, message: str, retrying: str = "") -> None:
        if not self._log_throttle.due(time.monotonic()):
            return
        log.warning(  # without the stream's name in front, so that many streams' equal warnings can be folded
            "%s; %.1f MB wait in the spool; still trying for %s",
            message,
            self._spool.waiting_bytes / 1e6,
            retrying or self._stream,
            extra={"stream": self._stream},
        )
