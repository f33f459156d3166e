"""What came before a relay was started: the latest frame of each type, read back from the end of the stream's topic.

No group is joined, and nothing is committed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import g3stream
from archiver.kafka.topic_reader import TopicReader
from archiver.kafka.topic_tail import TailRecord, TopicTails, open_tails
from archiver.relay.frames import Frame, LatestFrames
from g3stream.contract.headers import Kind
from g3stream.contract.sequence import SequenceTracker

MAX_BYTES: Final = 256 << 20
"""So much of the topic is read back at most, and no more than topic_tail's MAX_RECORDS."""
_HEAD_RECORDS: Final = 64
"""So many records are read from the beginning of a session."""
_PROBED_RECORDS: Final = 16
"""Among so many records of a session, one at least has its number: facts, and START, have none."""
_BOUNDARIES: Final = frozenset({Kind.CONNECTED, Kind.LOST})


def latest_before(
    reader: TopicReader, stream: str, max_bytes: int = MAX_BYTES
) -> tuple[LatestFrames, g3stream.Position]:
    """Return the latest frames of the sender's present connection, and the position after the topic's last record.

    max_bytes: so much is read back at most. If the connection began before that, the head of the present session is
    read, too: there are frames that are sent once in a session. Raises KafkaException.
    """
    first, end = reader.offset_range(stream)
    with open_tails(reader) as tails:
        spans = {stream: (first, end)}
        found = tails.read_back(spans, lambda _, records: any(map(_is_boundary, records)), max_bytes)[stream]
        is_all = not found or any(map(_is_boundary, found))
        head = [] if is_all else _session_head(tails, stream, first, found)
    end_position = g3stream.Position(stream, end)
    before, _ = latest_offsets(head, end_position)
    since, position = latest_offsets(found, end_position)
    offsets = {**before, **since}
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


def _session_head(tails: TopicTails, stream: str, first: int, tail: Sequence[TailRecord]) -> Sequence[TailRecord]:
    """Return the records around the beginning of the last session, before the tail. Raises KafkaException.

    Its beginning is searched by halves: a session's frames follow each other in the topic.
    """
    session = _session(reversed(tail))
    if session is None:
        return []
    end = tail[0].offset

    def read(start: int, count: int) -> Sequence[TailRecord]:
        block = start, min(start + count, end)
        return tails.read({stream: block}).get(stream, [])

    low, high = first, end
    while low < high:
        middle = (low + high) // 2
        if _session(read(middle, _PROBED_RECORDS)) == session:
            high = middle
        else:
            low = middle + 1
    return read(max(first, low - _PROBED_RECORDS), _PROBED_RECORDS + _HEAD_RECORDS)


def _session(records: Iterable[TailRecord]) -> tuple[str, int] | None:
    """Return the epoch and the session of the first of the records that has one."""
    found = (it.headers for it in records if it.headers)
    return next(((headers.epoch, headers.session) for headers in found if headers.session is not None), None)


def _is_boundary(record: TailRecord) -> bool:
    """Return whether a connection of the sender began or ended."""
    return record.headers is not None and record.headers.kind in _BOUNDARIES
