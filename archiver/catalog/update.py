"""Brings the catalog of an archive up to date from g3.files.

Several may do so at once, also on several hosts: each writes a transaction only if the catalog is where it began to
read; otherwise it continues at the position of the other writer. So no lock of our own is needed, a killed writer
leaves whole transactions, and the next one continues after the last of them. A catalog that is made again is made in
memory, and replaces the other's content in one transaction: readers never see a part of it.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple, Self

from confluent_kafka import Consumer, KafkaException, Message

from archiver.catalog.catalog_file import (
    CatalogError,
    Unfilled,
    fill,
    in_memory,
    is_damaged,
    is_not_writable,
    open_to_read,
    open_to_write,
    replace_damaged,
    transaction,
)
from archiver.catalog.rows import Changes
from archiver.catalog.write import apply
from archiver.core.events import key_prefixes
from archiver.kafka.saved_position import NoPosition, SavedPosition, resume_offset
from archiver.kafka.topic_reader import TopicReader
from g3stream.contract.topics import FILES_TOPIC
from g3stream.host.environment import now_ms

_TRANSACTION = 10_000
"""Records of g3.files: half a second of work, and 10 MB."""
_UNCHANGED_MS = 60_000
"""How often it is written down that the catalog is up to date although nothing has changed."""


class Overtaken(Exception):
    """Another writer has written what was read, or more."""


class _TopicRecreated(Exception):
    """The catalog is of another g3.files than there is now."""


class _Position(NamedTuple):
    """How far g3.files was read."""

    next_offset: int
    last: SavedPosition | None
    """The last record that was read; None before the first."""
    updated_ms: int


class CatalogUpdater:
    """The catalog of a reader's archive, which `update` brings up to date; a context manager.

    `update` is for one thread, `reading` for any.

    path: of its file; None for one in memory. If the file can't be written, a copy of it in memory is brought up to
    date. notice: called with a sentence if it is made again. progress: called with the number of records that were
    read, of how many, and their bytes.
    """

    def __init__(
        self,
        reader: TopicReader,
        path: Path | None,
        notice: Callable[[str], None] = lambda _: None,
        progress: Callable[[int, int, int], None] = lambda *_: None,
    ) -> None:
        self.not_writable: str | None = None
        """Why the file can't be written, if it can't."""
        self._reader = reader
        self._path = path
        self._notice = notice
        self._progress = progress
        self._memory = in_memory(reader.group) if path is None else None
        self._memory_lock = threading.Lock()  # held while it is written, or queried
        self._consumer: Consumer | None = None
        self._is_damaged = False
        self._verified: SavedPosition | None = None  # known to be in the topic
        self._resources = ExitStack()

    def update(self, *, rebuild: bool = False) -> int:
        """Bring it up to date; return how many records of g3.files were read. Cheap if there is nothing new.

        rebuild: make it again. Raises KafkaException; CatalogError if the file is not of this archive; sqlite3.Error.
        """
        if self._memory is None:
            try:
                return self._update_file(rebuild=rebuild)
            except (sqlite3.Error, OSError) as error:
                if isinstance(error, sqlite3.Error) and not is_not_writable(error):
                    raise
                self.not_writable = str(error)
                self._memory = self._memory or self._copied()
        return self._update_memory(self._memory)

    def updated_ms(self) -> int | None:
        """When it was last up to date, or up to a minute before; None if it never was, or can't be read."""
        with suppress(sqlite3.Error, CatalogError), self.reading() as connection:
            found: int | None = connection.execute("SELECT updated_ms FROM meta").fetchone()[0]
            return found
        return None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Context of a connection to query, for any thread. Raises CatalogError, sqlite3.Error.

        If a query in it finds the file damaged, the next `update` makes it again.
        """
        if self._memory is not None:
            with self._memory_lock:
                yield self._memory
            return
        assert self._path
        try:
            with closing(open_to_read(self._path, self._reader.group)) as connection:
                yield connection
        except sqlite3.Error as error:
            self._is_damaged = self._is_damaged or is_damaged(error)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()
        if self._memory is not None:
            self._memory.close()

    def _update_file(self, *, rebuild: bool) -> int:
        assert self._path
        connection, unfilled = open_to_write(self._path, self._reader.group)
        with closing(connection):
            if unfilled is None and not rebuild and not self._is_damaged:
                try:
                    return self._update(connection)
                except _TopicRecreated:
                    unfilled = Unfilled.TOPIC_RECREATED
                except sqlite3.DatabaseError as error:
                    if not is_damaged(error):
                        raise
                    self._is_damaged = True
            if not self._is_damaged:
                return self._fill(connection, unfilled)
        with closing(replace_damaged(self._path)) as replaced:
            return self._fill(replaced, Unfilled.DAMAGED)

    def _fill(self, connection: sqlite3.Connection, unfilled: Unfilled | None) -> int:
        """Make the file again, or for the first time; return the number of records read."""
        if unfilled not in (None, Unfilled.MISSING):
            self._say_again(unfilled)
        made, count = self._made()
        try:
            fill(connection, made)
        except sqlite3.Error as error:
            if not is_not_writable(error):
                made.close()
                raise
            self._memory, self.not_writable = made, str(error)
        else:
            made.close()
            self._is_damaged = False
        return count

    def _made(self) -> tuple[sqlite3.Connection, int]:
        """Return a catalog in memory, made from all events, and the number of records read."""
        made = in_memory(self._reader.group)
        try:
            return made, self._update(made)
        except BaseException:
            made.close()
            raise

    def _update_memory(self, memory: sqlite3.Connection) -> int:
        try:
            return self._update(memory)
        except _TopicRecreated:
            self._say_again(Unfilled.TOPIC_RECREATED)
            made, count = self._made()
            with self._memory_lock:
                memory.close()
                self._memory = made
            return count

    def _copied(self) -> sqlite3.Connection:
        """Return a copy of the file in memory; an empty catalog if it can't be read either."""
        assert self._path
        group = self._reader.group
        with suppress(sqlite3.Error, CatalogError, OSError), closing(open_to_read(self._path, group)) as found:
            return in_memory(group, found)
        return in_memory(group)

    def _say_again(self, why: Unfilled) -> None:
        self._notice(f"the catalog {self._path or 'in memory'} is made again from {FILES_TOPIC}: {why.value}")

    def _update(self, connection: sqlite3.Connection) -> int:
        consumer = self._connected()
        count = 0
        while True:
            try:
                return count + self._read_on(connection, consumer)
            except Overtaken:
                continue
            except (KafkaException, _TopicRecreated):
                with suppress(KafkaException):
                    consumer.unassign()  # an unfinished read must not continue
                    consumer.poll(0)  # calls `error_cb` with the cause
                raise

    def _connected(self) -> Consumer:
        """Return the consumer, which is kept: to connect takes 50 ms, and most updates find nothing new."""
        if self._consumer is None:
            self._consumer = self._resources.enter_context(self._reader.consumer())
        return self._consumer

    def _read_on(self, connection: sqlite3.Connection, consumer: Consumer) -> int:
        """Read from the catalog's position to the end of g3.files.

        Raises Overtaken, _TopicRecreated; as `update`.
        """
        # In this order: another writer may advance the position meanwhile, but to an earlier end than this one.
        at = _position(connection)
        first, end = self._reader.existing_offset_range(consumer, FILES_TOPIC)
        if at.last and at.last == self._verified and at.next_offset == end:
            self._touch(connection, at)
            return 0
        # The last record is read again, to find out whether it is still the same.
        start = max(first, at.last.offset if at.last else 0)
        batches = self._reader.read_ranges(consumer, {(FILES_TOPIC, 0): (start, end)}, may_be_deleted=True)
        batch = next(batches, [])
        there = SavedPosition.of(batch[0]) if batch and at.last and batch[0].offset() == at.last.offset else None
        if resume_offset(None, at.last, there, end) is NoPosition.TOPIC_RECREATED:
            raise _TopicRecreated
        return self._write_all(connection, at, batch[1:] if there else batch, batches, end)

    def _write_all(
        self,
        connection: sqlite3.Connection,
        at: _Position,
        batch: list[Message],
        batches: Iterator[list[Message]],
        end: int,
    ) -> int:
        """Write the events of batches in transactions; return the number of records. Raises Overtaken."""
        prefixes = key_prefixes(self._reader.group)
        changes, waiting, count, size = Changes(), 0, 0, 0
        total = end - at.next_offset
        while True:
            for message in batch:
                if (message.key() or b"").startswith(prefixes):
                    changes.add(message.offset() or 0, message.value() or b"")
            if batch:
                at = at._replace(last=SavedPosition.of(batch[-1]))
                waiting += len(batch)
                size += sum(map(len, batch))
            last_batch = not (batch := next(batches, []))
            if waiting >= _TRANSACTION or last_batch:
                reached = end if last_batch or at.last is None else at.last.offset + 1
                at = self._write(connection, at, changes, reached)
                count, waiting, changes = count + waiting, 0, Changes()
                self._progress(count, total, size)
            if last_batch:
                self._verified = at.last
                return count

    def _write(self, connection: sqlite3.Connection, at: _Position, changes: Changes, reached: int) -> _Position:
        """Write what changed from at.next_offset to before `reached`; return the new position. Raises Overtaken."""
        now = now_ms()
        with self._lock_of(connection), transaction(connection):
            if _position(connection).next_offset != at.next_offset:
                raise Overtaken
            apply(connection, changes)
            last = (at.last.offset, at.last.time_ms, at.last.key) if at.last else (None, None, None)
            connection.execute(
                "UPDATE meta SET next_offset = ?, event_offset = ?, event_time_ms = ?, event_key = ?, updated_ms = ?",
                (reached, *last, now),
            )
        return at._replace(next_offset=reached, updated_ms=now)

    def _lock_of(self, connection: sqlite3.Connection) -> AbstractContextManager[object]:
        """Return what keeps readers out while a catalog is written: of a file SQLite does that."""
        return self._memory_lock if connection is self._memory else nullcontext()

    def _touch(self, connection: sqlite3.Connection, at: _Position) -> None:
        """Write down, now and then, that it is up to date."""
        now = now_ms()
        if abs(now - at.updated_ms) >= _UNCHANGED_MS:
            with self._lock_of(connection), transaction(connection):
                connection.execute("UPDATE meta SET updated_ms = ?", (now,))


def _position(connection: sqlite3.Connection) -> _Position:
    columns = "next_offset, event_offset, event_time_ms, event_key, updated_ms"
    next_offset, offset, time_ms, key, updated_ms = connection.execute(f"SELECT {columns} FROM meta").fetchone()
    return _Position(next_offset, None if offset is None else SavedPosition(offset, time_ms, key), updated_ms or 0)
