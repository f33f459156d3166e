"""Reading topics outside the group: single records, offset ranges, commits, events, quarantine.

Each call uses a consumer of its own, outside the group, so that any thread may call it.
"""

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, ThrottleEvent, TopicPartition

from archiver.core.checkpoint import CheckpointError, RecordId
from archiver.core.events import Event, UnknownEventError, decode, key_prefixes
from archiver.core.sequence import first_complete
from g3stream.contract.errors import ContractError
from g3stream.contract.headers import RecordHeaders
from g3stream.contract.message_headers import headers_of
from g3stream.contract.topics import (
    FILES_TOPIC,
    FRAMES_TOPIC_PATTERN,
    frames_topic,
    quarantine_topic,
    stream_of_topic,
)
from g3stream.kafka.authorization import Operation, group_right, is_refusal, needs, topic_right, with_right
from g3stream.kafka.topic_admin import ADMIN_CONFIG

CONNECTED_CONFIG: Mapping[str, str | int | bool] = {
    # Connect to each broker as soon as it is known: with sparse connections a new client waits 50 ms before it makes
    # its second connection.
    "enable.sparse.connections": False,
}
FETCH_CONFIG: Mapping[str, str | int | bool] = {
    **CONNECTED_CONFIG,
    "fetch.queue.backoff.ms": 5,
    "queued.max.messages.kbytes": 16 << 10,
    "fetch.wait.max.ms": 500,  # an idle fetch is answered when a record arrives, or then
    "max.partition.fetch.bytes": 8 << 20,  # 1.4 times as fast as the default 1 MB, when far behind
    "fetch.max.bytes": 16 << 20,
}
BATCH_BYTES = 8 << 20
MAX_RECORDS = 10_000
"""Of a batch, when many records are waiting."""

_MAX_PER_TURN = 100
"""Records requested from `consume`: it returns so many however large they are, 1 MB each at most."""
_POLL_SECONDS = 0.5
_MAX_CHUNKS = 2000
_NO_SUCH_TOPIC = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION)


class OffsetAndMetadata(NamedTuple):
    """A committed offset, with its metadata."""

    offset: int
    metadata: str


