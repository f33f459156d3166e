"""The Scan frames of a stream's latest seconds, read from its topic. No group is joined, and nothing is committed."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message

from archiver.kafka.topic_reader import TopicReader, record_headers
from g3stream.client.assembler import Assembler, Record
from g3stream.client.position import Position
from g3stream.contract.headers import Kind
from g3stream.contract.topics import ContractError, frames_topic
from g3stream.frame_format.layout import FRAME_TYPES
from g3stream.kafka.errors import NO_SUCH_TOPIC
from g3stream.kafka.offsets import offset_at

_SECONDS: Final = 10.0
_LAST_RECORDS: Final = 8
"""Read first: they tell when the topic's last record was received, and how large its records are."""
_SCAN: Final = FRAME_TYPES["Scan"]


@dataclass(frozen=True, slots=True)
class LatestFrames:
    """A stream's latest Scan frames."""

    frames: tuple[bytes, ...]
    """In order."""
    left_out: int
    """Frames of this time that were too much."""
    end_offset: int
    """After the topic's last record."""
    time_ms: int
    """When the topic's last record was received by its ingest; 0 if there is none."""


def latest_frames(
    reader: TopicReader, stream: str, seconds: float, max_bytes: int, known_end: int | None
) -> LatestFrames | None:
    """Return the frames of the last `seconds` before the topic's last record; None if it ends at `known_end` still.

    max_bytes: of the newest frames, that are read. Raises KafkaException.
    """
    topic = frames_topic(stream)
    with reader.consumer() as consumer:
        first, end = reader.existing_offset_range(consumer, topic)
        if end == known_end:
            return None
        collected = FrameCollector(stream, max_bytes)
        tail_start = max(first, end - _LAST_RECORDS)
        tail = _read(reader, consumer, topic, tail_start, end)
        if not tail:
            return LatestFrames((), 0, end, 0)
        time_ms = tail[-1].timestamp()[1]
        since_ms = time_ms - round(1000 * seconds)
        since_offset = offset_at(consumer, topic, since_ms, seconds=_SECONDS)
        start = max(first, end if since_offset is None else since_offset)
        mean_bytes = max(1, sum(map(len, tail)) // len(tail))
        fitting = max(start, end - max(1, max_bytes // mean_bytes) - _LAST_RECORDS)
        for batch in reader.read_ranges(consumer, {(topic, 0): (fitting, tail_start)}, may_be_deleted=True):
            collected.add(batch)
        collected.add(message for message in tail if (message.offset() or 0) >= start)
    frames, dropped = collected.result()
    return LatestFrames(frames, dropped + fitting - start, end, time_ms)


class FrameCollector:
    """Joins the messages of Scan frames, each once, and keeps the newest ones. max_bytes: of all that are kept."""

    def __init__(self, stream: str, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._assembler = Assembler(Position(stream, 0), facts=False, losses=False)
        self._kept: deque[bytes] = deque()
        self._bytes = 0
        self._left_out = 0

    def add(self, messages: Iterable[Message]) -> None:
        """Add messages, in order. What breaks the contract is skipped: the archiver reports it."""
        for message in messages:
            try:
                headers = record_headers(message)
            except ContractError:
                continue
            if headers.kind is not Kind.FRAME or headers.type != _SCAN:
                continue
            for item in self._assembler.add(headers, 0, message.value() or b"", message.offset() or 0):
                assert isinstance(item, Record)
                self._keep(item.value)

    def _keep(self, frame: bytes) -> None:
        self._kept.append(frame)
        self._bytes += len(frame)
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._kept.popleft())
            self._left_out += 1

    def result(self) -> tuple[tuple[bytes, ...], int]:
        """Return the frames, and how many were left out."""
        return tuple(self._kept), self._left_out


def streams_with_topic(reader: TopicReader, wanted: Iterable[str]) -> list[str]:
    """Return the streams to look at: those wanted, or all, as far as they have a topic. Raises KafkaException."""
    chosen = set(wanted)
    return [stream for stream in reader.streams() if not chosen or stream in chosen]


def is_gone(error: KafkaException) -> bool:
    """Return whether the topic was deleted."""
    return error.args[0].code() in NO_SUCH_TOPIC


def _read(reader: TopicReader, consumer: Consumer, topic: str, start: int, end: int) -> list[Message]:
    batches = reader.read_ranges(consumer, {(topic, 0): (start, end)}, may_be_deleted=True)
    return [message for batch in batches for message in batch]
