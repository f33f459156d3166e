"""Reader of a stream's records, and of its frames: what `g3stream.records` and `g3stream.frames` return."""

import inspect
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from confluent_kafka import Message

from g3stream.client.assembler import Assembler, Item, Record
from g3stream.client.connection import KafkaConfig, connection
from g3stream.client.errors import ForeignRecordError, G3StreamError
from g3stream.client.position import Position
from g3stream.client.quarantine import Quarantine
from g3stream.client.source import Source, SourceEvent
from g3stream.client.start import Since, start_position
from g3stream.contract.headers import RecordHeaders, headers_of
from g3stream.contract.topics import ContractError, frames_topic, stream_name
from g3stream.host.environment import now_ms

if TYPE_CHECKING:
    from spt3g.core import G3Frame

log = logging.getLogger(__name__)

_COMMIT_EVERY_S: Final = 1.0


class RecordReader(Iterator[Item]):
    """Iterator over a stream's records; a context manager. `g3stream.records` makes one."""

    def __init__(
        self,
        stream: str,
        *,
        since: Since,
        last: int | None,
        follow: bool,
        facts: bool,
        losses: bool,
        group: str | None,
        bootstrap_servers: str | None,
        kafka_config: KafkaConfig,
        timeout_s: float,
    ) -> None:
        self._stream = stream_name(stream)
        connect = partial(Source, **connection(bootstrap_servers, kafka_config, timeout_s))
        self._quarantine = Quarantine(stream, connect)
        self._facts = facts
        self._losses = losses
        self._timeout_s = timeout_s
        self._group = group
        self._is_assigned = False
        """Whether the group has given this member the topic."""
        self._stopping = threading.Event()
        self._lock = threading.RLock()
        """Held while messages are waited for, so that another thread closes the consumer only after that."""
        self._source = connect(frames_topic(stream), group=group)
        self._is_open = True
        self._commit_due_s = 0.0
        self._committed: Position | None = None
        try:
            span = self._source.offset_range()
            self._start = start_position(self._source, stream, since, last, now_ms(), span)
            self._end = None if follow else span[1]
            self._assembler = Assembler(self._start, facts=facts, losses=losses)
            if group is None:
                self._source.read_from(self._start.offset)
            else:
                self._source.join(self._on_revoked)
        except BaseException:
            self._close_source()
            raise
        self._items = self._read()

    @property
    def position(self) -> Position:
        """The position after the last record: `since=` continues there. It can be stored, as its `str`."""
        return self._assembler.position

    @property
    def problem(self) -> str | None:
        """Why Kafka doesn't answer at present, while records are waited for; None if it does. For any thread."""
        return self._source.problem

    def __next__(self) -> Item:
        with self._lock:
            try:
                return next(self._items)
            except StopIteration:
                if self._stopping.is_set():
                    self._end_reading(commit=True)
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What an exception has kept from being processed isn't committed.
        self._end_reading(commit=kind is None)

    def close(self) -> None:
        """End the iteration, in 0.5 s if another thread waits in it, and close the connections.

        For any thread, and for a signal's handler.
        """
        self._end_reading(commit=True)

    def _end_reading(self, *, commit: bool) -> None:
        self._stopping.set()
        with self._lock:
            if inspect.getgeneratorstate(self._items) == inspect.GEN_RUNNING:
                return  # a signal's handler, while this thread waits for a message: `__next__` will close it
            if commit and self._is_open:
                self._commit()
            self._is_assigned = False  # else leaving the group would commit
            self._items.close()
            self._close_source()

    def _close_source(self) -> None:
        if self._is_open:
            self._is_open = False
            self._source.close()

    def _read(self) -> Generator[Item]:
        heard_s = time.monotonic()
        while not self._stopping.is_set() and not self._is_at_end():
            messages, event = self._source.batch()
            if event is SourceEvent.ASSIGNED:
                self._resume()
                continue
            if self._group is not None and not self._is_assigned:
                continue  # another member has the topic: what came before it was taken from this one isn't ours
            for message in messages:
                if self._end is not None and (message.offset() or 0) >= self._end:
                    return
                yield from self._items_of(message)
            if event is SourceEvent.END and self._end is not None:
                return
            if event is SourceEvent.OUT_OF_RANGE:
                earliest, _ = self._source.offset_range()
                yield from self._assembler.on_deleted(earliest)
                self._source.read_from(earliest)
            if self._group is not None and time.monotonic() >= self._commit_due_s:
                self._commit()
            if messages or event is not None or self._source.is_throttled:
                heard_s = time.monotonic()
            elif self._end is not None and self._group is None and time.monotonic() - heard_s > self._timeout_s:
                raise self._source.unavailable()

    def _is_at_end(self) -> bool:
        """Return whether all that was there at the start has been read: by a group, whose position tells."""
        if self._end is None or (self._group is not None and not self._is_assigned):
            return False
        return self._assembler.next_offset >= self._end

    def _items_of(self, message: Message) -> Iterator[Item]:
        offset = message.offset() or 0
        try:
            headers = RecordHeaders.from_kafka(headers_of(message))
        except ContractError as error:
            if self._quarantine.contains(message):
                self._assembler.skip(offset)
                return
            raise ForeignRecordError(
                f"{self._stream}: the record at offset {offset} isn't one of ingest's: {error}; to set it aside: "
                f"archiver quarantine --stream {self._stream} --offset {offset}",
                offset,
            ) from None
        yield from self._assembler.add(headers, message.timestamp()[1], message.value() or b"", offset)

    def _resume(self) -> None:
        """Continue where the group has got to; where it hasn't begun, at the start."""
        committed = self._source.committed()
        position = self._start
        if committed is not None:
            offset, metadata = committed
            position = Position.parse(metadata) if metadata else Position(self._stream, offset)
        self._is_assigned, self._committed = True, position
        self._assembler = Assembler(position, facts=self._facts, losses=self._losses)
        self._source.read_from(position.offset)

    def _commit(self) -> None:
        """Commit the position for the group, if it has changed. What goes wrong is logged: it is read again, then."""
        self._commit_due_s = time.monotonic() + _COMMIT_EVERY_S
        position = self.position
        if not self._is_assigned or position == self._committed:
            return
        try:
            self._source.commit(position.offset, str(position))
            self._committed = position
        except G3StreamError as error:
            log.warning("%s: the position of the group %s isn't committed: %s", self._stream, self._group, error)

    def _on_revoked(self) -> None:
        self._commit()
        self._is_assigned = False


class FrameReader(Iterator["G3Frame"]):
    """Iterator over a stream's frames as spt3g has them; a context manager. `g3stream.frames` makes one."""

    def __init__(self, records: RecordReader, decode: "Callable[[bytes], G3Frame]") -> None:
        self._records = records
        self._decode = decode

    @property
    def position(self) -> Position:
        """The position after the last frame, as RecordReader's."""
        return self._records.position

    @property
    def problem(self) -> str | None:
        """Why Kafka doesn't answer at present, as RecordReader's."""
        return self._records.problem

    def __next__(self) -> "G3Frame":
        record = next(self._records)
        assert isinstance(record, Record)
        return self._decode(record.value)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._records.__exit__(kind, error, trace)

    def close(self) -> None:
        """End the iteration, as RecordReader's."""
        self._records.close()