class TopicReader:
    """Reads topics for one group's archive. All methods raise KafkaException."""

    def __init__(self, config: Mapping[str, Any], group: str, seconds: float = 10.0) -> None:
        """config: librdkafka's settings, without those of a group. seconds: how long to wait for an answer."""
        self._throttle_cb: Callable[[ThrottleEvent], None] | None = config.get("throttle_cb")
        self._throttled_until = 0.0
        self._config = {
            **FETCH_CONFIG,
            **config,
            "throttle_cb": self._on_throttle,
            **ADMIN_CONFIG,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
        }
        self._group = group
        self._seconds = seconds

    @property
    def group(self) -> str:
        """The consumer group whose archive this reads for."""
        return self._group

    def committed(self, streams: Sequence[str]) -> Mapping[str, OffsetAndMetadata]:
        """The group's committed offsets of these streams, as far as there are any, without joining the group."""
        with self._consumer() as consumer:
            return self._committed(consumer, streams)

    def all_committed(self) -> Mapping[str, OffsetAndMetadata]:
        """The group's committed offsets of every stream that has a topic; as `committed`."""
        with self._consumer() as consumer:
            return self._committed(consumer, self._streams(consumer))

    def offset_range(self, stream: str, partition: int = 0) -> tuple[int, int]:
        """The first offset that a stream's topic still has, and the offset after its last."""
        with self._consumer() as consumer:
            return self._offset_range(consumer, frames_topic(stream), partition)

    def batches(self, stream: str, start: int, end: int, partition: int = 0) -> Iterator[list[Message]]:
        """Read a stream's records from the offset `start` to before `end`, about BATCH_BYTES at a time."""
        return self._batches(frames_topic(stream), start, end, partition)

    def _batches(self, topic: str, start: int, end: int, partition: int = 0) -> Iterator[list[Message]]:
        with self._consumer() as consumer, needs(topic_right(Operation.READ, topic)):
            consumer.assign([TopicPartition(topic, partition, start)])
            heard_s, wanted = time.monotonic(), 1
            while start < end:
                # `consume` takes less time than a `poll` for each, but waits for as many as are requested.
                found = consumer.consume(min(wanted, end - start), _POLL_SECONDS)
                batch = [message for message in found if message.error() is None]
                if batch:
                    heard_s, start = time.monotonic(), (batch[-1].offset() or 0) + 1
                    wanted = min(_MAX_PER_TURN, 1 + BATCH_BYTES * len(batch) // (1 + sum(map(len, batch))))
                    yield batch
                if len(batch) < len(found) and _is_at_end(found):
                    return
                self._check_progress(topic, heard_s)

    def record_value(self, stream: str, offset: int) -> tuple[bytes, ...]:
        """Read the value of the record that begins at `offset`, in chunks; empty if it isn't there."""
        return first_complete(
            (headers, message.value() or b"")
            for message in islice(self._records_from(frames_topic(stream), offset), _MAX_CHUNKS)
            if (headers := _headers_if_valid(message))
        )

    def has_record(self, stream: str, record: RecordId) -> bool:
        """Whether that record is at its offset: the topic still has it, and wasn't created again."""
        message = next(self._records_from(frames_topic(stream), record.offset), None)
        headers = None if message is None else _headers_if_valid(message)
        return bool(headers and (headers.epoch, headers.seq) == (record.epoch, record.seq))

    def record_time_ms(self, stream: str, offset: int | None = None) -> int | None:
        """The time, in ms, of the record at `offset` (None: of the topic's first); None if there is none."""
        topic = frames_topic(stream)
        message = next(self._records_from(topic, offset), None)
        return None if message is None else message.timestamp()[1]  # (an empty message is false)

    def files_offset_range(self) -> tuple[int, int]:
        """The offset range of g3.files; as `offset_range`.

        Raises KafkaException also if there is no such topic: the caller has created it, so a broker that has just
        started doesn't know of it yet.
        """
        with self._consumer() as consumer:
            return self._offset_range(consumer, FILES_TOPIC)

    def files_batches(self, start: int, end: int) -> Iterator[list[Message]]:
        """Read the events of all groups on g3.files; as `batches`."""
        return self._batches(FILES_TOPIC, start, end)

    def events(self, streams: Collection[str] = ()) -> Iterator[Event | CheckpointError]:
        """Read the group's events on g3.files, of these streams (none: of all), in order.

        Yields the error for an event that can't be understood. Events of kinds that only a later version knows are
        skipped. All of g3.files is read, about 30,000 events a second (of another group or stream: 90,000). Reading
        less isn't possible: the times of events prove nothing, as the clocks of hosts differ and are set.
        """
        prefixes = key_prefixes(self._group, streams)
        with self._consumer() as consumer:
            start, end = self._offset_range_if_any(consumer, FILES_TOPIC)
        for batch in self.files_batches(start, end):
            for message in batch:
                if (message.key() or b"").startswith(prefixes):
                    try:
                        yield decode(message.value() or b"")
                    except UnknownEventError:
                        continue
                    except CheckpointError as error:
                        yield error

    def quarantined_digests(self, stream: str) -> frozenset[str]:
        """Read the digests of the stream's records that are in quarantine."""
        with self._consumer() as consumer:
            return self._quarantined_digests(consumer, stream)

    def quarantined_counts(self, streams: Collection[str]) -> Mapping[str, int]:
        """The number of records in quarantine of each of these streams that has any."""
        with self._consumer() as consumer:
            topics = consumer.list_topics(timeout=self._seconds).topics
            existing = [stream for stream in streams if quarantine_topic(stream) in topics]
            counts = {stream: len(self._quarantined_digests(consumer, stream)) for stream in existing}
        return {stream: count for stream, count in counts.items() if count}

    def _quarantined_digests(self, consumer: Consumer, stream: str) -> frozenset[str]:
        topic = quarantine_topic(stream)
        start, end = self._offset_range_if_any(consumer, topic)
        return frozenset((message.key() or b"").decode() for message in self._records(consumer, topic, start, end))

    def message(self, stream: str, offset: int) -> Message | None:
        """Read the message at `offset`; None if there is none."""
        message = next(self._records_from(frames_topic(stream), offset), None)
        return message if message is not None and message.offset() == offset else None

    def streams(self) -> list[str]:
        """The streams that have a topic, as far as ACLs show it."""
        with self._consumer() as consumer:
            return self._streams(consumer)

    def check_not_hidden(self, streams: Iterable[str]) -> None:
        """Raises KafkaException if ACLs hide the topic of one of these streams, which `streams` doesn't return.

        Otherwise it is gone.
        """
        with self._consumer() as consumer:
            for stream in streams:
                self._check_not_hidden(consumer, frames_topic(stream))

    def _streams(self, consumer: Consumer) -> list[str]:
        topics = consumer.list_topics(timeout=self._seconds).topics
        pattern = re.compile(FRAMES_TOPIC_PATTERN)
        return sorted(stream_of_topic(topic) for topic in topics if pattern.match(topic))

    def _committed(self, consumer: Consumer, streams: Sequence[str]) -> Mapping[str, OffsetAndMetadata]:
        asked = [TopicPartition(frames_topic(stream), 0) for stream in streams]
        with needs(group_right(Operation.DESCRIBE, self._group)):
            try:
                answered = consumer.committed(asked, timeout=self._seconds) if asked else []
            except KafkaException as error:
                raise KafkaException(_refusal(consumer) or error.args[0]) from None
            for partition in answered:
                if partition.error:
                    raise KafkaException(partition.error)
        return {
            stream_of_topic(p.topic): OffsetAndMetadata(p.offset, metadata_of(p)) for p in answered if p.offset >= 0
        }

    def _records_from(self, topic: str, offset: int | None) -> Iterator[Message]:
        with self._consumer() as consumer:
            first, end = self._offset_range(consumer, topic)
            if offset is None or first <= offset < end:
                yield from self._records(consumer, topic, first if offset is None else offset, end)

    def _offset_range(self, consumer: Consumer, topic: str, partition: int = 0) -> tuple[int, int]:
        try:
            span = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=self._seconds)
        except KafkaException as error:
            if error.args[0].code() in _NO_SUCH_TOPIC:
                self._check_not_hidden(consumer, topic)
            raise
        if span is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no answer about the offsets of {topic}"))
        return span[0], span[1]

    def _offset_range_if_any(self, consumer: Consumer, topic: str) -> tuple[int, int]:
        try:
            return self._offset_range(consumer, topic)
        except KafkaException as error:
            if error.args[0].code() not in _NO_SUCH_TOPIC:
                raise
            return 0, 0  # there is no such topic, or no longer

    def _check_not_hidden(self, consumer: Consumer, topic: str) -> None:
        # librdkafka reports a topic as unknown, whatever the reason why it can't be used.
        found = consumer.list_topics(topic, timeout=self._seconds).topics.get(topic)
        if found and found.error and is_refusal(found.error):
            raise KafkaException(with_right(found.error, topic_right(Operation.READ, topic)))

    def _records(self, consumer: Consumer, topic: str, start: int, end: int) -> Iterator[Message]:
        """Read the records from `start` to before `end`. Raises KafkaException if they don't arrive."""
        if start >= end:
            return
        consumer.assign([TopicPartition(topic, 0, start)])
        heard_s = time.monotonic()
        while True:
            message = consumer.poll(_POLL_SECONDS)
            if message is None:
                self._check_progress(topic, heard_s)
                continue
            with needs(topic_right(Operation.READ, topic)):
                if _is_at_end([message]):
                    return
            if message.error():
                continue
            heard_s = time.monotonic()
            offset = message.offset()
            assert offset is not None
            if offset < end:
                yield message
            if offset >= end - 1:
                return

    def _check_progress(self, topic: str, heard_s: float) -> None:
        """Raises KafkaException if nothing has arrived for long, and no quota is the reason."""
        if time.monotonic() - max(heard_s, self._throttled_until) > self._seconds:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no more records of {topic} arrive"))

    def _on_throttle(self, event: ThrottleEvent) -> None:
        self._throttled_until = max(self._throttled_until, time.monotonic() + event.throttle_time)
        if self._throttle_cb:
            self._throttle_cb(event)

    @contextmanager
    def _consumer(self) -> Iterator[Consumer]:
        # Also where no commit is requested, and no group is needed: librdkafka requires a group's name, and looks for
        # its coordinator. If ACLs forbid that, reading works all the same.
        with closing(Consumer({**self._config, "group.id": self._group})) as consumer:
            try:
                yield consumer
            except KafkaException:
                consumer.poll(0)  # calls `error_cb` with the cause
                raise


def _is_at_end(messages: Sequence[Message]) -> bool:
    """Whether one of these messages is the end of the log, after which there may be only transaction markers.

    Raises KafkaException if one of them is another error.
    """
    for error in filter(None, (message.error() for message in messages)):
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            continue  # reading needs no right on a group
        if error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        return True
    return False


def _refusal(consumer: Consumer) -> KafkaError | None:
    """The error if ACLs forbid finding the group's coordinator: a request that needs it only reports a timeout."""
    while (message := consumer.poll(0)) is not None:
        if (error := message.error()) and is_refusal(error):
            return error
    return None


def metadata_of(partition: TopicPartition) -> str:
    """The metadata committed with an offset, empty if there is none; text that is no checkpoint if it isn't UTF-8."""
    try:
        return partition.metadata or ""
    except UnicodeDecodeError:
        return "\N{REPLACEMENT CHARACTER}"


def record_headers(message: Message) -> RecordHeaders:
    """Parse a record's headers. Raises ContractError."""
    return RecordHeaders.from_kafka(headers_of(message))


def _headers_if_valid(message: Message) -> RecordHeaders | None:
    try:
        return record_headers(message)
    except ContractError:
        return None
