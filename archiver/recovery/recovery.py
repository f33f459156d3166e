"""Taking a stream up: all that must be done, on other threads, before the first of its records can be recorded.

Nearly always that takes some milliseconds: open the partial, read the carry. But a frozen archiver's partial is
copied, a damaged one removed or salvaged, g3.files looked through: minutes, with gigabytes. No other stream waits.
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
"""Of each kind. Most of them wait for a disk or for Kafka, and none may wait long for those that copy gigabytes."""
_LOG_AFTER_SECONDS = 5.0

T = TypeVar("T")
_Method = Callable[[CancellationToken], ResumePoint]


@dataclass(frozen=True, slots=True)
class Recovered:
    """From where to go on, and the frames that the files to come begin with."""

    resume_point: ResumePoint
    carry: Carry


class RecoveryPool:
    """The threads. What they do for one stream they do in turn: it may be let go of and assigned again at once, and
    two of them with the same partials would take these out of each other's hands. Those of which nothing is committed
    have threads of their own: they wait for g3.files, which may be away while all else is well."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "taking-up")
        self._stateless = ThreadPoolExecutor(_THREADS, "taking-up-without-state")
        self._last_done: dict[str, threading.Event] = {}  # of the last one of each stream

    def submit(self, stream: str, act: Callable[[], T], *, stateless: bool) -> Future[T]:
        """Do this; for the loop's thread. stateless: nothing is committed of the stream."""
        before, done = self._last_done.get(stream), threading.Event()
        self._last_done[stream] = done

        def act_in_turn() -> T:
            try:
                if before:
                    before.wait()  # it runs, or will, as it was submitted before
                return act()
            finally:
                done.set()

        return (self._stateless if stateless else self._pool).submit(act_in_turn)

    def shutdown(self) -> None:
        """Return when all of them have ended, after what they do was abandoned."""
        self._pool.shutdown()
        self._stateless.shutdown()


class StreamRecovery:
    """One recording's taking up of its stream: at its beginning, and again if its file turns out to be spoilt.

    For the loop's thread. cancellation: that of the recording. Holds the stream's claim until it is abandoned.
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
        """Whether the stream is taken up."""
        return self._started_s is None

    @property
    def seconds(self) -> float | None:
        """How long it has been taking; None if it is over. For any thread."""
        since = self._started_s
        return None if since is None else time.monotonic() - since

    @property
    def is_idle(self) -> bool:
        """Whether no thread does anything for it now."""
        return self._attempt is None or self._attempt.done()

    def poll(self, *, again: bool) -> Recovered | None:
        """What it has come to, once; None if it isn't there yet.

        again: try again if it has failed. Raises CheckpointError, OSError, KafkaException: why it failed.
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
        """Take it up again, when `poll` is asked for it: from what is committed. old_file: the open file."""
        self._stateless = not committed.metadata
        self._reset(partial(find_resume_point, self._archive, self._consumer, committed), old_file)

    def rebuild(self, of: Checkpoint, offset: int, why: str, old_file: SegmentFile | None) -> None:
        """Take it up again, without that checkpoint's open file, which is damaged; as resume.rebuild."""

        def way(cancellation: CancellationToken) -> ResumePoint:
            return rebuild_file(self._archive, self._consumer, of, offset, why, cancellation)

        self._stateless = False
        self._reset(way, old_file)
        self._start_attempt()

    def release(self, old_file: SegmentFile | None) -> None:
        """Let go of all that there is, or still comes; `cancellation` is set. old_file: the open file, if its disk
        may hang: closing it waits for that, on another thread."""
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
        self._cancellation.raise_if_cancelled(f"taking up {self._stream}")
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
        """After the last attempt, whose outcome nobody has taken over."""
        if last and not last.exception():
            self._discard(last.result().resume_point)
        self._close_old_file()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def _discard(self, resume_point: ResumePoint) -> None:
        """Close its file; and remove it, if it is a copy: no commit knows of it."""
        if resume_point.file:
            resume_point.file.file.close()
            committed = resume_point.checkpoint.partial
            if committed and resume_point.file.name != committed.name:
                try:
                    self._archive.discard(self._stream, resume_point.file.name)
                except OSError as error:  # then it is removed when the stream is taken up the next time
                    log.warning("%s: can't remove a copy: %s", self._stream, error)

    def _close_old_file(self) -> None:
        old_file, self._old_file = self._old_file, None
        if old_file:
            old_file.close()

    def _log_duration(self) -> None:
        if (seconds := self.seconds) and seconds > _LOG_AFTER_SECONDS:
            log.info("%s: taken up after %.1f s", self._stream, seconds)
