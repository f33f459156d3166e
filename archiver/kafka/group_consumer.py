"""Kafka, as the archiver needs it: which streams are ours, their records, our commits, and what we tell.

A member of a classic consumer group with a static id: after a restart its streams are its own again at once. What
is committed with an offset is the state of the recording at that offset (core/checkpoint.py).
"""

import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from archiver.core.events import Event, FileFinished
from archiver.kafka.assignment import Overtaken, Reading
from archiver.kafka.broker_health import Trouble
from archiver.kafka.event_publisher import Telling
from archiver.kafka.last_file_index import LastFiles
from archiver.kafka.offset_commits import Commit, Commits, FencedError, classified
from archiver.kafka.topic_reader import (
    BATCH_BYTES,
    CONNECTED_CONFIG,
    FETCH_CONFIG,
    MOST_RECORDS,
    History,
    metadata_of,
)
from g3stream.contract.topic_settings import EXPECTED_FILES_TOPIC, expected_frames_topic
from g3stream.contract.topics import FRAMES_TOPIC_PATTERN, frames_topic, stream_of_topic
from g3stream.kafka.authorization import Operation, group_right, topic_right, with_right
from g3stream.kafka.availability import AVAILABILITY_CONFIG, NO_ANSWER_ERRORS
from g3stream.kafka.topic_admin import ADMIN_CONFIG, TopicAdmin
from g3stream.kafka.topic_watch import TopicWatch
from g3stream.service.cancellation import Abandoned
from g3stream.service.timeouts import unless, within

log = logging.getLogger(__name__)

_ASK_SECONDS = 2.0
_ASIDE_SECONDS = 4.0
"""For an answer that only one stream waits for; it is asked for again. A stop may have to wait for it."""
_STOP_SECONDS = 2.0

T = TypeVar("T")

CONSUMER_CONFIG: Mapping[str, str | int | bool] = {
    "group.protocol": "classic",  # KIP-848 took 45 s to come back, or failed for good (design)
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 2_000,
    "enable.auto.commit": False,
    "auto.offset.reset": "error",  # we tell what is lost, then go on from the earliest
    "topic.metadata.refresh.interval.ms": 5_000,  # how soon a new stream is found
    **ADMIN_CONFIG,
    **AVAILABILITY_CONFIG,
    **FETCH_CONFIG,
}


@dataclass(frozen=True, slots=True)
class Committed:
    """What was committed for a stream; offset None: nothing."""

    stream: str
    offset: int | None
    metadata: str


class Streams(Protocol):
    """Who records the streams. Each method is called inside `Feed.batch`."""

    def assigned(self, committed: Sequence[Committed]) -> None:
        """These are ours now, and paused until each is resumed at an offset."""

    def revoked(self, streams: Sequence[str]) -> None:
        """These go to another member: make them durable, commit, let go."""

    def lost(self, streams: Sequence[str]) -> None:
        """These are another member's already: let go of them, commit nothing."""

    def overtaken(self, stream: str, earliest: int) -> None:
        """What was to be read next has been deleted; reading goes on at `earliest`."""


