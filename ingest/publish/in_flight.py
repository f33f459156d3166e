"""One Kafka producer, and the bundles of records that it has on their way: until Kafka has acknowledged them."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Message, Producer

from g3stream.kafka.availability import PRODUCER_AVAILABILITY_CONFIG, unwrap_fatal_errors
from g3stream.service.histogram import LatencyHistogram
from ingest.spool.batch import Batch, SpooledRecord

PRODUCER_CONFIG: Mapping[str, str | int | bool] = {
    **PRODUCER_AVAILABILITY_CONFIG,
    "enable.gapless.guarantee": True,  # what follows a failed record must not overtake it
    "message.timeout.ms": 0,  # never give a record up
    "message.max.bytes": 1_048_588,  # a broker's default
    "queue.buffering.max.kbytes": 64 << 10,  # more than is ever in flight, which is what limits it
    "queue.buffering.max.messages": 1_000_000,
    # A request at a time: what comes meanwhile goes with the next. With more of them, librdkafka turns in a loop, at
    # the cost of a core, whenever 5 records are under way and others wait (1.2 to 1.7 instead of 0.35 CPU s/GB).
    "max.in.flight": 1,
    "linger.ms": 0,
    "allow.auto.create.topics": False,
}


def without_producer_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings of a producer's that other clients of the same brokers take as well."""
    return {key: value for key, value in config.items() if key not in PRODUCER_CONFIG}


_OVERHEAD_BYTES = 1400  # what a record takes in this process besides its value, until it is acknowledged (measured)


@dataclass(slots=True)
class _UnackedBatch:
    """A bundle that isn't acknowledged yet. parts: of it that aren't; one for each of its topics. received_ms: ms,
    when its first record was received."""

    parts: int
    received_ms: int


class InFlightBatches:
    """What one producer has been given. For one thread at a time.

    config: of the producer, PRODUCER_CONFIG in it. topics: of frames, and of those that are rejected. latency: is
    told how long records took, from receipt to acknowledgement.

    `bytes` are on their way; `failed` is why no more of them will be taken: another producer must begin again from
    the spool, and `failed_topic` whose record it was, if that is known. `acknowledged_offsets`: of the last record of
    each topic that Kafka has, by whether it is that of rejected frames; `last_answer_at` when it last had
    acknowledged something, or nothing was to be (time.monotonic()).
    """

    def __init__(self, config: Mapping[str, Any], topics: Mapping[bool, str], latency: LatencyHistogram) -> None:
        self.bytes = 0
        self.failed: KafkaError | None = None
        self.failed_topic: str | None = None
        self.acknowledged_offsets: dict[bool, int] = {}
        self.last_answer_at = time.monotonic()
        self.acknowledged_bytes = 0
        self.timestamps_replaced: bool | None = None
        """Whether Kafka has given the last frame that it acknowledged a time of its own; None if it has none yet."""
        self._producer = Producer(dict(config))
        self._topics = topics
        self._latency = latency
        self._unacked: dict[int, _UnackedBatch] = {}  # by key, the oldest first
        self._acknowledged: list[int] = []

    @property
    def oldest_unacked_ms(self) -> int | None:
        """When the first record that isn't acknowledged yet was received, ms; None if all are."""
        return next((unacked.received_ms for unacked in self._unacked.values()), None)

    def send(self, batch: Batch, include_rejected: bool) -> None:
        """Give the producer a bundle's records. It won't be acknowledged, ever, if it has rejected ones that mustn't
        be sent: so it stays in the spool, and the copies of the others will be dropped as duplicates."""
        if not self.bytes:
            self.last_answer_at = time.monotonic()
        since = batch.records[0].time_ms
        age = time.time() - since / 1000
        parts: dict[bool, list[SpooledRecord]] = {}
        for record in batch.records:
            parts.setdefault(record.rejected, []).append(record)
        self._unacked[batch.key] = _UnackedBatch(len(parts), since)
        with self._capturing_fatal_errors():
            for rejected, records in parts.items():
                if rejected and not include_rejected:
                    continue
                size = sum(len(record.value) + _OVERHEAD_BYTES for record in records)
                self.bytes += size
                # An acknowledgement comes with a copy of its record: of many it is asked for the last one only. What
                # befalls another one is a fatal error, by the gapless guarantee, and fails the last one, too.
                last = records.pop()
                for record in records:
                    self._produce(record)
                self._produce(last, partial(self._on_delivery, batch.key, len(records) + 1, size, age))

    def poll(self, timeout_s: float) -> None:
        """See which are acknowledged now; wait for one up to that long."""
        with self._capturing_fatal_errors():
            self._producer.poll(timeout_s)

    def pop_acknowledged(self) -> list[int]:
        """The keys of the bundles that Kafka has, each once."""
        keys, self._acknowledged, self.acknowledged_bytes = self._acknowledged, [], 0
        return keys

    def close(self) -> None:
        """Let go of the producer, and with it of what is in flight. To purge that would be a fatal error: it leaves a
        gap. Afterwards only what was noted may be asked for."""
        # The callbacks that it awaits hold this, and this holds it: it would live on, and go on sending, unseen.
        del self._producer

    def _produce(
        self, record: SpooledRecord, on_delivery: Callable[[KafkaError | None, Message], None] | None = None
    ) -> None:
        while True:
            try:
                self._producer.produce(
                    self._topics[record.rejected],
                    record.value,
                    partition=0,
                    headers=record.headers,  # type: ignore[arg-type]  # str is one of str | bytes | None
                    timestamp=record.time_ms,
                    on_delivery=on_delivery,
                )
                break
            except BufferError:  # never with our settings; with a smaller queue in --kafka-config
                self._producer.poll(0.1)

    def _on_delivery(
        self, key: int, records: int, size_bytes: int, age_s: float, error: KafkaError | None, message: Message
    ) -> None:
        """age_s: s, from receipt until it was given to the producer."""
        self.bytes -= size_bytes
        if error is not None:
            if not self.failed:
                self.failed, self.failed_topic = error, message.topic()
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

    @contextmanager
    def _capturing_fatal_errors(self) -> Iterator[None]:
        """confluent-kafka tells `error_cb` nothing of these."""
        try:
            with unwrap_fatal_errors():
                yield
        except KafkaException as error:
            self.failed = self.failed or error.args[0]
