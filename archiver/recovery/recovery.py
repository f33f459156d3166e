"""Stream recovery: reopen, rebuild or salvage the partial before consuming resumes.

It runs on threads of its own, so that no other stream waits. Nearly always it takes some milliseconds: open the
partial, read the carry. It takes minutes, with gigabytes, when a frozen archiver's partial is copied, a damaged one
removed or salvaged, or g3.files searched.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import Checkpoint
from archiver.kafka.group_consumer import CommittedOffset, GroupConsumer
from archiver.recovery.resume_point import ResumePoint, ResumePointSearch
from archiver.segments.carry import carry_of
from archiver.segments.segment_file import SegmentFile
from g3stream.service.cancellation import CancellationToken

log = logging.getLogger(__name__)

_THREADS = 32
"""In each pool. Most wait for a disk or for Kafka, and none may wait long for those that copy gigabytes."""
_LOG_AFTER_SECONDS = 5.0

T = TypeVar("T")
_Method = Callable[[], ResumePoint]


class RecoveryPool:
    """The threads of recovery.

    Work for one stream runs one after the other: the stream may be revoked and assigned again at once, and two
    threads would remove each other's partials. Streams without a commit have threads of their own: they wait
    for g3.files, which may be unavailable while all else works.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "recovery")
        self._stateless = ThreadPoolExecutor(_THREADS, "recovery-without-state")
        self._last_done: dict[str, threading.Event] = {}  # by stream: set when its latest work is done

    def submit(self, stream: str, act: Callable[[], T], *, stateless: bool = False) -> Future[T]:
        """Run `act` after all that was submitted for this stream. For the loop's thread.

        stateless: nothing is committed of the stream.
        """
        before, done = self._last_done.get(stream), threading.Event()
        self._last_done[stream] = done

        def act_in_turn() -> T:
            try:
                if before:
                    before.wait()  # it runs or will run, as it was submitted before
                return act()
            finally:
                done.set()

        return (self._stateless if stateless else self._pool).submit(act_in_turn)

    def shutdown(self) -> None:
        """Wait for all threads to end; their work was cancelled before."""
        self._pool.shutdown()
        self._stateless.shutdown()


class StreamRecovery:
    """Recovery of one recorder's stream: at the start, and again if its file turns out to be damaged.

    For the loop's thread. Holds the stream's claim until `release`.
    cancellation: the recorder's.
    """

    def __init__(
        self,
        archive: ArchiveRoot,
        consumer: GroupConsumer,
        pool: RecoveryPool,
        committed: CommittedOffset,
        cancellation: CancellationToken,
    ) -> None:
        self._search = ResumePointSearch(archive, consumer, committed.stream, cancellation)
        self._pool = pool
        self._claim: int | None = None  # of the attempt's thread while there is one
        self._old_file: SegmentFile | None = None
        self._method: _Method = partial(self._search.find, committed)
        self._stateless = not committed.metadata
        self._started_s = time.monotonic()
        self._attempt: Future[ResumePoint] | None = None  # until its outcome is taken
        self._start_attempt()

    @property
    def seconds(self) -> float:
        """Time since it began, while the stream isn't recovered. Thread-safe."""
        return time.monotonic() - self._started_s

    @property
    def is_idle(self) -> bool:
        """Whether no thread works for it now."""
        return self._attempt is None or self._attempt.done()

    def poll(self, *, again: bool) -> ResumePoint | None:
        """Return the outcome, once; None while it isn't there yet.

        again: start another attempt if the last one failed.
        Raises the attempt's CheckpointError, OSError or KafkaException.
        """
        if self._attempt is None and again:
            self._start_attempt()
        elif self._attempt and self._attempt.done():
            attempt, self._attempt = self._attempt, None
            found = attempt.result()
            if self.seconds > _LOG_AFTER_SECONDS:
                log.info("%s: recovered after %.1f s", self._search.stream, self.seconds)
            return found
        return None

    def restart(self, committed: CommittedOffset, old_file: SegmentFile | None) -> None:
        """Prepare another recovery from the commit; `poll` starts it. old_file: the open file, to be closed."""
        self._prepare(partial(self._search.find, committed), old_file, stateless=not committed.metadata)

    def rebuild(self, of: Checkpoint, offset: int, why: str, old_file: SegmentFile | None) -> None:
        """Start another recovery, without the checkpoint's open file, which is damaged (resume_point.py)."""
        self._prepare(partial(self._search.rebuild, of, offset, why), old_file, stateless=False)
        self._start_attempt()

    def release(self, old_file: SegmentFile | None) -> None:
        """Release all that there is or that a running attempt still returns; `cancellation` is set before.

        old_file: the open file, if its disk may hang: then it is closed on another thread.
        """
        self._old_file = old_file or self._old_file
        if self._attempt is None and old_file is None:
            self._release(None)
        else:
            act = partial(self._release, self._attempt)
            self._pool.submit(self._search.stream, act, stateless=self._stateless)

    def _prepare(self, method: _Method, old_file: SegmentFile | None, *, stateless: bool) -> None:
        self._method, self._stateless = method, stateless
        self._old_file = old_file or self._old_file
        self._started_s = time.monotonic()

    def _start_attempt(self) -> None:
        act = partial(self._recover, self._method)
        self._attempt = self._pool.submit(self._search.stream, act, stateless=self._stateless)

    def _recover(self, method: _Method) -> ResumePoint:
        archive, stream, topic = self._search.archive, self._search.stream, self._search.consumer.topic_reader
        self._close_old_file()
        self._search.cancellation.raise_if_cancelled(f"recovering {stream}")
        if self._claim is None:
            self._claim = archive.claim(stream, alone=False)
        found = method()
        try:
            carry = carry_of(found.checkpoint, archive.location, lambda at: topic.record_value(stream, at))
        except BaseException:
            self._discard(found)
            raise
        return found._replace(carry=carry)

    def _release(self, attempt: Future[ResumePoint] | None) -> None:
        """Release everything after the last attempt, whose outcome was not used."""
        if attempt and not attempt.exception():
            self._discard(attempt.result())
        self._close_old_file()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def _discard(self, resume_point: ResumePoint) -> None:
        """Close its file, and remove it if it is a copy: no commit names it."""
        file, committed = resume_point.file, resume_point.checkpoint.partial
        if file:
            file.file.close()
            if committed and file.name != committed.name:
                try:
                    self._search.archive.discard(self._search.stream, file.name)
                except OSError as error:  # the next recovery of the stream removes it
                    log.warning("%s: can't remove a copy: %s; its next recovery does", self._search.stream, error)

    def _close_old_file(self) -> None:
        old_file, self._old_file = self._old_file, None
        if old_file:
            old_file.close()
