"""What was read from the socket and Kafka has not acknowledged yet, on disk.

Every record goes through here, in order, so reading never waits for Kafka, and a killed ingest loses nothing that it
had received. It lies in files that are only ever appended to, and let go of when Kafka has all of their records: so a
full disk or a damaged file harms nothing but what was to be written, or can't be read. A power cut may take it back
to the last sync, which follows each write by about a second.
"""

import bisect
import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from g3stream.host.activity import Activity
from g3stream.host.fsync import sync_data, sync_directory
from ingest.receive.record_builder import Entry
from ingest.spool.batch import Bundle, bundled, records
from ingest.spool.cache import FRESH_BYTES, Fresh
from ingest.spool.data_file import SpoolFileWriter
from ingest.spool.directory import SpoolError as SpoolError  # whoever uses a spool has its error from here
from ingest.spool.directory import lock_spool
from ingest.spool.group_sync import GroupSync
from ingest.spool.index import (
    Cursor,
    SpoolFile,
    last_record,
    open_files,
    open_state,
    set_aside,
)
from ingest.spool.ledger import SpoolState, boot_id
from ingest.spool.recycler import Spare

log = logging.getLogger(__name__)

STOP_AT, GO_ON_AT = 0.85, 0.75
"""Full, and no longer full, as parts of the size; what was read when it became full is put in on top."""

LEAST_BYTES = 1 << 20

_FILE_BYTES = 16 << 20
"""One is written, one is acknowledged, one is spare: little enough to stay in the processor's cache."""


