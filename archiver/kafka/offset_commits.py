"""Commits that any thread may request, executed by the one thread that uses the consumer.

confluent-kafka's Consumer is for one thread at a time: a second one waits while the first polls, and for ever if that
polls again at once. So `commit` waits here until the polling thread has sent the request, and Kafka has answered it.
"""

import contextlib
import logging
import queue
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from archiver.core.checkpoint import encode_minimal
from g3stream.contract.topics import frames_topic
from g3stream.service.cancellation import CancellationToken
from g3stream.service.timeouts import call_with_timeout

log = logging.getLogger(__name__)

_FENCED = (KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL)
# Not ILLEGAL_GENERATION: that is a rebalance in progress, in which most streams stay ours (cooperative). The commit
# is repeated, and on_revoke or on_lost report the streams that are no longer ours.
_EVICTED = (KafkaError.UNKNOWN_MEMBER_ID,)


class FencedError(Exception):
    """Another archiver with our instance id has joined the group: this one must stop."""


class MemberEvicted(Exception):
    """The group has given our streams away (this process was frozen, say): what is open must be abandoned."""


@dataclass(frozen=True, slots=True)
class OffsetCommit:
    """An offset of a stream, and the checkpoint to commit with it."""

    stream: str
    offset: int
    metadata: str
    cancellation: CancellationToken
    """Set once the recording that it is of has been released."""


_Request = tuple[OffsetCommit, Future[None]]
"""A commit that a thread waits for."""


@dataclass(slots=True)
class _AssignedStream:
    """The commits of a stream that is assigned to us."""

    last_offset: int = -1
    """The last committed one. Nothing is committed below it: whatever the reason, all that was recorded since would
    be recorded again."""
    topic_recreated: bool = False
    """Whether the topic has been created again: its first commit below the last one is of the new topic. Until that
    is made, commits of the old topic may still be in flight."""


