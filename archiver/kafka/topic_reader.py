"""Reading topics outside the group: single records, offset ranges, commits, events, quarantine.

Each call of a TopicReader uses a consumer of its own, outside the group, so that any thread may call it; those of a
SingleConsumerReader share one. All records are read by `TopicReader.read_ranges`, which has the rules.
"""

import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import chain, islice
from typing import Any, NamedTuple, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, ThrottleEvent, TopicPartition

from archiver.core.checkpoint import CheckpointError, RecordId
from archiver.core.events import Event, UnknownEventError, decode, key_prefixes
from g3stream.contract.headers import RecordHeaders, headers_of
from g3stream.contract.sequence import first_complete
from g3stream.contract.topics import (
    FILES_TOPIC,
    FRAMES_TOPIC_PATTERN,
    ContractError,
    frames_topic,
    quarantine_topic,
    stream_of_topic,
)
from g3stream.kafka.client_config import CONNECTED_CONFIG
from g3stream.kafka.errors import NO_SUCH_TOPIC, Operation, group_right, is_refusal, needs, topic_right, with_right
from g3stream.kafka.offsets import committed_offsets, hidden_by, metadata_of, offset_range

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

Partition = tuple[str, int]
"""A topic, and the number of one of its partitions."""


class OffsetAndMetadata(NamedTuple):
    """A committed offset, with its metadata."""

    offset: int
    metadata: str


