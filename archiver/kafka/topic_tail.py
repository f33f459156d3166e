"""The last records of many streams, read at once.

No group is joined, and nothing is committed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaException, Message, TopicPartition

from archiver.kafka.topic_reader import TopicReader, record_headers
from g3stream.contract.headers import RecordHeaders, digest_of
from g3stream.contract.topics import ContractError, frames_topic, stream_of_topic
from g3stream.kafka.errors import NO_SUCH_TOPIC
from g3stream.kafka.topic_admin import TopicAdmin

_REQUEST_SECONDS = 10.0
PARTITION_BYTES = 1 << 20
"""What one fetch returns of a topic at most: a few records of each of many are read, 8 MB of each would be GB."""
MAX_RECORDS = 20_000
MAX_BYTES = 8 << 20
"""At most so much of a stream is read back."""
_FIRST_RECORDS = 8  # of unknown size: each may be a megabyte
_NEXT_RECORDS = 500
_MAX_DELETED = 5
"""How often a list of topics may be out of date before it has been read."""

T = TypeVar("T")


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
    """Reads the ends of topics; made by `open_tails`. All methods raise KafkaException."""

    def __init__(self, reader: TopicReader, consumer: Consumer, admin: TopicAdmin) -> None:
        self._reader = reader
        self._consumer = consumer
        self._admin = admin

    def streams(self) -> Mapping[str, int]:
        """As TopicReader.stream_partitions."""
        return self._reader.stream_partitions(self._consumer)

    def offset_ranges(self, streams: Iterable[str]) -> Mapping[str, tuple[int, int]]:
        """For each stream the first offset that its topic still has, and the offset after its last."""
        topics = [TopicPartition(frames_topic(stream), 0) for stream in streams]
        spans = self._admin.offset_ranges(topics, _REQUEST_SECONDS)
        return {stream_of_topic(partition.topic): span for partition, span in spans.items()}

    def other_partitions(self, streams: Mapping[str, int]) -> Mapping[str, Mapping[int, tuple[int, int]]]:
        """The offset ranges of partitions other than the first that have records; streams: partitions of each."""
        found = {stream: self._admin.records_in(frames_topic(stream), range(1, n)) for stream, n in streams.items()}
        return {stream: spans for stream, spans in found.items() if spans}

    def read_back(
        self,
        spans: Mapping[str, tuple[int, int]],
        enough: Callable[[str, Sequence[TailRecord]], bool],
        max_bytes: int = MAX_BYTES,
    ) -> Mapping[str, Sequence[TailRecord]]:
        """Read the last records of each stream, in order, in ever larger blocks.

        It ends once `enough` is true of a stream and its records, or all are read, or MAX_RECORDS or max_bytes.
        """
        found: dict[str, list[TailRecord]] = {stream: [] for stream in spans}
        starts = {stream: end for stream, (_, end) in spans.items()}
        for records in (_FIRST_RECORDS, _NEXT_RECORDS, MAX_RECORDS):
            blocks = {}
            for stream, (first, _) in spans.items():
                count = min(records, _remaining_records(found[stream], max_bytes), starts[stream] - first)
                if count > 0 and not enough(stream, found[stream]):
                    blocks[stream] = starts[stream] - count, starts[stream]
                    starts[stream] -= count
            for stream, tail_records in self.read(blocks).items():
                found[stream] = tail_records + found[stream]
        return found

    def read(self, blocks: Mapping[str, tuple[int, int]]) -> Mapping[str, list[TailRecord]]:
        """Read the records of each stream from the first offset to before the second, as far as they are there."""
        found: dict[str, list[TailRecord]] = {stream: [] for stream, (start, end) in blocks.items() if start < end}
        ranges = {(frames_topic(stream), 0): blocks[stream] for stream in found}
        for batch in self._reader.read_ranges(self._consumer, ranges, may_be_deleted=True):
            for message in batch:
                found[stream_of_topic(message.topic() or "")].append(_tail_record(message))
        return found


def repeat_if_deleted(read: Callable[[], T]) -> T:
    """Return what `read` returns, which lists topics and reads them; repeat it if one was deleted in between.

    Raises KafkaException.
    """
    for _ in range(_MAX_DELETED):
        try:
            return read()
        except KafkaException as error:
            if error.args[0].code() not in NO_SUCH_TOPIC:
                raise
    return read()


@contextmanager
def open_tails(reader: TopicReader, admin: TopicAdmin | None = None) -> Iterator[TopicTails]:
    """Context in which one consumer reads the ends of topics. admin: None for one of its own."""
    with reader.consumer(PARTITION_BYTES) as consumer:
        yield TopicTails(reader, consumer, admin or TopicAdmin(reader.config))


def _remaining_records(tail_records: Sequence[TailRecord], max_bytes: int) -> int:
    """The number of further records of this size that may be read, of max_bytes in all."""
    if not tail_records:
        return MAX_RECORDS
    size = sum(record.size_bytes for record in tail_records)
    records = min(MAX_RECORDS - len(tail_records), (max_bytes - size) * len(tail_records) // max(1, size))
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
