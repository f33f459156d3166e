"""The last records of many streams, read at once.

No group is joined, and nothing is committed.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported silently

from archiver.kafka.invalid_records import digest_of
from archiver.kafka.topic_reader import record_headers
from g3stream.contract.errors import ContractError
from g3stream.contract.headers import RecordHeaders
from g3stream.contract.topics import FRAMES_TOPIC_PATTERN, frames_topic, stream_of_topic
from g3stream.kafka.authorization import Operation, topic_right, with_right
from g3stream.kafka.topic_admin import ADMIN_CONFIG, records_in

_KAFKA_SECONDS = 10.0
MAX_RECORDS = 20_000
MAX_BYTES = 8 << 20
"""At most so much of a stream is read back."""
_FIRST_RECORDS = 8  # of unknown size: each may be a megabyte
_NEXT_RECORDS = 500


@dataclass(frozen=True, slots=True)
class TailRecord:
    """A message without its value."""

    offset: int
    headers: RecordHeaders | None
    """None if it breaks the contract."""
    time_ms: int
    size_bytes: int
    """Of its value."""
    digest: str = ""
    """Identifies it if it breaks the contract."""
    time_replaced: bool = False
    """Whether `time_ms` is Kafka's own time, not that of receipt."""


class TopicTails:
    """Reads the ends of topics; a context manager. All methods raise KafkaException."""

    def __init__(self, config: Mapping[str, Any], group: str) -> None:
        """config: librdkafka's settings. group: only a name that librdkafka requires; no right on it is needed."""
        self._config = {
            **config,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            **ADMIN_CONFIG,
            "queued.max.messages.kbytes": 16 << 10,
            "fetch.wait.max.ms": 100,
        }
        self._admin = AdminClient({**config, **ADMIN_CONFIG})
        self._consumer = Consumer(self._config)

    def streams(self) -> Mapping[str, int]:
        """The streams that have a topic, sorted, with its number of partitions, of which only the first is used."""
        topics = self._consumer.list_topics(timeout=_KAFKA_SECONDS).topics
        pattern = re.compile(FRAMES_TOPIC_PATTERN)
        return {stream_of_topic(name): len(topics[name].partitions) for name in sorted(topics) if pattern.match(name)}

    def offset_ranges(self, streams: Iterable[str]) -> Mapping[str, tuple[int, int]]:
        """For each stream the first offset that its topic still has, and the offset after its last."""
        partitions = [TopicPartition(frames_topic(stream), 0) for stream in streams]
        if not partitions:
            return {}
        firsts, ends = (
            self._admin.list_offsets({p: spec for p in partitions}, request_timeout=_KAFKA_SECONDS)
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]  # it has no types
        )
        return {stream_of_topic(p.topic): (firsts[p].result().offset, ends[p].result().offset) for p in partitions}

    def other_partitions(self, streams: Mapping[str, int]) -> Mapping[str, Mapping[int, tuple[int, int]]]:
        """The offset ranges of partitions other than the first that have records; streams: partitions of each."""
        found = {}
        for stream, count in streams.items():
            partitions = [TopicPartition(frames_topic(stream), number) for number in range(1, count)]
            if spans := records_in(self._admin, partitions):
                found[stream] = spans
        return found

    def read_back(
        self, spans: Mapping[str, tuple[int, int]], enough: Callable[[Sequence[TailRecord]], bool]
    ) -> Mapping[str, Sequence[TailRecord]]:
        """Read the last records of each stream, in order, in ever larger blocks.

        It ends once `enough` is true of them, or all are read, or MAX_RECORDS or MAX_BYTES.
        """
        found: dict[str, list[TailRecord]] = {stream: [] for stream in spans}
        starts = {stream: end for stream, (_, end) in spans.items()}
        for records in (_FIRST_RECORDS, _NEXT_RECORDS, MAX_RECORDS):
            blocks = {}
            for stream, (first, _) in spans.items():
                count = min(records, _remaining_records(found[stream]), starts[stream] - first)
                if count > 0 and not enough(found[stream]):
                    blocks[stream] = starts[stream] - count, starts[stream]
                    starts[stream] -= count
            for stream, tail_records in self.read(blocks).items():
                found[stream] = tail_records + found[stream]
        return found

    def read(self, blocks: Mapping[str, tuple[int, int]]) -> Mapping[str, list[TailRecord]]:
        """Read the records of each stream from the first offset to before the second."""
        found: dict[str, list[TailRecord]] = {stream: [] for stream, (start, end) in blocks.items() if start < end}
        awaited = set(found)
        self._consumer.assign([TopicPartition(frames_topic(stream), 0, blocks[stream][0]) for stream in awaited])
        heard_s = time.monotonic()
        while awaited:
            message = self._consumer.poll(0.5)
            if message is None:
                if time.monotonic() - heard_s > _KAFKA_SECONDS:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no more records arrive"))
                continue
            if (topic := message.topic()) is None:  # of the client, not of a stream
                if (error := message.error()) and error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
                    raise KafkaException(error)
                continue
            heard_s = time.monotonic()
            stream = stream_of_topic(topic)
            if stream not in awaited:
                continue
            end = blocks[stream][1]
            if error := message.error():
                # The end, before which there may be transaction markers; or retention was faster than we.
                if error.code() not in (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET):
                    raise KafkaException(with_right(error, topic_right(Operation.READ, topic)))
                awaited.discard(stream)
                continue
            record = _tail_record(message)
            if record.offset < end:
                found[stream].append(record)
            if record.offset >= end - 1:
                awaited.discard(stream)
        self._consumer.unassign()
        return found

    def wait_for_record(self, stream: str, offset: int, seconds: float) -> bool:
        """Whether a record arrives at that offset, or after it, within the time."""
        self._consumer.assign([TopicPartition(frames_topic(stream), 0, offset)])
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            message = self._consumer.poll(left)
            if message is not None and not message.error():
                return True
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(KafkaException):
            # These call `error_cb` with the cause.
            self._admin.poll(0)
            self._consumer.poll(0)
        self._consumer.close()


def _remaining_records(tail_records: Sequence[TailRecord]) -> int:
    """The number of further records of this size that may be read."""
    if not tail_records:
        return MAX_RECORDS
    size = sum(record.size_bytes for record in tail_records)
    records = min(MAX_RECORDS - len(tail_records), (MAX_BYTES - size) * len(tail_records) // max(1, size))
    return max(0, records)


def _tail_record(message: Message) -> TailRecord:
    offset = message.offset()
    assert offset is not None
    headers, digest = None, ""
    try:
        headers = record_headers(message)
    except ContractError:
        digest = digest_of(message)
    kind, time_ms = message.timestamp()
    return TailRecord(
        offset, headers, time_ms, len(message.value() or b""), digest, kind == TIMESTAMP_LOG_APPEND_TIME
    )