class TopicReader:
    """Reads topics for one group's archive. All methods raise KafkaException."""

    def __init__(self, config: Mapping[str, Any], group: str, seconds: float = 10.0) -> None:
        """config: librdkafka's settings, without those of a group. seconds: how long to wait for an answer."""
        self.group = group
        """The consumer group whose archive this reads for."""
        self._throttled_until_s = 0.0
        self.config = config
        self._seconds = seconds

    @contextmanager
    def consumer(self, partition_bytes: int = 8 << 20) -> Iterator[Consumer]:
        """Context of a consumer, for one thread. partition_bytes: the most that one fetch returns of a partition."""
        with closing(self._new_consumer(partition_bytes)) as consumer, _serving_errors(consumer):
            yield consumer

    def _new_consumer(self, partition_bytes: int) -> Consumer:
        # A group is needed also where no commit is requested: librdkafka requires a name, and looks for the group's
        # coordinator. If ACLs forbid that, reading works all the same.
        settings = {
            **FETCH_CONFIG,
            "max.partition.fetch.bytes": partition_bytes,
            # What is read exists already, and a fetch that waits at a topic's end delays the next read so long.
            "fetch.wait.max.ms": 100,
            **self.config,
            "throttle_cb": self._on_throttle,
            "group.id": self.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
        }
        return Consumer(settings)

    def read_ranges(
        self, consumer: Consumer, ranges: Mapping[Partition, tuple[int, int]], *, may_be_deleted: bool = False
    ) -> Iterator[list[Message]]:
        """Read each partition's records from the first offset to before the second, about BATCH_BYTES at a time.

        - A range ends with the record before its end, or with one beyond it, or at the log's end: offsets may have
          no record, but be a transaction marker's, or of a record that was compacted away.
        - A range whose first record retention has deleted meanwhile raises KafkaException; it ends if may_be_deleted.
        - The right on a group isn't needed: an error about it is ignored. All others are raised, with the right that
          is missing.
        - If no record arrives for as long as answers are waited for, and no quota is the reason, that is an error.
        """
        unread = {partition: span for partition, span in ranges.items() if span[0] < span[1]}
        consumer.assign([TopicPartition(*partition, start) for partition, (start, _) in unread.items()])
        ignored = [KafkaError.GROUP_AUTHORIZATION_FAILED]
        range_ends = [KafkaError._PARTITION_EOF, *([KafkaError._AUTO_OFFSET_RESET] if may_be_deleted else [])]
        heard_s, wanted = time.monotonic(), 1
        while unread:
            # `consume` takes less time than a `poll` for each, but waits for as many as are requested.
            found = consumer.consume(min(wanted, sum(end - start for start, end in unread.values())), _POLL_SECONDS)
            batch = [message for message in found if message.error() is None]
            # Each partition's last message counts. (To look at every message takes 0.3 µs more, of 0.9.)
            candidates = batch[-1:] if len(ranges) == 1 else batch
            for partition, last in {(m.topic() or "", m.partition() or 0): m for m in candidates}.items():
                next_offset, end = (last.offset() or 0) + 1, ranges[partition][1]
                if next_offset < end:
                    unread[partition] = next_offset, end
                    continue
                unread.pop(partition, None)
                if next_offset > end:
                    batch = [m for m in batch if (m.topic(), m.partition()) != partition or (m.offset() or 0) < end]
            if batch:
                wanted = min(_MAX_PER_TURN, 1 + BATCH_BYTES * len(batch) // (1 + sum(map(len, batch))))
                yield batch
                heard_s = time.monotonic()  # after it: what is done with a batch may take long
            for message in found if len(batch) < len(found) else ():
                error, topic = message.error(), message.topic() or ""
                if error is not None and error.code() in range_ends:
                    unread.pop((topic, message.partition() or 0), None)
                elif error is not None and error.code() not in ignored:
                    raise KafkaException(with_right(error, topic_right(Operation.READ, topic)))
            if unread and time.monotonic() - max(heard_s, self._throttled_until_s) > self._seconds:
                topic = min(unread)[0]
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no more records of {topic} arrive"))
        consumer.unassign()

    def stream_partitions(self, consumer: Consumer) -> Mapping[str, int]:
        """The streams that have a topic, sorted, with its number of partitions, of which only the first is used.

        As far as ACLs show them.
        """
        topics = consumer.list_topics(timeout=self._seconds).topics
        pattern = re.compile(FRAMES_TOPIC_PATTERN)
        return {stream_of_topic(name): len(topics[name].partitions) for name in sorted(topics) if pattern.match(name)}

    def streams(self) -> list[str]:
        """The streams that have a topic, sorted, as far as ACLs show them."""
        with self.consumer() as consumer:
            return [*self.stream_partitions(consumer)]

    def check_not_hidden(self, streams: Iterable[str]) -> None:
        """Raises KafkaException if ACLs hide the topic of one of these streams, which `streams` doesn't return.

        Otherwise it is gone.
        """
        with self.consumer() as consumer:
            for stream in streams:
                self._check_not_hidden(consumer, frames_topic(stream))

    def committed(self, streams: Iterable[str] | None = None) -> Mapping[str, OffsetAndMetadata]:
        """The group's committed offsets of these streams, as far as there are any, without joining the group.

        streams: None for every stream that has a topic.
        """
        with self.consumer() as consumer, needs(group_right(Operation.DESCRIBE, self.group)):
            topics = map(frames_topic, self.stream_partitions(consumer) if streams is None else streams)
            try:
                found = committed_offsets(consumer, topics, self._seconds)
            except KafkaException as error:
                raise KafkaException(_refusal(consumer) or error.args[0]) from None
        return {stream_of_topic(p.topic): OffsetAndMetadata(p.offset, metadata_of(p)) for p in found if p.offset >= 0}

    def offset_range(self, stream: str, partition: int = 0) -> tuple[int, int]:
        """The first offset that a stream's topic still has, and the offset after its last."""
        with self.consumer() as consumer:
            return self._offset_range(consumer, frames_topic(stream), partition)

    def files_offset_range(self) -> tuple[int, int]:
        """The offset range of g3.files; as `offset_range`.

        Raises KafkaException also if there is no such topic: the caller has created it, so a broker that has just
        started doesn't know of it yet.
        """
        with self.consumer() as consumer:
            return self._offset_range(consumer, FILES_TOPIC)

    def existing_offset_range(self, consumer: Consumer, topic: str) -> tuple[int, int]:
        """The offset range of a topic; (0, 0) if it doesn't exist."""
        try:
            return self._offset_range(consumer, topic)
        except KafkaException as error:
            if error.args[0].code() not in NO_SUCH_TOPIC:
                raise
            return 0, 0

    def batches(self, stream: str, start: int, end: int, partition: int = 0) -> Iterator[list[Message]]:
        """Read a stream's records from the offset `start` to before `end`, as `read_ranges` does."""
        with self.consumer() as consumer:
            yield from self.read_ranges(consumer, {(frames_topic(stream), partition): (start, end)})

    def files_batches(self, start: int, end: int) -> Iterator[list[Message]]:
        """Read the events of all groups on g3.files; as `batches`."""
        with self.consumer() as consumer:
            yield from self.read_ranges(consumer, {(FILES_TOPIC, 0): (start, end)})

    def message(self, stream: str, offset: int) -> Message | None:
        """Read the message at `offset`; None if there is none."""
        message = next(self._records_from(stream, offset), None)
        return message if message is not None and message.offset() == offset else None

    def has_record(self, stream: str, record: RecordId) -> bool:
        """Whether that record is at its offset: the topic still has it, and wasn't created again."""
        message = self.message(stream, record.offset)
        headers = None if message is None else _headers_if_valid(message)
        return bool(headers and (headers.epoch, headers.seq) == (record.epoch, record.seq))

    def record_time_ms(self, stream: str, offset: int | None = None) -> int | None:
        """The time, in ms, of the first record from `offset` on (None: of the topic's first); None if none is."""
        message = next(self._records_from(stream, offset), None)
        return None if message is None else message.timestamp()[1]  # (an empty message is false)

    def record_value(self, stream: str, offset: int) -> tuple[bytes, ...]:
        """Read the value of the record that begins at `offset`, in chunks; empty if it isn't there."""
        return first_complete(
            (headers, message.value() or b"")
            for message in islice(self._records_from(stream, offset), _MAX_CHUNKS)
            if (headers := _headers_if_valid(message))
        )

    def events(self, streams: Collection[str] = ()) -> Iterator[Event | CheckpointError]:
        """Read the group's events on g3.files, of these streams (none: of all), in order.

        Yields the error for an event that can't be understood. Events of kinds that only a later version knows are
        skipped. All of g3.files is read, about 30,000 events a second (of another group or stream: 90,000). Reading
        less isn't possible: the times of events prove nothing, as the clocks of hosts differ and are set.
        """
        prefixes = key_prefixes(self.group, streams)
        with self.consumer() as consumer:
            for message in self._all_records(consumer, FILES_TOPIC):
                if (message.key() or b"").startswith(prefixes):
                    try:
                        yield decode(message.value() or b"")
                    except UnknownEventError:
                        continue
                    except CheckpointError as error:
                        yield error

    def quarantined_digests(self, stream: str) -> frozenset[str]:
        """Read the digests of the stream's records that are in quarantine."""
        with self.consumer() as consumer:
            records = self._all_records(consumer, quarantine_topic(stream))
            return frozenset((message.key() or b"").decode() for message in records)

    def quarantined_counts(self, streams: Iterable[str]) -> Mapping[str, int]:
        """The number of records in quarantine of each of these streams that has any."""
        with self.consumer() as consumer:
            topics = consumer.list_topics(timeout=self._seconds).topics
        existing = [stream for stream in streams if quarantine_topic(stream) in topics]
        return {stream: count for stream in existing if (count := len(self.quarantined_digests(stream)))}

    def _records_from(self, stream: str, offset: int | None) -> Iterator[Message]:
        topic = frames_topic(stream)
        with self.consumer() as consumer:
            first, end = self._offset_range(consumer, topic)
            if offset is None or offset >= first:
                yield from self._records(consumer, topic, first if offset is None else offset, end)

    def _all_records(self, consumer: Consumer, topic: str) -> Iterator[Message]:
        """Read a topic; nothing if it doesn't exist."""
        yield from self._records(consumer, topic, *self.existing_offset_range(consumer, topic))

    def _records(self, consumer: Consumer, topic: str, start: int, end: int) -> Iterator[Message]:
        return chain.from_iterable(self.read_ranges(consumer, {(topic, 0): (start, end)}))

    def _offset_range(self, consumer: Consumer, topic: str, partition: int = 0) -> tuple[int, int]:
        try:
            return offset_range(consumer, topic, partition, seconds=self._seconds)
        except KafkaException as error:
            if error.args[0].code() in NO_SUCH_TOPIC:
                self._check_not_hidden(consumer, topic)
            raise

    def _check_not_hidden(self, consumer: Consumer, topic: str) -> None:
        if refusal := hidden_by(consumer, topic, seconds=self._seconds):
            raise KafkaException(with_right(refusal, topic_right(Operation.READ, topic)))

    def _on_throttle(self, event: ThrottleEvent) -> None:
        self._throttled_until_s = max(self._throttled_until_s, time.monotonic() + event.throttle_time)
        if throttle_cb := self.config.get("throttle_cb"):
            throttle_cb(event)


class SingleConsumerReader(TopicReader):
    """A TopicReader whose calls share one consumer, until it is closed: for what is read again and again.

    For one thread, which makes one call at a time. A context manager.
    """

    def __init__(self, config: Mapping[str, Any], group: str, partition_bytes: int) -> None:
        """config and group: as TopicReader takes them. partition_bytes: what one fetch returns of a partition."""
        super().__init__(config, group)
        self._consumer = self._new_consumer(partition_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    @contextmanager
    def consumer(self, partition_bytes: int = 0) -> Iterator[Consumer]:  # noqa: ARG002 - the shared one has its own
        """Context of the shared consumer."""
        with _serving_errors(self._consumer):
            yield self._consumer


@contextmanager
def _serving_errors(consumer: Consumer) -> Iterator[None]:
    try:
        yield
    except KafkaException:
        consumer.poll(0)  # calls `error_cb` with the cause
        raise


def _refusal(consumer: Consumer) -> KafkaError | None:
    """The error if ACLs forbid finding the group's coordinator: a request that needs it only reports a timeout."""
    while (message := consumer.poll(0)) is not None:
        if (error := message.error()) and is_refusal(error):
            return error
    return None


def record_headers(message: Message) -> RecordHeaders:
    """Parse a record's headers. Raises ContractError."""
    return RecordHeaders.from_kafka(headers_of(message))


def _headers_if_valid(message: Message) -> RecordHeaders | None:
    try:
        return record_headers(message)
    except ContractError:
        return None