class Spool:
    """A stream's spool in a directory of its own, about `size` bytes of it at most.

    `prev` is the epoch and the last seq that an earlier ingest put here; `unclean` says that the host has been
    started anew since then without that ingest's clean exit. `bundles` and `bytes` wait; above `limit` bytes on disk
    it is `full`; `stopping` after `stop`; `unreadable` counts the bundles that were given up as damaged. fresh_bytes:
    how much of what was just put in is kept in memory, too. One thread appends, one reads and removes. Raises
    SpoolError.
    """

    def __init__(self, directory: Path, size: int, fresh_bytes: int = FRESH_BYTES) -> None:
        if size < LEAST_BYTES:
            raise SpoolError(f"a spool of {size} bytes is too small; --spool-size must be at least 1MiB")
        self.limit, self._go_on_at = int(STOP_AT * size), int(GO_ON_AT * size)
        self._file_bytes = min(_FILE_BYTES, size // 32)
        self._root, self._directory = directory, directory / "spool"
        self._lock_file = lock_spool(directory)
        self._changed = threading.Condition()
        self._writing = threading.Lock()  # taken before _changed, if both are
        self._starved = self.full = self.stopping = self._closed = False
        self.bytes = self.bundles = self.unreadable = 0
        self.syncing = Activity()  # of whoever makes it durable
        self._used = 0  # of the disk
        self._writer: SpoolFileWriter | None = None  # of the last of the files
        self._unsynced: list[tuple[SpoolFileWriter, SpoolFile]] = []  # no longer written
        self._lengths: dict[int, int] = {}  # of what was read and not removed yet
        self._fresh = Fresh(fresh_bytes)
        with contextlib.ExitStack() as if_it_fails:  # one of many streams tries again and again in the same process
            if_it_fails.callback(os.close, self._lock_file)
            try:
                self._directory.mkdir(exist_ok=True)
                self._state_file, state = open_state(directory, self._directory)
                if_it_fails.callback(self._state_file.close)
                self._files = open_files(self._directory, state)
                self._spare = Spare(self._directory)
                self._open_for_use(state)
            except OSError as error:
                raise SpoolError(f"the spool in {directory} can't be opened: {error}") from error
            self._cursor = Cursor(self._changed)
            self._group_sync = GroupSync(directory, self._sync)
            if_it_fails.pop_all()

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep these. Records above CHUNK_BYTES are split. All of them, or none if it raises SpoolError."""
        if not entries:
            return
        labels = [entry.label for entry in entries if not entry.rejected]
        with self._writing:
            if self._closed:
                # By now its files may be another Spool's, and the numbers of its descriptors other files'.
                raise SpoolError(f"the spool in {self._root} is closed")
            try:
                writer = self._writer_with_room()
                before = writer.size
                count = writer.append(self._next, self._fresh.keeping(bundled(entries)))
                with self._changed:
                    first = self._next
                    self._appended(count, writer, before, (labels[-1].epoch, labels[-1].seq) if labels else None)
                    self._fresh.spooled(first)
            except OSError as error:
                self._starved = True
                with self._changed:
                    self._spare.drop()
                raise SpoolError(f"the spool in {self._root} can't be written: {error}") from error
            self._starved = False
        self._group_sync.due()

    def wait_for_room(self) -> None:
        """Return when there is room for more, or when `stop` was called."""
        with self._changed:
            self._changed.wait_for(lambda: not self.full or self.stopping)

    def wait_for_removal(self, seconds: float) -> None:
        """Return when something was removed, `stop` was called, or that time has passed."""
        with self._changed:
            self._changed.wait(seconds)

    def has_more(self, after: int) -> bool:
        """Whether there is a bundle beyond key `after`."""
        least = self._cursor.least(after)
        with self._changed:
            return self._next > least

    def read(self, after: int, max_bytes: int, *, from_disk: bool = True) -> list[Bundle]:
        """The bundles beyond key `after` (-1: from the first), in order, up to about `max_bytes` of them.

        What can't be read is told, counted, and passed over. from_disk: else only what is in memory still.
        """
        found = []
        while max_bytes > 0:
            with self._changed:
                if fresh := self._fresh.take(after + 1):
                    after += 1
                    self._lengths[after] = fresh.bytes
                    found.append(Bundle(after, fresh.records))
                    max_bytes -= fresh.bytes
                    continue
                if not from_disk:
                    break
                files, end = list(self._files), self._next
            got, damaged = self._cursor.read(files, after, end)
            for file, first, beyond in damaged:
                self._give_up(file, first, beyond)
            if got is None:
                break
            after, value = got
            with self._changed:
                self._fresh.take(after)
            self._lengths[after] = len(value)
            found.append(Bundle(after, list(records(value))))
            max_bytes -= len(value)
        return found

    def remove(self, keys: Iterable[int]) -> None:
        """Forget these bundles: Kafka has them."""
        with self._changed:
            for key in keys:
                at = bisect.bisect_right(self._files, key, key=lambda file: file.name.first) - 1
                if at >= 0 and self._files[at].forget(key, self._next):
                    self.bundles -= 1
                    self.bytes -= self._lengths.pop(key, 0)
            self._removed()
            in_the_way = self._last_is_in_the_way()
        if in_the_way:
            with self._writing, self._changed:
                if self._last_is_in_the_way():
                    self._retire()
                    self._removed()
        self._group_sync.due()

    def stop(self) -> None:
        """Let nobody wait for room any longer."""
        with self._changed:
            self.stopping = True
            self._changed.notify_all()

    def close(self) -> None:
        """Leave it as a clean exit does: all of it on disk. Raises SpoolError."""
        self._group_sync.close()
        try:
            with self._writing, self._changed:
                self._closed = True
                self._retire()
                self._removed()
                self._clean = True
                self._state_file.write(self._state())
            self._sync()
        except OSError as error:
            raise SpoolError(f"the spool in {self._root} can't be closed as it should: {error}") from error
        finally:
            for unsynced, _ in self._unsynced:
                os.close(unsynced.fd)
            self._cursor.close()
            self._state_file.close()
            os.close(self._lock_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- opening

    def _open_for_use(self, state: SpoolState | None) -> None:
        known = state.next if state else 0
        self._next = max([known, *(file.end or 0 for file in self._files)])
        self.prev = state.last if state else None
        if self._next > known:  # killed between a write and its entry in the state
            self.prev = last_record(self._files, known) or self.prev
        self._boot = boot_id()
        lost_track = state is None and bool(self._files)
        self.unclean = lost_track or (
            state is not None and state.last is not None and not state.clean and state.boot != self._boot
        )
        self._clean = False
        self._last = self.prev
        self._used = sum(file.size for file in self._files)
        self.bytes = sum(file.waiting_bytes for file in self._files)
        self.bundles = sum(file.waiting(self._next) for file in self._files)
        self._low = self._next
        with self._changed:
            self._removed()
        # Before anything is appended: so that a start after a power cut can see that there was one.
        self._state_file.write(self._state())
        self._state_file.sync()
        for path in (self._directory, self._root, self._root.parent):
            sync_directory(path)
        self._names_changed = False

    # -- with _writing held

    def _writer_with_room(self) -> SpoolFileWriter:
        if self._writer and self._writer.size >= self._file_bytes:
            with self._changed:
                self._retire()
        if self._writer is None:
            file = SpoolFile.new(self._directory, self._next)
            with self._changed:
                spare = self._spare.become(file.path)
            writer = SpoolFileWriter(self._directory, file.name, spare)
            with self._changed:
                self._writer = writer
                self._files.append(file)
                self._names_changed = True
        return self._writer

    def _appended(self, count: int, writer: SpoolFileWriter, before: int, last: tuple[str, int] | None) -> None:
        known = self._next, self._last
        self._next, self._last = self._next + count, last or self._last
        try:
            self._state_file.write(self._state())
        except OSError:
            self._next, self._last = known
            writer.cut(before)
            raise
        put = writer.size - before
        self._files[-1].size = writer.size
        self._used += put
        self.bytes += put
        self.bundles += count
        self.full = self.full or self._used > self.limit
        self._changed.notify_all()

    def _retire(self) -> None:
        """The last file is written no longer. With _changed held, too."""
        if self._writer is None:
            return
        file = self._files[-1]
        file.end = self._next
        self._writer.cut(self._writer.size)  # what it was before it was spare
        # The name matters only if a later file is lost.
        with contextlib.suppress(OSError):
            file.rename_with_end()
        self._unsynced.append((self._writer, file))
        self._writer = None
        self._names_changed = True

    # -- with _changed held

    def _state(self) -> SpoolState:
        return SpoolState(self._low, self._next, self._clean, self._boot, self._last)

    def _removed(self) -> None:
        """Remove files that nothing waits in, and remember from where on something does."""
        done = [file for file in self._files if file.end is not None and not file.waiting(self._next)]
        self._low = min((file.low for file in self._files if file.waiting(self._next)), default=self._next)
        # If it can't be written, Kafka gets some records again after a restart: no harm, and `append` will tell.
        with contextlib.suppress(OSError):
            self._state_file.write(self._state())
        for file in done:
            self._files.remove(file)
            self._drop(file)
        if not self.bundles:
            self.bytes = 0
        self.full = self.full and self._used > self._go_on_at
        self._changed.notify_all()

    def _drop(self, file: SpoolFile) -> None:
        self._names_changed = file.dropped = True
        self._used -= file.size
        try:
            if file.damaged:
                log.error("a damaged file of the spool is set aside: %s", set_aside(file.path, self._root))
            elif not self._is_worth_keeping(file) or not self._spare.keep(file.path):
                os.truncate(file.path, 0)  # it may be open still, and would keep its room
                file.path.unlink()
        except OSError as error:
            log.error("%s can't be removed: %s", file.path, error)

    def _is_worth_keeping(self, file: SpoolFile) -> bool:
        """Whether to write over it: not where its room is needed, nor if a large frame made it larger than most."""
        return not (self._starved or self.full) and self._file_bytes <= file.size <= 2 * self._file_bytes

    def _last_is_in_the_way(self) -> bool:
        """Whether the last file takes room that is needed, and nothing waits in it."""
        if self._writer is None or self._files[-1].waiting(self._next):
            return False
        size = self._files[-1].size
        return size >= self._file_bytes or (size > 0 and (self.full or self._starved))

    def _give_up(self, file: SpoolFile, first: int, beyond: int) -> None:
        with self._changed:
            count = sum(file.forget(key, self._next) for key in range(first, beyond))
            if not count:
                return  # they had been removed
            file.damaged = True
            self.bundles -= count
            self.unreadable += count
            log.error(
                "%s is damaged: %d bundles of records (%d to %d) can't be read; the others are published",
                file.path,
                count,
                first,
                beyond - 1,
            )
            self._removed()

    # -- syncing

    def _sync(self) -> None:
        """All that was written until now. Raises OSError."""
        with self._changed:
            done = [old for old, file in self._unsynced if file.dropped]
            unsynced = [(old, file) for old, file in self._unsynced if not file.dropped]
            self._unsynced = list(unsynced)
            writer, names = self._writer, self._names_changed
            self._names_changed = False
        for old in done:  # first, however often the sync fails
            os.close(old.fd)
        try:
            with self.syncing.of("a sync of the spool"):
                for old, _ in unsynced:
                    sync_data(old.fd)
                if writer:
                    sync_data(writer.fd)
                if names:
                    sync_directory(self._directory)
                self._state_file.sync()
        except OSError:
            self._names_changed = self._names_changed or names
            raise
        with self._changed:
            del self._unsynced[: len(unsynced)]
        for old, _ in unsynced:
            os.close(old.fd)
