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
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import Checkpoint
from archiver.kafka.group_consumer import CommittedOffset, GroupConsumer
from archiver.recovery.resume_point import ResumePoint, find_resume_point, rebuild_file
from archiver.segments.carry import Carry
from archiver.segments.segment_file import SegmentFile
from g3stream.service.cancellation import CancellationToken

log = logging.getLogger(__name__)

_THREADS = 32
"""In each pool. Most wait for a disk or for Kafka, and none may wait long for those that copy gigabytes."""
_LOG_AFTER_SECONDS = 5.0

T = TypeVar("T")
_Method = Callable[[CancellationToken], ResumePoint]


@dataclass(frozen=True, slots=True)
class Recovered:
    """The outcome of a recovery."""

    resume_point: ResumePoint
    """Where recording continues."""
    carry: Carry
    """The frames that head the following files."""


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

    def submit(self, stream: str, act: Callable[[], T], *, stateless: bool) -> Future[T]:
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
        self._archive = archive
        self._consumer = consumer
        self._pool = pool
        self._stream = committed.stream
        self._cancellation = cancellation
        self._claim: int | None = None  # of the attempt's thread while there is one
        self._old_file: SegmentFile | None = None
        self._method: _Method = partial(find_resume_point, archive, consumer, committed)
        self._stateless = not committed.metadata
        self._started_s: float | None = time.monotonic()
        self._attempt: Future[Recovered] | None = None
        self._start_attempt()

    @property
    def is_done(self) -> bool:
        """Whether the stream is recovered."""
        return self._started_s is None

    @property
    def seconds(self) -> float | None:
        """Duration so far; None if it is over. Thread-safe."""
        started_s = self._started_s
        return None if started_s is None else time.monotonic() - started_s

    @property
    def is_idle(self) -> bool:
        """Whether no thread works for it now."""
        return self._attempt is None or self._attempt.done()

    def poll(self, *, again: bool) -> Recovered | None:
        """Return the outcome, once; None while it isn't there yet.

        again: start another attempt if the last one failed.
        Raises the attempt's CheckpointError, OSError or KafkaException.
        """
        if self._attempt is None:
            if again:
                self._start_attempt()
            return None
        if not self._attempt.done():
            return None
        try:
            recovered = self._attempt.result()
        except BaseException:
            self._attempt = None
            raise
        self._log_duration()
        self._attempt = self._started_s = None
        return recovered

    def restart(self, committed: CommittedOffset, old_file: SegmentFile | None) -> None:
        """Prepare another recovery from the commit; `poll` starts it. old_file: the open file, to be closed."""
        self._stateless = not committed.metadata
        self._reset(partial(find_resume_point, self._archive, self._consumer, committed), old_file)

    def rebuild(self, of: Checkpoint, offset: int, why: str, old_file: SegmentFile | None) -> None:
        """Start another recovery, without the checkpoint's open file, which is damaged (see rebuild_file)."""

        def method(cancellation: CancellationToken) -> ResumePoint:
            return rebuild_file(self._archive, self._consumer, of, offset, why, cancellation)

        self._stateless = False
        self._reset(method, old_file)
        self._start_attempt()

    def release(self, old_file: SegmentFile | None) -> None:
        """Release all that there is or that a running attempt still returns; `cancellation` is set before.

        old_file: the open file, if its disk may hang: then it is closed on another thread.
        """
        attempt, self._attempt = self._attempt, None
        self._old_file = old_file or self._old_file
        if attempt is None and old_file is None:
            self._release()
        else:
            self._pool.submit(self._stream, partial(self._release, attempt), stateless=self._stateless)

    def _reset(self, method: _Method, old_file: SegmentFile | None) -> None:
        self._method, self._old_file = method, old_file
        self._started_s = time.monotonic()

    def _start_attempt(self) -> None:
        act = partial(self._recover, self._method)
        self._attempt = self._pool.submit(self._stream, act, stateless=self._stateless)

    def _recover(self, method: _Method) -> Recovered:
        self._close_old_file()
        self._cancellation.raise_if_cancelled(f"recovering {self._stream}")
        if self._claim is None:
            self._claim = self._archive.claim(self._stream, alone=False)
        resume_point = method(self._cancellation)
        try:
            if resume_point.offset is None:
                first, _ = self._consumer.topic_reader.offset_range(self._stream)
                resume_point = replace(resume_point, offset=first)
            carry = Carry.from_checkpoint(
                resume_point.checkpoint,
                self._archive.location,
                lambda at: self._consumer.topic_reader.record_value(self._stream, at),
            )
        except BaseException:
            self._discard(resume_point)
            raise
        return Recovered(resume_point, carry)

    def _release(self, last: Future[Recovered] | None = None) -> None:
        """Release everything after the last attempt, whose outcome was not used."""
        if last and not last.exception():
            self._discard(last.result().resume_point)
        self._close_old_file()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def _discard(self, resume_point: ResumePoint) -> None:
        """Close its file, and remove it if it is a copy: no commit names it."""
        if resume_point.file:
            resume_point.file.file.close()
            committed = resume_point.checkpoint.partial
            if committed and resume_point.file.name != committed.name:
                try:
                    self._archive.discard(self._stream, resume_point.file.name)
                except OSError as error:  # the next recovery of the stream removes it
                    log.warning("%s: can't remove a copy: %s", self._stream, error)

    def _close_old_file(self) -> None:
        old_file, self._old_file = self._old_file, None
        if old_file:
            old_file.close()

    def _log_duration(self) -> None:
        if (seconds := self.seconds) and seconds > _LOG_AFTER_SECONDS:
            log.info("%s: recovered after %.1f s", self._stream, seconds)
