"""What came before a relay was started: the latest frame of each type, read back from the end of the stream's topic.

No group is joined, and nothing is committed.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import g3stream
from archiver.kafka.topic_reader import TopicReader
from archiver.kafka.topic_tail import TailRecord, open_tails
from archiver.relay.frames import Frame, LatestFrames
from g3stream.contract.headers import Kind
from g3stream.contract.sequence import SequenceTracker

MAX_BYTES: Final = 256 << 20
"""So much of the topic is read back at most, and no more than topic_tail's MAX_RECORDS."""
_BOUNDARIES: Final = frozenset({Kind.CONNECTED, Kind.LOST})


def latest_before(reader: TopicReader, stream: str) -> tuple[LatestFrames, g3stream.Position]:
    """Return the latest frames of the sender's present connection, and the position after the topic's last record.

    Raises KafkaException.
    """
    first, end = reader.offset_range(stream)
    with open_tails(reader) as tails:
        found = tails.read_back({stream: (first, end)}, lambda _, them: any(map(_is_boundary, them)), MAX_BYTES)
    offsets, position = latest_offsets(found[stream], g3stream.Position(stream, end))
    latest = LatestFrames()
    for code, offset in offsets.items():
        if chunks := reader.record_value(stream, offset):
            latest.add(Frame(code, b"".join(chunks)))
    return latest, position


def latest_offsets(
    records: Sequence[TailRecord], end: g3stream.Position
) -> tuple[Mapping[int, int], g3stream.Position]:
    """Return the offset of the latest frame of each type since the sender's last connection began, or ended.

    In the order in which the types first appeared. And where to read on: the end, with the records that were seen.
    Pure.
    """
    found: dict[int, int] = {}
    tracker = SequenceTracker()
    for tail in records:
        if tail.headers is None:
            continue
        record = tracker.assemble(tail.headers, tail.time_ms, b"", tail.offset)
        if record is None:
            continue
        tracker.mark_processed(record.headers)
        if _is_boundary(tail):
            found.clear()
        elif record.headers.type is not None and LatestFrames.has(record.headers.type):
            found[record.headers.type] = record.offset
    offset = tracker.safe_offset(end.offset)
    return found, g3stream.Position(end.stream, offset, tracker.epochs(), tuple(tracker.forgotten))


def _is_boundary(record: TailRecord) -> bool:
    """Return whether a connection of the sender began or ended."""
    return record.headers is not None and record.headers.kind in _BOUNDARIES
