"""Keeps the catalog up to date in a thread of its own, and answers queries of it in others.

A catalog that can't be brought up to date, because Kafka doesn't answer or its file can't be used, ends nothing: the
pages of what was recorded show what is known, and why it may not be all.
"""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, TypeVar

from confluent_kafka import KafkaException

from archiver.catalog.catalog_file import CatalogError
from archiver.catalog.queries import last_losses
from archiver.catalog.recorded import Loss
from archiver.catalog.update import CatalogUpdater
from archiver.core.formatting import format_time
from g3stream.host.environment import now_ms
from g3stream.host.printable import printable
from g3stream.log.throttle import LogThrottle

log = logging.getLogger(__name__)

T = TypeVar("T")

INTERVAL_S: Final = 2.0
_STALE_MS: Final = 15_000
_QUERIES_AT_ONCE: Final = 4
"""Further requests wait: the disk, and the processors that recording needs, are shared."""
_LONGEST_QUERY_S: Final = 5.0
_STEPS: Final = 100_000
"""Instructions of SQLite's between two looks at the clock: about 2 ms."""


class QueryError(Exception):
    """The catalog can't be read now; the message says why."""


class CatalogFollower:
    """Follows g3.files until it is closed.

    updater: of the catalog, which is this object's from now on. describe: returns why Kafka can't be read.
    on_news: called in the thread when events were read.
    """

    def __init__(
        self, updater: CatalogUpdater, describe: Callable[[KafkaException], str], on_news: Callable[[], None]
    ) -> None:
        self._updater = updater
        self._describe = describe
        self._on_news = on_news
        self._updated_ms: int | None = None
        self._has_read = False  # g3.files, to its end
        self._error: str | None = None
        self._throttle = LogThrottle()
        self._stopping = threading.Event()
        self._places = asyncio.Semaphore(_QUERIES_AT_ONCE)
        self.last_losses: Mapping[str, Loss] = {}
        """The last loss of each stream that has any. For any thread."""
        self._thread = threading.Thread(target=self._run, name="catalog", daemon=True)

    def start(self) -> None:
        """Start to follow."""
        self._thread.start()

    def close(self) -> None:
        """Make the thread end, without waiting for it: it may wait for a broker."""
        self._stopping.set()

    def not_current(self) -> str:
        """Return why there may be more than the catalog knows, in words; empty if it is up to date."""
        updated_ms, error = self._updated_ms, self._error
        if updated_ms is None:
            why = error or "that takes seconds"
            return f"What was recorded is read from g3.files for the first time, and may not all be here yet: {why}."
        known = f"This is what was known at {format_time(updated_ms)} UTC"
        if error:
            return f"{known}; there may be more since: {error}."
        if not self._has_read:
            return f"{known}; what was recorded since is being read."
        if now_ms() - updated_ms > _STALE_MS:
            return f"{known}; there may be more since: Kafka doesn't answer."
        return ""

    async def query(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `ask` returns, which is called in a thread. For the event loop. Raises QueryError."""
        async with self._places:
            return await asyncio.to_thread(self._read, ask)

    def _read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `ask` returns. Raises QueryError."""
        try:
            with self._updater.reading() as connection:
                ends_s = time.monotonic() + _LONGEST_QUERY_S
                connection.set_progress_handler(lambda: time.monotonic() > ends_s, _STEPS)
                try:
                    return ask(connection)
                finally:
                    connection.set_progress_handler(None, 0)
        except CatalogError as error:
            raise QueryError(str(error)) from None
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise QueryError(f"the query takes longer than {_LONGEST_QUERY_S:g} s: ask for less") from None
            raise QueryError(f"the catalog can't be read: {error}") from None

    def _run(self) -> None:
        with suppress(CatalogError, sqlite3.Error):
            # What an earlier run left is shown whether Kafka answers or not.
            self._updated_ms = self._updater.updated_ms()
            self._read_losses()
        while not self._stopping.is_set():
            try:
                count = self._updater.update()
                if count or not self._has_read:
                    self._read_losses()
                self._updated_ms, self._error, self._has_read = now_ms(), None, True
                self._throttle.reset()
                if count:
                    self._on_news()
            except KafkaException as error:
                self._failed(self._describe(error))
            except (CatalogError, OSError, sqlite3.Error) as error:
                self._failed(str(error))
            except Exception as error:
                log.exception("the catalog can't be brought up to date; still trying")
                self._error = f"{type(error).__name__}: {error}"
            self._stopping.wait(INTERVAL_S)

    def _read_losses(self) -> None:
        with self._updater.reading() as connection:
            self.last_losses = last_losses(connection)

    def _failed(self, why: str) -> None:
        self._error = printable(why)
        if self._throttle.due(time.monotonic()):
            log.warning("the catalog can't be brought up to date: %s; still trying", self._error)
