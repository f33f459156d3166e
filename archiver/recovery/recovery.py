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
from archiver.kafka.group_consumer import Committed, Feed
from archiver.recovery.resume_point import Resumed, rebuild, resume
from archiver.segments.carry import Carry
from archiver.segments.segment_file import SegmentFile
from g3stream.service.cancellation import Abandoned

log = logging.getLogger(__name__)

_THREADS = 32
"""Of each kind. Most of them wait for a disk or for Kafka, and none may wait long for those that copy gigabytes."""
_SAY_SECONDS = 5.0

T = TypeVar("T")
_Way = Callable[[Abandoned], Resumed]


@dataclass(frozen=True, slots=True)
class TakenUp:
    """From where to go on, and the frames that the files to come begin with."""

    resumed: Resumed
    carry: Carry


class Takers:
    """The threads. What they do for one stream they do in turn: it may be let go of and assigned again at once, and
    two of them with the same partials would take these out of each other's hands. Those of which nothing is committed
    have threads of their own: they wait for g3.files, which may be away while all else is well."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "taking-up")
        self._stateless = ThreadPoolExecutor(_THREADS, "taking-up-without-state")
        self._over: dict[str, threading.Event] = {}  # of the last one of each stream

    def submit(self, stream: str, act: Callable[[], T], *, stateless: bool) -> Future[T]:
        """Do this; for the loop's thread. stateless: nothing is committed of the stream."""
        before, over = self._over.get(stream), threading.Event()
        self._over[stream] = over

        def act_in_turn() -> T:
            try:
                if before:
                    before.wait()  # it runs, or will, as it was submitted before
                return act()
            finally:
                over.set()

        return (self._stateless if stateless else self._pool).submit(act_in_turn)

    def shutdown(self) -> None:
        """Return when all of them have ended, after what they do was abandoned."""
        self._pool.shutdown()
        self._stateless.shutdown()


class TakingUp:
    """One recording's taking up of its stream: at its beginning, and again if its file turns out to be spoilt.

    For the loop's thread. abandoned: that of the recording. Holds the stream's claim until it is abandoned.
    """

    def __init__(
        self, archive: ArchiveRoot, feed: Feed, takers: Takers, committed: Committed, abandoned: Abandoned
    ) -> None:
        self._archive = archive
        self._feed = feed
        self._takers = takers
        self._stream = committed.stream
        self._abandoned = abandoned
        self._claim: int | None = None  # of the attempt's thread while there is one
        self._left: SegmentFile | None = None
        self._way: _Way = partial(resume, archive, feed, committed)
        self._stateless = not committed.metadata
        self._since: float | None = time.monotonic()
        self._attempt: Future[TakenUp] | None = None
        self._try()

    @property
    def over(self) -> bool:
        """Whether the stream is taken up."""
        return self._since is None

    @property
    def seconds(self) -> float | None:
        """How long it has been taking; None if it is over. For any thread."""
        since = self._since
        return None if since is None else time.monotonic() - since

    @property
    def at_rest(self) -> bool:
        """Whether no thread does anything for it now."""
        return self._attempt is None or self._attempt.done()

    def result(self, *, again: bool) -> TakenUp | None:
        """What it has come to, once; None if it isn't there yet.

        again: try again if it has failed. Raises CheckpointError, OSError, KafkaException: why it failed.
        """
        if self._attempt is None:
            if again:
                self._try()
            return None
        if not self._attempt.done():
            return None
        try:
            taken = self._attempt.result()
        except BaseException:
            self._attempt = None
            raise
        self._say_how_long()
        self._attempt = self._since = None
        return taken

    def go_back(self, committed: Committed, left: SegmentFile | None) -> None:
        """Take it up again, when `result` is asked for it: from what is committed. left: the open file."""
        self._stateless = not committed.metadata
        self._begin_again(partial(resume, self._archive, self._feed, committed), left)

    def rebuild(self, of: Checkpoint, offset: int, why: str, left: SegmentFile | None) -> None:
        """Take it up again, without that checkpoint's open file, which is damaged; as resume.rebuild."""

        def way(abandoned: Abandoned) -> Resumed:
            return rebuild(self._archive, self._feed, of, offset, why, abandoned)

        self._stateless = False
        self._begin_again(way, left)
        self._try()

    def abandon(self, left: SegmentFile | None) -> None:
        """Let go of all that there is, or still comes; `abandoned` is set. left: the open file, if its disk may hang:
        closing it waits for that, on another thread."""
        attempt, self._attempt = self._attempt, None
        self._left = left or self._left
        if attempt is None and left is None:
            self._let_go()
        else:
            self._takers.submit(self._stream, partial(self._let_go, attempt), stateless=self._stateless)

    def _begin_again(self, way: _Way, left: SegmentFile | None) -> None:
        self._way, self._left = way, left
        self._since = time.monotonic()

    def _try(self) -> None:
        act = partial(self._take_up, self._way)
        self._attempt = self._takers.submit(self._stream, act, stateless=self._stateless)

    def _take_up(self, way: _Way) -> TakenUp:
        self._close_left()
        self._abandoned.check(f"taking up {self._stream}")
        if self._claim is None:
            self._claim = self._archive.claim(self._stream, alone=False)
        resumed = way(self._abandoned)
        try:
            if resumed.offset is None:
                first, _ = self._feed.history.span(self._stream)
                resumed = replace(resumed, offset=first)
            carry = Carry.of(
                resumed.checkpoint, self._archive.location, lambda at: self._feed.history.value(self._stream, at)
            )
        except BaseException:
            self._drop(resumed)
            raise
        return TakenUp(resumed, carry)

    def _let_go(self, last: Future[TakenUp] | None = None) -> None:
        """After the last attempt, whose outcome nobody has taken over."""
        if last and not last.exception():
            self._drop(last.result().resumed)
        self._close_left()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def _drop(self, resumed: Resumed) -> None:
        """Close its file; and remove it, if it is a copy: no commit knows of it."""
        if resumed.file:
            resumed.file.file.close()
            committed = resumed.checkpoint.partial
            if committed and resumed.file.name != committed.name:
                try:
                    self._archive.discard(self._stream, resumed.file.name)
                except OSError as error:  # then it is removed when the stream is taken up the next time
                    log.warning("%s: can't remove a copy: %s", self._stream, error)

    def _close_left(self) -> None:
        left, self._left = self._left, None
        if left:
            left.close()

    def _say_how_long(self) -> None:
        if (seconds := self.seconds) and seconds > _SAY_SECONDS:
            log.info("%s: taken up after %.1f s", self._stream, seconds)
