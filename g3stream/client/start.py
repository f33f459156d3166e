"""Where reading a stream begins: at a time, a stored position, the topic's first record, or its last frames."""

from collections import deque
from datetime import UTC, datetime

from g3stream.client.assembler import Assembler, Record
from g3stream.client.errors import PositionError
from g3stream.client.position import Position
from g3stream.client.source import Source
from g3stream.contract.headers import RecordHeaders, headers_of
from g3stream.contract.topics import ContractError
from g3stream.host.times import parse_time

Since = str | datetime | Position | None
"""A time as the commands take it, "now", a datetime (UTC if it has no zone), a position; None: the beginning."""

NOW = "now"
_MIN_LOOK_BACK = 64


def time_of(since: str | datetime, now_ms: int) -> int:
    """Return a time in ms since 1970. Raises ValueError, whose message shows what is valid."""
    if isinstance(since, str):
        return parse_time(since, now_ms)
    return round((since if since.tzinfo else since.replace(tzinfo=UTC)).timestamp() * 1000)


def start_position(
    source: Source, stream: str, since: Since, last: int | None, now_ms: int, span: tuple[int, int]
) -> Position:
    """Return the position to begin at. span: the topic's offset range. Raises G3StreamError, ValueError."""
    first, end = span
    if isinstance(since, Position):
        if since.stream != stream:
            raise PositionError(f"this is a position in the stream {since.stream}, not {stream}")
        if since.offset > end:
            created = f"{stream}: the position is at offset {since.offset}, and the topic ends at {end}"
            raise PositionError(f"{created}: it was deleted and created again; begin at a time instead")
        return since
    if last is not None:
        return Position(stream, _offset_of_last(source, stream, last, first, end))
    if since is None:
        return Position(stream, first)
    if since == NOW:
        return Position(stream, end)
    found = source.offset_at(time_of(since, now_ms))
    return Position(stream, end if found is None else found)


def _offset_of_last(source: Source, stream: str, count: int, first: int, end: int) -> int:
    """Return the offset of the `count`-th frame from the end; the first offset if there are fewer."""
    if count <= 0:
        return end
    back = max(_MIN_LOOK_BACK, 4 * count)
    while True:
        start = max(first, end - back)
        offsets = _last_frames(source, stream, count, start, end)
        if len(offsets) == count:
            return offsets[0]
        if start == first:
            return first
        back *= 4


def _last_frames(source: Source, stream: str, count: int, start: int, end: int) -> deque[int]:
    """Return the offsets of the last whole frames from `start` to before `end`, `count` at most."""
    offsets: deque[int] = deque(maxlen=count)
    assembler = Assembler(Position(stream, start), facts=False, losses=False)
    for message in source.read_range(start, end):
        try:
            headers = RecordHeaders.from_kafka(headers_of(message))
        except ContractError:  # reported when it is read
            continue
        found = assembler.add(headers, 0, message.value() or b"", message.offset() or 0)
        offsets.extend(item.offset for item in found if isinstance(item, Record))
    return offsets