class OffsetCommits:
    """Executes commits; `commit` and `commit_each` are for any thread but the polling one, all else for that only."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._in_flight: list[_Request] = []
        self._ignored_responses = 0  # answers that are still to arrive, but that nobody waits for any more
        self._closed = threading.Event()
        self._minimal_metadata = False  # whether Kafka has refused the metadata of a commit as too large
        self.fenced_by_own_commit = False
        """Whether a commit was in flight when our streams were taken away.

        If Kafka gets it after we have joined again, it assumes that another member has our instance id: it fences us.
        """
        self.unanswered = False
        """Whether a synchronous commit got no answer in time; its thread still uses the consumer."""
        self._assigned: dict[str, _AssignedStream] = {}
        """The streams that are assigned to us.

        Kafka would accept a commit for another member's stream, too; and it answers a commit between the loss of our
        streams and the next join as if another member had our instance id.
        """

    def commit(self, commit: OffsetCommit) -> None:
        """Commit this. Raises FencedError, MemberEvicted, KafkaException (try again)."""
        for error in self.commit_each([commit]).values():
            raise error

    def commit_each(self, commits: Sequence[OffsetCommit]) -> Mapping[str, Exception]:
        """Commit these independently of each other; returns what `commit` would raise, by stream."""
        return _wait(self._put(commits))

    def on_assigned(self, stream: str, committed: int | None) -> None:
        """Note that a stream is ours now; committed: its last offset committed by an archiver of the group."""
        self._assigned[stream] = _AssignedStream(-1 if committed is None else committed)

    def is_assigned(self, stream: str) -> bool:
        """Whether a stream is ours."""
        return stream in self._assigned

    def on_offset_reset(self, stream: str, offset: int) -> None:
        """Note that reading continues at the topic's first offset.

        If that isn't above the last commit, the topic has been created again, or the records to rebuild from are
        gone: then a commit may be below the last one, once.
        """
        found = self._assigned[stream]
        if found.last_offset < 0 or offset <= found.last_offset:  # the first commit may not be answered yet
            found.topic_recreated = True

    def on_revoked(self, streams: Iterable[str], *, lost: bool = False) -> None:
        """Note that these streams are no longer ours; lost: they already belong to another member."""
        for stream in streams:
            self._assigned.pop(stream, None)
        self.fenced_by_own_commit = self.fenced_by_own_commit or (lost and bool(self._in_flight))

    def send_pending(self, consumer: Consumer) -> None:
        """Send the requests, one batch at a time, so that a stream's commits stay in order."""
        if self._in_flight or not (requests := self._take_requests()):
            return
        self._in_flight = requests
        try:
            consumer.commit(offsets=self._offsets(commit for commit, _ in requests), asynchronous=True)
        except KafkaException as error:
            self._complete_in_flight(error.args[0], ())

    def on_commit_response(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """Handle Kafka's answer; the consumer's `on_commit`."""
        if self._ignored_responses:
            self._ignored_responses -= 1
        else:
            self._complete_in_flight(error, partitions)

    def commit_sync(
        self,
        consumer: Consumer,
        commits: Sequence[OffsetCommit],
        unavailable: KafkaException | None,
        seconds: float | None,
    ) -> Mapping[str, Exception]:
        """Commit these, and what other threads have requested, while `send_pending` and polling are not possible.

        Returns as `commit_each` does. unavailable: the error of all, if Kafka can't be reached. seconds: how long to
        wait for the answer; None: as long as librdkafka does, for ever with a broker that no longer answers.
        """
        ours = self._put(commits)
        requests, self._in_flight = self._in_flight, []
        if requests:
            self._ignored_responses += 1
            _fail(requests, KafkaException(KafkaError(KafkaError._WAIT_COORD)))  # the caller repeats them
        if requests := self._take_requests():
            if unavailable:
                _fail(requests, unavailable)
            else:
                _resolve(requests, self._commit_now(consumer, [commit for commit, _ in requests], seconds))
        return _wait(ours)

    def _commit_now(
        self, consumer: Consumer, commits: Sequence[OffsetCommit], seconds: float | None
    ) -> Mapping[str, Exception]:
        """Commit these, and wait for the answer; return what `commit` would raise, by stream."""
        commit = partial(consumer.commit, offsets=self._offsets(commits), asynchronous=False)
        try:
            done: list[TopicPartition] | None = call_with_timeout(seconds, "committing", commit)
        except KafkaException as error:
            return self._errors_of(commits, error.args[0], ())
        except TimeoutError:
            self.unanswered = True
            return self._errors_of(commits, KafkaError(KafkaError._TIMED_OUT, "no answer to a commit"), ())
        return self._errors_of(commits, None, done or ())

    def _errors_of(
        self, commits: Iterable[OffsetCommit], error: KafkaError | None, partitions: Iterable[TopicPartition]
    ) -> Mapping[str, Exception]:
        """Note Kafka's answer to these; return those that failed, with what `commit` raises, by stream.

        error: of all of them; partitions: with errors of some.
        """
        failed = {p.topic: p.error for p in partitions if p.error}
        errors: dict[str, Exception] = {}
        for commit in commits:
            its = failed.get(frames_topic(commit.stream), error)
            if its is not None:
                self._note_metadata_limit(its)
                errors[commit.stream] = classify_error(its)
            elif found := self._assigned.get(commit.stream):
                if commit.offset < found.last_offset:
                    found.topic_recreated = False
                found.last_offset = commit.offset
        return errors

    def _note_metadata_limit(self, error: KafkaError) -> None:
        if error.code() == KafkaError.OFFSET_METADATA_TOO_LARGE and not self._minimal_metadata:
            self._minimal_metadata = True
            log.warning(
                "Kafka accepts less metadata with a commit than usual: set the brokers' offset.metadata.max.bytes to "
                "4096 or more (the default); until this archiver is started again it commits as little as it can"
            )

    def _offsets(self, commits: Iterable[OffsetCommit]) -> list[TopicPartition]:
        def metadata(commit: OffsetCommit) -> str:
            return encode_minimal(commit.metadata, commit.stream) if self._minimal_metadata else commit.metadata

        return [TopicPartition(frames_topic(it.stream), 0, it.offset, metadata(it)) for it in commits]

    def shut_down(self) -> None:
        """End all waiting: no request will be executed any more. For any thread."""
        self._closed.set()
        requests, self._in_flight = self._in_flight, []
        stops = KafkaException(KafkaError(KafkaError._DESTROY, "the archiver stops"))
        _fail(requests + self._take_requests(), stops)

    def _complete_in_flight(self, error: KafkaError | None, partitions: Iterable[TopicPartition]) -> None:
        """Answer the requests in flight; arguments: as `_errors_of`."""
        requests, self._in_flight = self._in_flight, []
        _resolve(requests, self._errors_of([commit for commit, _ in requests], error, partitions))

    def _rejection(self, commit: OffsetCommit) -> KafkaException | None:
        """Why this must not be committed; None if it may."""
        found = self._assigned.get(commit.stream)
        if found is None or found.topic_recreated or commit.offset >= found.last_offset:
            return None
        why = f"offset {commit.offset} lies below {found.last_offset}, which was committed before"
        log.error("%s: not committed: %s; nothing is lost, still trying", commit.stream, why)
        return KafkaException(KafkaError(KafkaError._INVALID_ARG, why))

    def _put(self, commits: Iterable[OffsetCommit]) -> list[_Request]:
        """Request these from the thread that polls."""
        requests: list[_Request] = [(commit, Future()) for commit in commits]
        for request in requests:
            self._requests.put(request)
        if self._closed.is_set():
            self.shut_down()
        return requests

    def _take_requests(self) -> list[_Request]:
        found: list[_Request] = []
        with contextlib.suppress(queue.Empty):
            while True:
                request = self._requests.get_nowait()
                commit, _ = request
                # The stream may be ours again, and its new recording ahead of the one that was released.
                if commit.stream not in self._assigned or commit.cancellation.is_set():
                    given_away = KafkaError(KafkaError.ILLEGAL_GENERATION, "a stream has been given away meanwhile")
                    _fail([request], KafkaException(given_away))
                elif rejection := self._rejection(commit):
                    _fail([request], rejection)
                else:
                    found.append(request)
        return found


def classify_error(error: KafkaError) -> Exception:
    """Convert an error of Kafka to a FencedError, a MemberEvicted, else a KafkaException."""
    # By code: `.fatal()` is False on these (design).
    if error.code() in _FENCED:
        return FencedError(error.str())
    if error.code() in _EVICTED:
        return MemberEvicted(error.str())
    return KafkaException(error)


def _wait(requests: Iterable[_Request]) -> Mapping[str, Exception]:
    """Wait until these are answered; return the errors of those that failed, by stream."""
    found = {commit.stream: done.exception() for commit, done in requests}
    return {stream: error for stream, error in found.items() if isinstance(error, Exception)}


def _resolve(requests: Iterable[_Request], errors: Mapping[str, Exception]) -> None:
    """Answer these; errors: of those that failed, by stream."""
    for commit, done in requests:
        if error := errors.get(commit.stream):
            done.set_exception(error)
        else:
            done.set_result(None)


def _fail(requests: Iterable[_Request], error: Exception) -> None:
    for _, done in requests:
        done.set_exception(error)
