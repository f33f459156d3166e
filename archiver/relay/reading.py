"""Reads the stream's records, through outages of Kafka too: for all clients at once, or for one with --since."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import g3stream
from archiver.relay.frames import ALIVE, Frame
from archiver.relay.live_feed import LiveFeed
from archiver.relay.metrics import ReadingStatus
from g3stream.contract.headers import ALIVE as IS_ALIVE
from g3stream.contract.headers import Kind
from g3stream.host.environment import now_ms
from g3stream.host.printable import printable
from g3stream.log.throttle import LogThrottle

log = logging.getLogger(__name__)

_RETRY_S: Final = 2.0
_FRAMES: Final = frozenset({Kind.FRAME, Kind.START, Kind.END})


class ReadingReport:
    """What is known of the reading of one stream, by any number of threads; logs what an operator should know."""

    def __init__(self) -> None:
        self.status = ReadingStatus()
        """What is known now."""
        self._lock = threading.Lock()
        self._throttle = LogThrottle()
        self._losses = LogThrottle()

    def fail(self, why: str) -> None:
        """Note that the stream can't be read."""
        with self._lock:
            self.status = replace(self.status, error=printable(why))
            is_due = self._throttle.due(time.monotonic())
        if is_due:
            log.warning("the stream can't be read: %s; still trying", why)

    def succeed(self) -> None:
        """Note that the stream can be read."""
        with self._lock:
            self.status = replace(self.status, error=None)
            was_logged = self._throttle.reset()
        if was_logged:
            log.info("the stream can be read again")

    def read(self, record: g3stream.Record) -> None:
        """Note that a record with a frame was read."""
        lag_ms = max(0, now_ms() - record.time_ms)
        with self._lock:
            self.status = replace(self.status, last_frame_ms=record.time_ms, lag_ms=lag_ms)

    def lose(self, loss: g3stream.Loss) -> None:
        """Note that records are missing."""
        with self._lock:
            self.status = replace(self.status, lost_records=self.status.lost_records + (loss.records or 0))
            is_due = self._losses.due(time.monotonic())
        if is_due:
            log.warning("records of the stream are missing, or may be, for all clients: %s", loss.what)


class StreamReading:
    """Reads a stream from `since` on, until it is closed.

    since: as g3stream.records takes it. settings: its further arguments.
    """

    def __init__(
        self, stream: str, since: g3stream.Since, settings: Mapping[str, Any], report: ReadingReport
    ) -> None:
        self._stream = stream
        self._since = since
        self._settings = settings
        self._report = report
        self._stopping = threading.Event()
        self._records: g3stream.RecordReader | None = None

    @property
    def problem(self) -> str | None:
        """Why Kafka doesn't answer at present; None if it does. For any thread."""
        records = self._records
        return records.problem if records else None

    def records(self) -> Iterator[g3stream.Record]:
        """Yield the records, facts about the connection too, without an end; for one thread."""
        while not self._stopping.is_set():
            try:
                yield from self._read()
            except (g3stream.NoSuchStreamError, g3stream.PositionError) as error:
                self._since = None  # if the topic is created again, it is read from its first record
                self._report.fail(str(error))
            except g3stream.G3StreamError as error:
                self._report.fail(str(error))
            self._stopping.wait(_RETRY_S)

    def close(self) -> None:
        """End `records`; it takes 0.5 s. For any thread."""
        self._stopping.set()
        if records := self._records:
            records.close()

    def _read(self) -> Iterator[g3stream.Record]:
        with g3stream.records(
            self._stream, since=self._since, follow=True, facts=True, losses=True, **self._settings
        ) as records:
            self._records = records
            if self._stopping.is_set():  # `close` may not have seen them
                return
            try:
                self._report.succeed()
                for item in records:
                    if isinstance(item, g3stream.Loss):
                        self._report.lose(item)
                        continue
                    if item.headers.kind in _FRAMES:
                        self._report.read(item)
                    yield item
                    if self._stopping.is_set():
                        break
            finally:
                self._since = records.position


class LiveReader:
    """Reads for all clients at once, in a thread."""

    def __init__(self, reading: StreamReading, feed: LiveFeed) -> None:
        self._reading = reading
        self._feed = feed
        self._thread = threading.Thread(target=self._run, name="reading", daemon=True)

    def start(self) -> None:
        """Start to read."""
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Stop; wait no longer than that for the thread."""
        self._reading.close()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        with suppress(RuntimeError):  # the server's loop is closed: this thread was not waited for
            for record in self._reading.records():
                kind = record.headers.kind
                if kind is Kind.LOST:
                    self._feed.publish_lost()
                elif frame := frame_of(record):
                    self._feed.publish(frame, is_resent=frame is not ALIVE)


def frame_of(record: g3stream.Record) -> Frame | None:
    """Return the frame that a client is sent for a record; None if none is.

    Where the sender has sent ALIVE, which is not in the topic, that is made again: a reader with a timeout, such as a
    second site's ingest, relies on it.
    """
    if record.headers.kind in _FRAMES:
        return Frame(record.headers.type or 0, record.value)
    is_alive = record.headers.kind is Kind.QUIET and record.headers.why == IS_ALIVE
    return ALIVE if is_alive else None
