"""One Kafka producer, and the batches of records that it was given and Kafka has not acknowledged yet."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from g3stream.kafka.client_config import PRODUCER_AVAILABILITY_CONFIG
from g3stream.kafka.errors import producer_error
from g3stream.service.histogram import LatencyHistogram
from ingest.publish.refusal import Refusal
from ingest.publish.stream_topics import StreamTopic
from ingest.spool.batch import Batch, SpooledRecord

PRODUCER_CONFIG: Mapping[str, str | int | bool] = {
    **PRODUCER_AVAILABILITY_CONFIG,
    "enable.gapless.guarantee": True,  # what follows a failed record must not overtake it
    "message.timeout.ms": 0,  # never give up a record
    "message.max.bytes": 1_048_588,  # a broker's default
    "queue.buffering.max.kbytes": 64 << 10,  # more than is ever in flight: IN_FLIGHT_BYTES is the limit
    "queue.buffering.max.messages": 1_000_000,
    # One request at a time; what arrives meanwhile is sent with the next. With more requests, librdkafka's thread
    # spins, at the cost of a core, whenever 5 records are in flight and others wait (1.2 to 1.7 instead of 0.35 CPU
    # s/GB).
    "max.in.flight": 1,
    "linger.ms": 0,
    "allow.auto.create.topics": False,
}


def without_producer_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without those that only the producer has, for other clients of the same brokers."""
    return {key: value for key, value in config.items() if key not in PRODUCER_CONFIG}


_OVERHEAD_BYTES = 1400  # memory of one record besides its value, until it is acknowledged (measured)


@dataclass(slots=True)
class _UnackedBatch:
    """A batch that isn't acknowledged yet."""

    parts: int
    """How many of its topics have not acknowledged their records yet."""
    received_ms: int
    """When its first record was received, ms since the epoch."""
    age_s: float
    """From then until the producer was given it."""


class InFlightBatches:
    """The batches that one producer was given. Not thread-safe.

    config: of the producer, PRODUCER_CONFIG included. topics: by whether they are that of rejected frames. latency:
    observes the time from receipt to acknowledgement.
    """

    def __init__(
        self, config: Mapping[str, Any], topics: Mapping[bool, StreamTopic], latency: LatencyHistogram
    ) -> None:
        self.bytes = 0
        """Size of what is in flight, estimated overhead included."""
        self.failure: Refusal | None = None
        """The fatal error of the producer, after which another one must start again with the spool's first record."""
        self.waits_since = self.answered_at = 0.0
        """When something was given to it while nothing was in flight, and when Kafka last acknowledged something
        (time.monotonic())."""
        self.acknowledged_bytes = 0
        """Size of what was acknowledged since the last `pop_acknowledged`."""
        self._producer = Producer(dict(config))
        self._topics = topics
        self._latency = latency
        self._unacked: dict[int, _UnackedBatch] = {}  # by key, the oldest first
        self._acknowledged: list[int] = []

    @property
    def oldest_unacked_ms(self) -> int | None:
        """When the first unacknowledged record was received, ms since the epoch; None if there is none."""
        return next((unacked.received_ms for unacked in self._unacked.values()), None)

    def send(self, batch: Batch) -> None:
        """Give the producer the records of a batch whose topic is ready.

        If another one isn't, the batch never becomes acknowledged; it stays in the spool, and when it is sent again,
        the records that were sent now are dropped as duplicates.
        """
        if not self.bytes:
            self.waits_since = time.monotonic()
        received_ms = batch.records[0].time_ms
        parts: dict[bool, list[SpooledRecord]] = {}
        for record in batch.records:
            parts.setdefault(record.rejected, []).append(record)
        self._unacked[batch.key] = _UnackedBatch(len(parts), received_ms, time.time() - received_ms / 1000)
        try:
            for rejected, records in parts.items():
                topic = self._topics[rejected]
                if not topic.is_ready:
                    continue
                size = sum(len(record.value) + _OVERHEAD_BYTES for record in records)
                self.bytes += size
                # An acknowledgement contains a copy of its record, so only that of the last record is requested. A
                # failure of another one is a fatal error, by the gapless guarantee, and fails the last one, too.
                on_delivery = partial(self._on_delivery, batch.key, topic, len(records), size)
                for record in records:
                    self._produce(topic.name, record, on_delivery if record is records[-1] else None)
        except (KafkaException, SystemError) as error:
            self._fail(error)

    def poll(self, timeout_s: float) -> None:
        """Process acknowledgements; wait up to `timeout_s` for the first one."""
        try:
            self._producer.poll(timeout_s)
        except (KafkaException, SystemError) as error:
            self._fail(error)

    def pop_acknowledged(self) -> list[int]:
        """Return the keys of the batches acknowledged since the last call."""
        keys, self._acknowledged, self.acknowledged_bytes = self._acknowledged, [], 0
        return keys

    def close(self) -> None:
        """Destroy the producer, and with it what is in flight. Afterwards only the attributes may be read.

        Purging instead would be a fatal error, as it leaves a gap.
        """
        # Pending callbacks refer to this object: with a reference to the producer, it would keep sending, unnoticed.
        del self._producer

    def _produce(
        self, topic: str, record: SpooledRecord, on_delivery: Callable[[KafkaError | None, Message], None] | None
    ) -> None:
        headers: Any = record.headers  # the type wants str | bytes | None, of which str is one
        while True:
            try:
                self._producer.produce(
                    topic,
                    record.value,
                    partition=0,
                    headers=headers,
                    timestamp=record.time_ms,
                    on_delivery=on_delivery,
                )
                return
            except BufferError:  # not with our settings, only with a smaller queue in --kafka-config
                self._producer.poll(0.1)

    def _on_delivery(
        self, key: int, topic: StreamTopic, records: int, size_bytes: int, error: KafkaError | None, message: Message
    ) -> None:
        """Process the acknowledgement of a batch's records of one topic. records: their number."""
        self.bytes -= size_bytes
        if error is not None:
            self.failure = self.failure or Refusal.of(error, topic.name)
            return
        self.answered_at = time.monotonic()
        topic.accept(message)
        unacked = self._unacked[key]
        self._latency.observe(unacked.age_s + (message.latency() or 0.0), records)
        unacked.parts -= 1
        if not unacked.parts:
            del self._unacked[key]
            self._acknowledged.append(key)
            self.acknowledged_bytes += size_bytes

    def _fail(self, error: KafkaException | SystemError) -> None:
        self.failure = self.failure or Refusal.of(producer_error(error).args[0])