class Feed:
    """One member of the group. streams: those to take, None for all. config: librdkafka's, without ours. told: is
    given each event that Kafka has, in the thread that told it. stopping: ends `join`, and what else waits for Kafka.

    `trouble`: Kafka's. `topics`: what isn't right of those that are used. `reading`: which streams are read.
    `settled`: whether the group has given us our first streams; until then `batch` should not wait long, as what
    comes with them is done when it returns. Raises KafkaException on a setting that librdkafka doesn't take.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        group: str,
        instance_id: str,
        streams: Sequence[str] | None,
        recordings: Streams,
        told: Callable[[Event], None],
        stopping: threading.Event,
    ) -> None:
        self.trouble = Trouble(config["bootstrap.servers"])
        common = {**config, "error_cb": self.trouble.client_error}
        self._recordings = recordings
        self._commits = Commits()
        self.history = History(common, group, _ASIDE_SECONDS)
        self.last_files = LastFiles(self.history)
        self._consumer = Consumer(
            {
                **CONSUMER_CONFIG,
                **common,
                "group.id": group,
                "group.instance.id": instance_id,
                "on_commit": self._commits.answered,
            }
        )
        self.reading = Reading(self._consumer)
        self._admin = TopicAdmin({**CONNECTED_CONFIG, **AVAILABILITY_CONFIG, **common})
        # Not with our `error_cb`: it is for the thread that polls.
        self.topics = TopicWatch({**AVAILABILITY_CONFIG, **config}, needs_check=lambda: self.untold is not None)
        self._telling = Telling(common, told)
        self._pattern = _pattern(streams)
        self._is_back = False
        self._leaving = False
        self.settled = False
        self._overtaken = Overtaken(self.trouble.met)
        self._stopping = stopping

    def join(self) -> None:
        """Wait for Kafka, see to it that g3.files exists, and join the group."""
        while not self._stopping.is_set():
            try:
                unless(self._stopping, "joining", self._create_files_topic)
                break
            except TimeoutError:
                if not self._stopping.is_set():
                    raise
            except KafkaException as error:
                self.trouble.met(error.args[0])
                self._stopping.wait(0.5)
        self.topics.start()
        self._consumer.subscribe([self._pattern], on_assign=self._on_first_assign)

    def batch(self, seconds: float) -> list[Message]:
        """Records that have come, about BATCH_BYTES at most; waits for the first one up to that long.

        Raises FencedError, and what the streams' methods raise.
        """
        if self._is_back:
            self._is_back = False
            self._consumer.unsubscribe()
            self._consumer.subscribe(
                [self._pattern], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
        self._commits.begin(self._consumer)
        self._telling.poll()
        for stream, earliest in self._overtaken.read_on(self._consumer):
            self._commits.reset(stream, earliest)
            self._recordings.overtaken(stream, earliest)
        self.trouble.see_whether_it_is_over(self._admin.client)
        found: list[Message] = []
        size = 0
        message = self._consumer.poll(seconds)
        while message is not None:
            if error := message.error():
                self._record_error(message, error)
            else:
                self.trouble.now = None
                found.append(message)
                size += len(message)
                if size >= BATCH_BYTES or len(found) >= MOST_RECORDS:
                    break
            message = self._consumer.poll(0)
        return found

    def commit(self, commits: Sequence[Commit]) -> None:
        """Commit these; for any thread but the one that calls `batch`. Raises as Commits.commit."""
        self._commits.commit(commits)

    def commit_each(self, commits: Sequence[Commit]) -> Mapping[str, Exception]:
        """Commit these, each whatever becomes of the others; for any thread but the one that calls `batch`."""
        return self._commits.commit_each(commits)

    def commit_now(self, commits: Sequence[Commit]) -> None:
        """Commit these; for the thread that calls `batch`. Raises as Commits.commit, at once if Kafka is away."""
        if commits and (away := self.away):
            raise away
        self._commits.now(self._consumer, commits, self._patience())

    def serve_commits(self) -> None:
        """Carry out what `commit` waits for; for the thread that calls `batch`, while it doesn't."""
        self._commits.serve(self._consumer, self.away, self._patience())

    @property
    def away(self) -> KafkaException | None:
        """Why a commit that waits for its answer would wait for long, if it would."""
        why = self.trouble.now or ("no answer to a commit" if self._commits.stuck else None)
        return KafkaException(KafkaError(KafkaError._TRANSPORT, why)) if why else None

    def refuse(self) -> None:
        """Nobody will call `batch` again, and nobody is to wait any longer, neither in `commit` nor in `tell`."""
        self._commits.refuse()
        self._telling.refuse()

    def tell(self, event: Event) -> None:
        """Publish an event on g3.files; returns once Kafka has it. For any thread. Raises KafkaException."""
        self._telling.tell(event)

    @property
    def untold(self) -> str | None:
        """Why something that is to be told on g3.files can't be; None if all that was is. For any thread."""
        return self._telling.trouble

    def last_file(self, stream: str, abandoned: Abandoned) -> FileFinished | None:
        """The event of a stream's last file, if it has one. For any thread. Raises as LastFiles.of."""
        found = self.last_files.of(stream, abandoned)
        return found if isinstance(found, FileFinished) else None

    def end(self, stream: str) -> int | None:
        """The offset after its last record, as the last answer to a fetch told it; None if none has."""
        _, end = self._consumer.get_watermark_offsets(TopicPartition(frames_topic(stream), 0), cached=True) or (0, -1)
        return end if end >= 0 else None

    @property
    def fenced_itself(self) -> bool:
        """Whether a FencedError may come of a late commit of our own, and joining again helps."""
        return self._commits.late

    def close(self) -> None:
        """Leave; within 2 s if we stop. The group keeps our streams for us until the session has timed out.

        While a commit of ours waits for a Kafka that is away, librdkafka would wait as long as a session lasts. That
        is right if we are to join again: a commit that comes later than the join would fence us.
        """
        self._leaving = True
        self.topics.close()
        self.trouble.close()
        if not self._commits.stuck:
            with suppress(TimeoutError):
                within(self._patience(), "leaving", self._consumer.close)

    def _on_first_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Only what we had before we were away: a static member that comes back is given that without a rebalance,
        and streams that came meanwhile would be nobody's. As a member that is known, we cause one by joining again.
        """
        self._assign_unread(consumer, partitions)
        self._is_back = True

    def _assign_unread(
        self, consumer: Consumer, partitions: list[TopicPartition], offsets: Mapping[str, int] | None = None
    ) -> None:
        """Paused: nothing is read there, whether the topic has that offset or not, until `Reading.resume`."""
        # With an offset, or where nothing is committed an error would come of it, once they aren't ours any more; and
        # one that is a number (see Reading.seek).
        starts = offsets or {}
        consumer.incremental_assign(
            [TopicPartition(p.topic, p.partition, starts.get(p.topic, 0)) for p in partitions]
        )
        consumer.pause(partitions)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._leaving or self._stopping.is_set():  # a consumer that leaves is given no answer to what it asks
            self._assign_unread(consumer, partitions)
            return
        # However many partitions a topic has: a stream is in this one, and others are paused for good.
        ours = [p for p in partitions if p.partition == 0]
        committed = [
            Committed(stream_of_topic(p.topic), None if p.offset == OFFSET_INVALID else p.offset, metadata_of(p))
            for p in self._committed(consumer, ours)
        ]
        self._assign_unread(consumer, partitions, {frames_topic(c.stream): c.offset or 0 for c in committed})
        for found in committed:
            self._commits.assigned(found.stream, found.offset if found.metadata else None)
            self.topics.add(expected_frames_topic(found.stream))
        self._recordings.assigned(committed)
        self.settled = True

    def _committed(self, consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
        if not partitions:
            return []

        def ask() -> list[TopicPartition]:
            found: list[TopicPartition] = consumer.committed(partitions, timeout=_ASK_SECONDS)
            for partition in found:
                if partition.error:
                    raise KafkaException(partition.error)
            return found

        return self._persist(ask)

    def _persist(self, ask: Callable[[], T]) -> T:
        """Ask Kafka until it answers: in a callback of `poll` there is nothing else that can be done."""
        while True:
            try:
                return ask()
            except KafkaException as error:
                final = classified(error.args[0])
                if not isinstance(final, KafkaException):
                    raise final from None
                self.trouble.met(error.args[0])
                if self._stopping.wait(0.2):
                    raise

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        ours = self._ours(partitions)
        self._recordings.revoked(ours)
        self._commits.ours.difference_update(ours)
        self._let_go(ours)

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        ours = self._ours(partitions)
        self._commits.lost(ours)
        self._let_go(ours)
        self._recordings.lost(ours)

    def _let_go(self, streams: Sequence[str]) -> None:
        self._overtaken.let_go(streams)
        self.reading.let_go(streams)
        for stream in streams:
            self.topics.remove(frames_topic(stream))

    def _ours(self, partitions: list[TopicPartition]) -> list[str]:
        return [stream_of_topic(p.topic) for p in partitions if p.partition == 0]

    def _record_error(self, message: Message, error: KafkaError) -> None:
        final = classified(error)
        if isinstance(final, FencedError):
            raise final
        topic = message.topic()
        if error.code() == KafkaError._AUTO_OFFSET_RESET and topic and message.partition() == 0:
            if (stream := stream_of_topic(topic)) in self._commits.ours:  # isn't, after _on_first_assign
                self._overtaken.add(stream)
        elif error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:  # no stream exists yet
            # That we didn't poll for long is over by now: only we know it, and no record may come for a night.
            over = error.code() in (*NO_ANSWER_ERRORS, KafkaError._MAX_POLL_EXCEEDED)
            read = (topic_right(Operation.READ, topic or ""), group_right(Operation.READ, self.history.group))
            self.trouble.met(with_right(error, *read), over_with_an_answer=over)

    def _create_files_topic(self) -> None:
        created, found = self._admin.ensure(EXPECTED_FILES_TOPIC)
        if created:
            log.info("created the topic %s", EXPECTED_FILES_TOPIC.name)
        self.topics.update(EXPECTED_FILES_TOPIC, found)

    def _patience(self) -> float | None:
        """s, that a call which can't be interrupted may take; None: however long."""
        return _STOP_SECONDS if self._stopping.is_set() else None


def _pattern(streams: Sequence[str] | None) -> str:
    if streams is None:
        return FRAMES_TOPIC_PATTERN
    # A pattern, so that a stream whose topic doesn't exist yet is waited for without a word.
    return f"^({'|'.join(re.escape(frames_topic(stream)) for stream in streams)})$"
