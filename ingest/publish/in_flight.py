"""One Kafka producer, and the batches of records that it was given and Kafka has not acknowledged yet."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Message, Producer

from g3stream.kafka.availability import PRODUCER_AVAILABILITY_CONFIG, producer_error
from g3stream.service.histogram import LatencyHistogram
from ingest.publish.refusal import Refusal
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


class InFlightBatches:
    """The batches that one producer was given. Not thread-safe.

    config: of the producer, PRODUCER_CONFIG included. topics: the topic's name, by whether it is that of rejected
    frames. latency: observes the time from receipt to acknowledgement.
    """

    def __init__(self, config: Mapping[str, Any], topics: Mapping[bool, str], latency: LatencyHistogram) -> None:
        self.bytes = 0
        """Size of what is in flight, estimated overhead included."""
        self.failure: Refusal | None = None
        """The fatal error of the producer, after which another one must start again with the spool's first record."""
        self.acknowledged_offsets: dict[bool, int] = {}
        """Of each topic, the offset of the last acknowledged record; by whether it is that of rejected frames."""
        self.last_answer_at = time.monotonic()
        """When Kafka last acknowledged something, or nothing was in flight (time.monotonic())."""
        self.acknowledged_bytes = 0
        """Size of what was acknowledged since the last `pop_acknowledged`."""
        self.timestamps_replaced: bool | None = None
        """Whether Kafka replaced the timestamp of the last frame that it acknowledged; None if there is none yet."""
        self._producer = Producer(dict(config))
        self._topics = topics
        self._latency = latency
        self._unacked: dict[int, _UnackedBatch] = {}  # by key, the oldest first
        self._acknowledged: list[int] = []

    @property
    def oldest_unacked_ms(self) -> int | None:
        """When the first unacknowledged record was received, ms since the epoch; None if there is none."""
        return next((unacked.received_ms for unacked in self._unacked.values()), None)

    def send(self, batch: Batch, include_rejected: bool) -> None:
        """Give the producer the records of a batch.

        include_rejected: if false, its rejected frames are not sent. A batch that has some then never becomes
        acknowledged; it stays in the spool, and when it is sent again, its other records are dropped as duplicates.
        """
        if not self.bytes:
            self.last_answer_at = time.monotonic()
        received_ms = batch.records[0].time_ms
        age_s = time.time() - received_ms / 1000
        parts: dict[bool, list[SpooledRecord]] = {}
        for record in batch.records:
            parts.setdefault(record.rejected, []).append(record)
        self._unacked[batch.key] = _UnackedBatch(len(parts), received_ms)
        try:
            for rejected, records in parts.items():
                if rejected and not include_rejected:
                    continue
                size = sum(len(record.value) + _OVERHEAD_BYTES for record in records)
                self.bytes += size
                # An acknowledgement contains a copy of its record, so only that of the last record is requested. A
                # failure of another one is a fatal error, by the gapless guarantee, and fails the last one, too.
                on_delivery = partial(self._on_delivery, batch.key, len(records), size, age_s)
                for record in records:
                    self._produce(record, on_delivery if record is records[-1] else None)
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
        # Pending callbacks refer to this object: with a reference to the producer, it would go on sending, unnoticed.
        del self._producer

    def _produce(
        self, record: SpooledRecord, on_delivery: Callable[[KafkaError | None, Message], None] | None
    ) -> None:
        topic = self._topics[record.rejected]
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
        self, key: int, records: int, size_bytes: int, age_s: float, error: KafkaError | None, message: Message
    ) -> None:
        """Process the acknowledgement of `records` records. age_s: from receipt to handing over to the producer."""
        self.bytes -= size_bytes
        if error is not None:
            self.failure = self.failure or Refusal.of(error, message.topic())
            return
        self.last_answer_at = time.monotonic()
        if message.topic() == self._topics[False]:
            self.timestamps_replaced = message.timestamp()[0] == TIMESTAMP_LOG_APPEND_TIME
        if (offset := message.offset()) is not None:
            self.acknowledged_offsets[message.topic() == self._topics[True]] = offset
        self._latency.observe(age_s + (message.latency() or 0.0), records)
        unacked = self._unacked[key]
        unacked.parts -= 1
        if not unacked.parts:
            del self._unacked[key]
            self._acknowledged.append(key)
            self.acknowledged_bytes += size_bytes

    def _fail(self, error: KafkaException | SystemError) -> None:
        self.failure = self.failure or Refusal.of(producer_error(error).args[0])
